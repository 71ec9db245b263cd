//! Settings, with their defaults and ranges.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use forebay_log::{LogConfig, SyncPolicy};

use crate::error::BufferOpenError;

/// Maximum length of the name of a topic or group, in bytes, as in Kafka.
pub const MAX_TOPIC: usize = 249;

/// When messages go through the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BufferMode {
    /// Always: a write returns when the message is on disk, independent of the provider.
    #[default]
    Always,
    /// Direct: a write returns when the provider has confirmed. After a failure messages go through
    /// the disk until the disk is drained. The order is kept.
    OnError,
    /// Never: a write waits until the provider has confirmed.
    Block,
    /// Never: a write returns the provider's error.
    Error,
}

/// Behavior at a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverflowPolicy {
    /// Drop the oldest messages, count them and report them by an event.
    DropOldest,
    /// Writes wait, at most this time.
    Block(Duration),
    /// Reject writes.
    Reject,
}

/// Settings of a buffer. [`BufferConfig::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct BufferConfig {
    /// Directory of the log. One process at a time.
    pub dir: PathBuf,
    /// When messages go through the disk. Default: always.
    pub mode: BufferMode,
    /// Durability of an acknowledged message. Default: it survives a power cut.
    pub sync: SyncPolicy,
    /// Maximum bytes waiting in total. Default 10 GiB, at least 1 MiB. Files take at most this and
    /// six segments.
    pub max_bytes: u64,
    /// Maximum bytes waiting per partition. Default 0: only the total is limited.
    pub max_partition_bytes: u64,
    /// Maximum age of a message; older ones are dropped, counted and reported by an event. Default:
    /// unlimited.
    pub max_age: Option<Duration>,
    /// Behavior at `max_bytes`, at `max_partition_bytes` and when the disk is full. Default:
    /// reject.
    pub overflow: OverflowPolicy,
    /// Bytes of a file. Default 64 MiB, or a sixteenth of `max_bytes` if that is less; from 64 KiB
    /// to 1 GiB. Disk space is freed by whole files.
    pub segment_size: Option<u64>,
    /// Bytes of the file system that stay free. Default 256 MiB.
    pub min_free_bytes: u64,
    /// The largest message: key, payload and headers. Default 1 MiB, at most 8 MiB.
    pub max_message_bytes: usize,
    /// Maximum bytes of messages in a block. Default 256 KiB. A busy partition retains the memory
    /// of up to 16 blocks.
    pub block_bytes: usize,
    /// Topics that share one order, by the group's name. Every other topic is its own partition.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Maximum partitions: topics and groups, each with a thread and a connection. Default 64, at
    /// most 4,096.
    pub max_partitions: usize,
    /// Maximum messages per batch. Default 1,000.
    pub batch_messages: usize,
    /// Maximum bytes per batch. Default 1 MiB.
    pub batch_bytes: usize,
    /// Maximum unconfirmed messages per partition. Default 20,000.
    pub in_flight_messages: usize,
    /// Maximum unconfirmed bytes per partition. Default 16 MiB.
    pub in_flight_bytes: usize,
    /// Maximum messages per partition that a crash repeats. Default 50,000; at least
    /// `in_flight_messages`. It limits how far delivery is ahead of the cursor on disk.
    pub repeat_window: u64,
    /// Minimum time between two writes of a cursor. Default 50 ms.
    pub cursor_interval: Duration,
    /// First wait after a failure. Default 100 ms. It doubles with each failure; up to half of it
    /// is subtracted at random.
    pub backoff: Duration,
    /// Maximum wait after a failure. Default 30 s.
    pub backoff_max: Duration,
    /// Attempts in total before a message that the provider rejects for good becomes a dead letter.
    /// Default 3.
    pub attempts: u32,
    /// In the direct modes: time to confirm, after which the batch has failed. Default 10 s.
    pub direct_timeout: Duration,
    /// Time without a confirmation after which the provider is reported as down. Default 5 s.
    pub stall: Duration,
    /// Start no threads; [`Buffer::step`](crate::Buffer::step) runs the work. For simulations.
    pub manual: bool,
}

