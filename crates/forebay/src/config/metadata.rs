//! `metadata` and `health`.

use std::path::{Path, PathBuf};

use forebay_meta::kv::embedded::copies::COPIES_FOLDER;
use forebay_model::{ByteSize, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The metadata store (`meta.db` in the data directory), and the copies that it keeps of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MetadataSection {
    /// How often its write-ahead log is brought into the database file: what a lost or damaged
    /// `meta.db-wal` can cost at most. 1s to 1h.
    pub(crate) checkpoint_interval: HumanDuration,
    /// How often a verified copy is made, if anything has changed; one more is made at each stop.
    /// 1s to 30d.
    pub(crate) copy_interval: HumanDuration,
    /// Verified copies that are kept. 0 to 100, 0 makes none.
    pub(crate) copies: u32,
    /// Folder of the copies, better on another disk. Without it: `meta-copies` in the data directory.
    pub(crate) copies_dir: Option<PathBuf>,
    /// A file of this size keeps room on the disk. It is given up when the disk is full, so that
    /// the server starts and imports can make room. 0 to 1GB, 0 keeps none.
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
    /// Where its copies are.
    pub(crate) fn copies_folder(&self, data_dir: &Path) -> PathBuf {
        let own = self.copies_dir.clone();
        own.unwrap_or_else(|| data_dir.join(COPIES_FOLDER))
    }

    /// Everything that is out of range.
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut ranges = super::validate::RangeViolations::default();
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

/// What happens when the disk has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum OnLatch {
    /// The process goes on, and is not ready.
    Stay,
    /// The process stops in order, with exit code 1.
    Exit,
}

/// Health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HealthSection {
    /// What happens after a failed write or sync of the log or the metadata store, after which
    /// neither is written to until a restart: `stay` (the process goes on and is not ready) or
    /// `exit` (it stops in order, with exit code 1).
    pub(crate) on_latch: OnLatch,
}

impl Default for HealthSection {
    fn default() -> Self {
        Self {
            on_latch: OnLatch::Stay,
        }
    }
}
