//! Read-only inspection of a buffer's directory without its lock, also while another process has it
//! open.

use std::path::Path;
use std::sync::Arc;

use forebay_log::{LogOpenError, LogReadError, inspect};

use crate::dead_letter::{DeadLetterMessage, DeadLetterReader};
use crate::shared::{DEAD_STREAM, PARTITION_PREFIX};

/// Snapshot of a directory.
pub struct BufferInspection {
    log: inspect::LogInspection,
}

/// State of a partition on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOnDisk {
    /// Name of the topic or group.
    pub partition: Arc<str>,
    /// Undelivered messages by the cursor on disk.
    pub waiting: u64,
    /// Bytes of their blocks.
    pub waiting_bytes: u64,
    /// Write time of the oldest undelivered message, in milliseconds since 1970.
    pub oldest_at_ms: Option<i64>,
    /// Every message below is resolved.
    pub cursor: u64,
    /// Number of messages ever written.
    pub next_sequence: u64,
    /// Unreadable messages.
    pub lost: u64,
}

impl BufferInspection {
    /// Reads the directory of a buffer.
    pub fn open(dir: &Path) -> Result<Self, LogOpenError> {
        Ok(Self {
            log: inspect::LogInspection::open_dir(dir)?,
        })
    }

    /// Partitions, sorted by name.
    pub fn partitions(&self) -> Vec<PartitionOnDisk> {
        let streams = self.log.streams();
        let mut partitions: Vec<_> = streams
            .iter()
            .filter_map(|s| {
                let partition = Arc::from(s.name.strip_prefix(PARTITION_PREFIX)?);
                let waiting = s.next_seq.saturating_sub(s.trimmed_to);
                Some(PartitionOnDisk {
                    partition,
                    waiting,
                    waiting_bytes: s.stored_bytes,
                    oldest_at_ms: s.first_at_ms.filter(|_| waiting > 0),
                    cursor: s.trimmed_to,
                    next_sequence: s.next_seq,
                    lost: s.lost_records,
                })
            })
            .collect();
        partitions.sort_by(|a, b| a.partition.cmp(&b.partition));
        partitions
    }

    /// Number of files with messages, and bytes of all files.
    pub fn files(&self) -> (usize, u64) {
        let stats = self.log.stats();
        (stats.segments, stats.file_bytes)
    }

    /// Dead letters, oldest first.
    pub fn dead_letters(&self) -> impl Iterator<Item = Result<DeadLetterMessage, LogReadError>> {
        let stream = self.log.find(DEAD_STREAM);
        let from = stream.as_ref().map_or(0, |s| s.trimmed_to);
        let reader = stream.and_then(|s| self.log.reader(s.id, from).ok());
        DeadLetterReader::new(reader, from)
    }
}