impl BufferConfig {
    /// The defaults for this directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            mode: BufferMode::default(),
            sync: SyncPolicy::default(),
            max_bytes: 10 << 30,
            max_partition_bytes: 0,
            max_age: None,
            overflow: OverflowPolicy::Reject,
            segment_size: None,
            min_free_bytes: 256 << 20,
            max_message_bytes: 1 << 20,
            block_bytes: 256 << 10,
            groups: BTreeMap::new(),
            max_partitions: 64,
            batch_messages: 1_000,
            batch_bytes: 1 << 20,
            in_flight_messages: 20_000,
            in_flight_bytes: 16 << 20,
            repeat_window: 50_000,
            cursor_interval: Duration::from_millis(50),
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            attempts: 3,
            direct_timeout: Duration::from_secs(10),
            stall: Duration::from_secs(5),
            manual: false,
        }
    }

    pub(crate) fn segment(&self) -> u64 {
        let by_total = (self.max_bytes / 16).clamp(64 << 10, 64 << 20);
        self.segment_size.unwrap_or(by_total)
    }

    pub(crate) fn log(&self) -> LogConfig {
        LogConfig {
            sync: self.sync,
            segment_size: self.segment(),
            // Delivered messages occupy space until their whole file is reclaimed.
            max_bytes: self.max_bytes.saturating_add(4 * self.segment()),
            min_free_bytes: self.min_free_bytes,
            max_streams: 2 * self.max_partitions + 8,
            manual: self.manual,
            ..LogConfig::default()
        }
    }

    pub(crate) fn validate(&self) -> Result<(), BufferOpenError> {
        range("max_bytes", self.max_bytes, 1 << 20, 1 << 60)?;
        range("segment_size", self.segment(), 64 << 10, 1 << 30)?;
        range("max_message_bytes", self.max_message_bytes, 1, 8 << 20)?;
        range("block_bytes", self.block_bytes, 1, 8 << 20)?;
        range("max_partitions", self.max_partitions, 1, 4_096)?;
        range("batch_messages", self.batch_messages, 1, 1_000_000)?;
        range("batch_bytes", self.batch_bytes, 1, 64 << 20)?;
        range("in_flight_messages", self.in_flight_messages, 1, 10_000_000)?;
        range("in_flight_bytes", self.in_flight_bytes, 1, 1 << 30)?;
        let least = self.in_flight_messages as u64;
        range("repeat_window", self.repeat_window, least, 1 << 40)?;
        range("attempts", self.attempts, 1, 1_000)?;
        let day = 86_400_000;
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        range("backoff (ms)", ms(self.backoff), 1, day)?;
        range(
            "backoff_max (ms)",
            ms(self.backoff_max),
            ms(self.backoff),
            day,
        )?;
        range("cursor_interval (ms)", ms(self.cursor_interval), 0, 60_000)?;
        range("direct_timeout (ms)", ms(self.direct_timeout), 1, day)?;
        range("stall (ms)", ms(self.stall), 1, day)?;
        self.validate_groups()
    }

    fn validate_groups(&self) -> Result<(), BufferOpenError> {
        let wrong = |value: String, allowed: &str| {
            Err(BufferOpenError::Config {
                name: "groups",
                value,
                allowed: allowed.to_owned(),
            })
        };
        let mut seen = std::collections::BTreeSet::new();
        for (group, topics) in &self.groups {
            for name in std::iter::once(group).chain(topics) {
                if name.is_empty() || name.len() > MAX_TOPIC {
                    return wrong(format!("{name:?}"), "names of 1 to 249 bytes");
                }
            }
            for topic in topics {
                if !seen.insert(topic) {
                    return wrong(
                        format!("{topic:?}, which is in two groups"),
                        "each topic in one group",
                    );
                }
            }
        }
        Ok(())
    }
}

fn range<T: PartialOrd + std::fmt::Display>(
    name: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), BufferOpenError> {
    if value >= least && value <= most {
        return Ok(());
    }
    Err(BufferOpenError::Config {
        name,
        value: value.to_string(),
        allowed: format!("{least} to {most}"),
    })
}
