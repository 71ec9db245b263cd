//! Settings of a log, with their defaults and ranges.

use std::time::Duration;

use crate::block::MAX_PAYLOAD;
use crate::error::LogOpenError;

/// Durability of an acknowledged block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// On disk: survives a power cut.
    #[default]
    Disk,
    /// In the operating system's cache: survives the end of the process.
    Cache,
    /// In the queue: survives nothing. Written soon after.
    None,
}

/// Settings of a log. All have defaults: `LogConfig::default()`.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Durability of an acknowledged block. Default: `Disk`.
    pub sync: SyncPolicy,
    /// Minimum time between the starts of two syncs, for disks with few operations a second.
    /// Default: 0, the fastest on most disks: blocks queued during a sync form the next batch. At
    /// most 10 s.
    pub sync_interval: Duration,
    /// Bytes of a segment file. Default 64 MiB, from 4 KiB to 2 GiB.
    pub segment_size: u64,
    /// The largest payload of a block. Default 16 MiB, at most 64 MiB.
    pub max_payload: usize,
    /// Bytes that may wait for the writer. Default 32 MiB. A larger block is accepted when the
    /// queue is empty.
    pub queue_bytes: usize,
    /// Bytes of blocks on disk; beyond it appends are rejected with
    /// [`LogAppendError::Full`](crate::LogAppendError::Full). Default 0: limited by the disk only.
    /// Preallocated space is extra: at most `spare_segments + recycled_segments + 1` segments.
    pub max_bytes: u64,
    /// Bytes of the file system that the log leaves free. Default 256 MiB.
    pub min_free_bytes: u64,
    /// Empty segments kept ready. Default 1.
    pub spare_segments: usize,
    /// Freed segments kept for reuse, in addition to the spares: no disk zeroes new ones as fast as
    /// it accepts blocks. None is kept on a disk with less free space than all of them take.
    /// Default 3.
    pub recycled_segments: usize,
    /// Step in which disk space is preallocated with zeroes when no spare is ready. Default 4 MiB.
    pub preallocate_step: u64,
    /// A sealed segment is compacted when less than this part of `segment_size` is live. Percent,
    /// default 25, 0 to 90.
    pub compact_below_percent: u32,
    /// Maximum number of streams. Default 100,000.
    pub max_streams: usize,
    /// Id of the volume if neither the directory nor a segment has one: that of a lost directory.
    /// Default: none, a random one is generated.
    pub volume: Option<u64>,
    /// Starts no threads: a thread that waits for a ticket or calls `Log::step` does the work. For
    /// simulations, where the order of everything comes from a seed.
    pub manual: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            sync: SyncPolicy::Disk,
            sync_interval: Duration::ZERO,
            segment_size: 64 << 20,
            max_payload: 16 << 20,
            queue_bytes: 32 << 20,
            max_bytes: 0,
            min_free_bytes: 256 << 20,
            spare_segments: 1,
            recycled_segments: 3,
            preallocate_step: 4 << 20,
            compact_below_percent: 25,
            max_streams: 100_000,
            volume: None,
            manual: false,
        }
    }
}

impl LogConfig {
    pub(crate) fn validate(&self) -> Result<(), LogOpenError> {
        let wrong = |name, value: String, allowed: &str| {
            Err(LogOpenError::Config {
                name,
                value,
                allowed: allowed.to_owned(),
            })
        };
        if !(4 << 10..=2 << 30).contains(&self.segment_size) {
            return wrong("segment_size", self.segment_size.to_string(), "4KB to 2GB");
        }
        if !(1..=MAX_PAYLOAD).contains(&self.max_payload) {
            return wrong("max_payload", self.max_payload.to_string(), "1B to 64MB");
        }
        if self.sync_interval > Duration::from_secs(10) {
            return wrong(
                "sync_interval",
                format!("{:?}", self.sync_interval),
                "0 to 10 s",
            );
        }
        if self.compact_below_percent > 90 {
            let value = self.compact_below_percent.to_string();
            return wrong("compact_below_percent", value, "0 to 90");
        }
        if !(1..=1_000_000).contains(&self.max_streams) {
            return wrong(
                "max_streams",
                self.max_streams.to_string(),
                "1 to 1,000,000",
            );
        }
        if self.preallocate_step == 0 {
            return wrong("preallocate_step", "0".to_owned(), "1 byte or more");
        }
        Ok(())
    }
}
