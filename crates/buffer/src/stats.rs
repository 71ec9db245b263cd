//! Figures.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::partition::PartitionState;
use crate::sync::lock;

/// Whether a lane's messages are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderHealth {
    /// Nothing was sent yet.
    Unknown,
    /// The last that was sent was taken.
    Up,
    /// They are not taken.
    Down {
        /// Why.
        error: String,
        /// Since when, by the clock that never steps back.
        since: Duration,
    },
}

/// Figures of a lane. Counters are since the buffer was opened, unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStats {
    /// Name of the topic or group.
    pub partition: Arc<str>,
    /// Messages that were handed over by writers.
    pub written: u64,
    /// Their bytes, encoded.
    pub written_bytes: u64,
    /// Messages that the provider has confirmed.
    pub delivered: u64,
    /// Bytes of their keys and payloads.
    pub delivered_bytes: u64,
    /// Messages that became dead letters.
    pub dead: u64,
    /// Messages that were dropped by a policy or by their age.
    pub dropped: u64,
    /// Messages that the disk has lost.
    pub lost: u64,
    /// Failures after which messages were sent again.
    pub retries: u64,
    /// Messages in the buffer that are not delivered.
    pub waiting: u64,
    /// Bytes that wait, those included that are on their way to the disk.
    pub waiting_bytes: u64,
    /// Messages with the provider, unconfirmed.
    pub in_flight: u64,
    /// When the oldest message that waits was written, in milliseconds since 1970.
    pub oldest_at_ms: Option<i64>,
    /// Everything below was delivered or set aside.
    pub cursor: u64,
    /// Sequence of the next message: how many the lane has taken ever.
    pub next_sequence: u64,
    /// Writes go straight to the provider just now.
    pub direct: bool,
    /// Whether messages are taken.
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
        // What was dropped behind the deliverer's back it finds out when it reads on.
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
            direct: lock(&partition.intake).direct,
            provider: lock(&partition.state).clone(),
        }
    }
}

/// Figures of a buffer at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferStats {
    /// When, by a clock that never steps back: rates are differences of two of these.
    pub at: Duration,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// By lane, in the order of their names.
    pub partitions: Vec<PartitionStats>,
    /// Dead letters that are kept.
    pub dead_letters: u64,
    /// Bytes that wait in all, dead letters included.
    pub waiting_bytes: u64,
    /// The bound of it.
    pub max_bytes: u64,
    /// Files that hold messages.
    pub files: usize,
    /// Bytes of all files, preallocated space included.
    pub file_bytes: u64,
    /// Syncs of the disk.
    pub syncs: u64,
    /// The failure of the disk after which nothing is accepted.
    pub disk_failed: Option<String>,
}

/// Messages a second, in and out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MessageRates {
    /// Written.
    pub written: f64,
    /// Delivered.
    pub delivered: f64,
}

impl BufferStats {
    /// Rates of a lane between two moments; `None` when the lane is in only one of them, or no time
    /// went by.
    #[must_use]
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
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        (seconds > 0.0).then(|| MessageRates {
            written: rate(now.written, then.written),
            delivered: rate(now.delivered, then.delivered),
        })
    }
}
