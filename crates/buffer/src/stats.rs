//! Statistics of a buffer and its partitions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::partition::PartitionState;
use crate::provider::ProviderHealth;

/// Statistics of a partition. Counters start when the buffer is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStats {
    /// Name of the topic or group.
    pub partition: Arc<str>,
    /// Messages appended by writers.
    pub written: u64,
    /// Encoded bytes of the messages written.
    pub written_bytes: u64,
    /// Messages that the provider confirmed.
    pub delivered: u64,
    /// Bytes of the messages delivered.
    pub delivered_bytes: u64,
    /// Messages that became dead letters.
    pub dead: u64,
    /// Messages dropped by the overflow policy or their age.
    pub dropped: u64,
    /// Messages lost to disk corruption.
    pub lost: u64,
    /// Failures of a connection or a batch that were followed by a retry.
    pub retries: u64,
    /// Undelivered messages in the buffer.
    pub waiting: u64,
    /// Undelivered bytes, including bytes on their way to the disk.
    pub waiting_bytes: u64,
    /// Messages sent and not yet confirmed.
    pub in_flight: u64,
    /// Write time of the oldest undelivered message, in milliseconds since 1970.
    pub oldest_at_ms: Option<i64>,
    /// Every message below is delivered, dead, dropped or lost.
    pub cursor: u64,
    /// Sequence of the next message: the number of messages ever written.
    pub next_sequence: u64,
    /// Whether writes currently bypass the disk.
    pub direct: bool,
    /// Health of the provider.
    pub provider: ProviderHealth,
}

impl PartitionStats {
    pub(crate) fn from_state(partition: &PartitionState) -> Self {
        let meters = &partition.meters;
        let get = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Acquire);
        let stream = partition.stats();
        let next_sequence = stream.as_ref().map_or(0, |s| s.next_seq);
        let trimmed = stream.as_ref().map_or(0, |s| s.trimmed_to);
        let cursor = get(&meters.cursor).max(trimmed);
        // Messages dropped ahead of the reader, which counts them when it reads on.
        let unnoticed = trimmed.saturating_sub(get(&meters.read_to));
        let waiting = next_sequence.saturating_sub(cursor);
        Self {
            partition: partition.name.clone(),
            written: get(&meters.written),
            written_bytes: get(&meters.written_bytes),
            delivered: get(&meters.delivered),
            delivered_bytes: get(&meters.delivered_bytes),
            dead: get(&meters.dead),
            dropped: get(&meters.dropped) + unnoticed,
            lost: get(&meters.lost),
            retries: get(&meters.retries),
            waiting,
            waiting_bytes: partition.waiting_bytes(),
            in_flight: get(&meters.in_flight),
            oldest_at_ms: stream.and_then(|s| s.first_at_ms).filter(|_| waiting > 0),
            cursor,
            next_sequence,
            direct: partition.intake.lock().direct,
            provider: partition.state.lock().clone(),
        }
    }
}

/// Statistics of a buffer at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferStats {
    /// Monotonic time of this snapshot, for rates.
    pub at: Duration,
    /// Time in milliseconds since 1970.
    pub at_ms: i64,
    /// Partitions, sorted by name.
    pub partitions: Vec<PartitionStats>,
    /// Stored dead letters.
    pub dead_letters: u64,
    /// Undelivered bytes in total, including dead letters.
    pub waiting_bytes: u64,
    /// The limit of `waiting_bytes`.
    pub max_bytes: u64,
    /// Files with messages.
    pub files: usize,
    /// Bytes of all files, including preallocated space.
    pub file_bytes: u64,
    /// Number of disk syncs.
    pub syncs: u64,
    /// The disk failure after which the buffer accepts nothing.
    pub disk_failed: Option<String>,
}

/// Messages per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MessageRates {
    /// Messages written per second.
    pub written: f64,
    /// Messages delivered per second.
    pub delivered: f64,
}

impl BufferStats {
    /// Rates of a partition since `earlier`; `None` if the partition is missing in one of the two
    /// or no time has passed.
    pub fn rates_since(&self, earlier: &Self, partition: &str) -> Option<MessageRates> {
        let seconds = self.at.checked_sub(earlier.at)?.as_secs_f64();
        let find = |stats: &Self| {
            stats
                .partitions
                .iter()
                .find(|l| &*l.partition == partition)
                .cloned()
        };
        let (now, then) = (find(self)?, find(earlier)?);
        #[expect(clippy::cast_precision_loss, reason = "a rate for display")]
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        (seconds > 0.0).then(|| MessageRates {
            written: rate(now.written, then.written),
            delivered: rate(now.delivered, then.delivered),
        })
    }
}
