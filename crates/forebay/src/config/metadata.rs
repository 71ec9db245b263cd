//! `metadata` and `health`.

use std::path::{Path, PathBuf};

use forebay_meta::kv::embedded::copies::COPIES_FOLDER;
use forebay_model::{ByteSize, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The metadata store (`meta.db` in the data directory) and its copies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MetadataSection {
    /// How often the write-ahead log is checkpointed into the database file: the most that a lost or
    /// damaged `meta.db-wal` can cost. 1s to 1h.
    pub(crate) checkpoint_interval: HumanDuration,
    /// How often a verified copy is made, if anything changed; each stop makes one more. 1s to 30d.
    pub(crate) copy_interval: HumanDuration,
    /// Verified copies to retain. 0 to 100, 0 disables copies.
    pub(crate) copies: u32,
    /// Directory of the copies, preferably on another disk. Default: `meta-copies` in the data
    /// directory.
    pub(crate) copies_dir: Option<PathBuf>,
    /// Size of a reserve file. It is deleted when the disk is full, so that the server starts and
    /// imports can free space. 0 to 1GB, 0 disables it.
    pub(crate) reserve_size: ByteSize,
}

impl Default for MetadataSection {
    fn default() -> Self {
        Self {
            checkpoint_interval: HumanDuration::mins(1),
            copy_interval: HumanDuration::mins(15),
            copies: 3,
            copies_dir: None,
            reserve_size: ByteSize::mb(16),
        }
    }
}

impl MetadataSection {
    pub(crate) fn copies_folder(&self, data_dir: &Path) -> PathBuf {
        let own = self.copies_dir.clone();
        own.unwrap_or_else(|| data_dir.join(COPIES_FOLDER))
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        let mut ranges = super::ranges::RangeViolations::default();
        ranges.check(
            "checkpointInterval",
            self.checkpoint_interval,
            HumanDuration::secs(1),
            HumanDuration::mins(60),
        );
        ranges.check(
            "copyInterval",
            self.copy_interval,
            HumanDuration::secs(1),
            HumanDuration::mins(30 * 24 * 60),
        );
        ranges.check("copies", self.copies, 0, 100);
        ranges.check(
            "reserveSize",
            self.reserve_size,
            ByteSize::mb(0),
            ByteSize::mb(1 << 10),
        );
        ranges.violations
    }
}

/// Action after a disk failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum OnLatch {
    /// The process continues and is not ready.
    Stay,
    /// The process stops gracefully with exit code 1.
    Exit,
}

/// Health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HealthSection {
    /// Action after a failed write or sync of the log or the metadata store, after which neither is
    /// written until a restart: `stay` (the process continues and is not ready) or `exit` (it stops
    /// gracefully with exit code 1).
    pub(crate) on_latch: OnLatch,
}

impl Default for HealthSection {
    fn default() -> Self {
        Self {
            on_latch: OnLatch::Stay,
        }
    }
}
