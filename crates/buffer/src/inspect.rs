//! Looking into a buffer's directory without its lock: beside the process that has it open, or
//! after that died. Nothing is written.

use std::path::Path;
use std::sync::Arc;

use forebay_log::{LogOpenError, LogReadError, inspect};

use crate::dead_letter::{DeadLetterMessage, DeadLetterReader};
use crate::shared::{DEAD_STREAM, PARTITION_PREFIX};

/// A directory as it was when it was looked at.
pub struct BufferInspection {
    log: inspect::LogInspection,
}

/// A lane, as the disk has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOnDisk {
    /// Name of the topic or group.
    pub partition: Arc<str>,
    /// Messages that are not delivered, as far as the disk knows.
    pub waiting: u64,
    /// Their bytes, by whole blocks.
    pub waiting_bytes: u64,
    /// When the oldest was written, in milliseconds since 1970.
    pub oldest_at_ms: Option<i64>,
    /// Everything below was delivered or set aside.
    pub cursor: u64,
    /// How many messages the lane has taken ever.
    pub next_sequence: u64,
    /// Messages that can't be read any more.
    pub lost: u64,
}

impl BufferInspection {
    /// Looks at the directory of a buffer.
    ///
    /// # Errors
    /// No buffer there, written by a newer program, or it can't be read.
    pub fn open(dir: &Path) -> Result<Self, LogOpenError> {
        Ok(Self {
            log: inspect::LogInspection::open_dir(dir)?,
        })
    }

    /// Its lanes, by name.
    #[must_use]
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

    /// Files that hold messages, and bytes of all files.
    #[must_use]
    pub fn files(&self) -> (usize, u64) {
        let stats = self.log.stats();
        (stats.segments, stats.file_bytes)
    }

    /// Dead letters, oldest first.
    ///
    /// # Errors
    /// An item is an error when the disk can't be read.
    pub fn dead_letters(&self) -> impl Iterator<Item = Result<DeadLetterMessage, LogReadError>> {
        let stream = self.log.find(DEAD_STREAM);
        let from = stream.as_ref().map_or(0, |s| s.trimmed_to);
        let reader = stream.and_then(|s| self.log.reader(s.id, from).ok());
        DeadLetterReader::new(reader, from)
    }
}
