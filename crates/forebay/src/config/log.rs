//! `log`: the durable log in the data directory.

use forebay_log::LogConfig;
use forebay_model::{ByteSize, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Durability of an acknowledged record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum LogSyncMode {
    /// On disk: survives a power failure.
    Disk,
    /// Written to the operating system: survives the end of the process, not of the machine.
    Cache,
    /// In memory: survives nothing. For benchmarks.
    None,
}

/// The durable log of all records, in `log` in the data directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LogSection {
    /// Durability of an acknowledged record: `disk` (survives a power failure), `cache` (survives the
    /// end of the process, not of the machine), `none` (survives nothing; for benchmarks).
    pub(crate) sync: LogSyncMode,
    /// Minimum time between the starts of two syncs, for disks with few operations per second; 0 is the
    /// fastest on most disks. 0 to 10s.
    pub(crate) sync_interval: HumanDuration,
    /// Size of a segment file. 4KB to 2GB.
    pub(crate) segment_size: ByteSize,
    /// Total size of records waiting for the disk. 1MB to 16GB.
    pub(crate) queue_size: ByteSize,
    /// Maximum size of records on disk; above it requests are rejected. 0 means no limit but the disk.
    pub(crate) max_bytes: ByteSize,
    /// Free space of the file system reserved for other programs; below it requests are rejected.
    pub(crate) min_free_bytes: ByteSize,
    /// Preallocated empty segment files. 0 to 64.
    pub(crate) spare_segments: u32,
    /// Free segment files that are retained for reuse, if the disk has space for them. 0 to 64.
    pub(crate) recycled_segments: u32,
    /// Compact a segment when less than this part of it is live, in percent. 0 to 90.
    pub(crate) compact_below_percent: u32,
    /// Streams (slices) on disk. 1 to 1000000.
    pub(crate) max_streams: u32,
}

impl Default for LogSection {
    fn default() -> Self {
        let log = LogConfig::default();
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            sync: LogSyncMode::Disk,
            sync_interval: HumanDuration(log.sync_interval),
            segment_size: ByteSize(log.segment_size),
            queue_size: ByteSize(log.queue_bytes as u64),
            max_bytes: ByteSize(log.max_bytes),
            min_free_bytes: ByteSize(log.min_free_bytes),
            spare_segments: small(log.spare_segments),
            recycled_segments: small(log.recycled_segments),
            compact_below_percent: log.compact_below_percent,
            max_streams: small(log.max_streams),
        }
    }
}

impl LogSection {
    pub(crate) fn resolve(&self) -> LogConfig {
        LogConfig {
            sync: match self.sync {
                LogSyncMode::Disk => forebay_log::SyncPolicy::Disk,
                LogSyncMode::Cache => forebay_log::SyncPolicy::Cache,
                LogSyncMode::None => forebay_log::SyncPolicy::None,
            },
            sync_interval: self.sync_interval.0,
            segment_size: self.segment_size.0,
            queue_bytes: usize::try_from(self.queue_size.0).unwrap_or(usize::MAX),
            max_bytes: self.max_bytes.0,
            min_free_bytes: self.min_free_bytes.0,
            spare_segments: self.spare_segments as usize,
            recycled_segments: self.recycled_segments as usize,
            compact_below_percent: self.compact_below_percent,
            max_streams: self.max_streams as usize,
            ..LogConfig::default()
        }
    }

    /// Free space reserved for other programs, as the log counts it.
    pub(crate) fn min_free(&self) -> u64 {
        let log = self.resolve();
        log.min_free_bytes.max(log.preallocate_step)
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        let (kb, mb) = (ByteSize::kb, ByteSize::mb);
        let mut ranges = super::ranges::RangeViolations::default();
        ranges.check(
            "syncInterval",
            self.sync_interval,
            HumanDuration::default(),
            HumanDuration::secs(10),
        );
        ranges.check("segmentSize", self.segment_size, kb(4), mb(2 << 10));
        ranges.check("queueSize", self.queue_size, mb(1), mb(16 << 10));
        ranges.check("spareSegments", self.spare_segments, 0, 64);
        ranges.check("recycledSegments", self.recycled_segments, 0, 64);
        ranges.check("compactBelowPercent", self.compact_below_percent, 0, 90);
        ranges.check("maxStreams", self.max_streams, 1, 1_000_000);
        ranges.violations
    }
}
