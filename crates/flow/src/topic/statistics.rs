//! What is known of a topic's messages.

use forebay_buffer::ProviderState;
use forebay_model::{Sink, Timestamp};

use super::outlets::Delivered;
use super::{MESSAGES, Topics, UNDELIVERED};

/// Counts of a sink: *accepted = delivered + dead + discarded + lost + waiting*. They begin anew
/// when a deleted sink comes back after everything of it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStatistics {
    /// Messages that the log has taken.
    pub accepted: u64,
    /// Messages that the provider has confirmed.
    pub delivered: u64,
    /// Messages that it refused for good, and that are kept.
    pub dead: u64,
    /// Messages that it refused for good, and that were discarded since.
    pub discarded: u64,
    /// Messages that a damaged disk has taken.
    pub lost: u64,
    /// Messages that are not delivered yet.
    pub waiting: u64,
    /// Their bytes in the log.
    pub waiting_bytes: u64,
    /// When the oldest of them was received.
    pub oldest_at: Option<Timestamp>,
    /// Those of them that are with the provider.
    pub in_flight: u64,
    /// Failures after which messages were sent again, since the process was started.
    pub retries: u64,
    /// Whether messages are taken.
    pub state: TopicState,
}

/// Whether a topic's messages are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicState {
    /// Nothing was sent yet.
    Idle,
    /// The last that was sent was taken.
    Up,
    /// They are not taken.
    Down {
        /// Why.
        error: String,
        /// Since when.
        since: Timestamp,
    },
    /// Delivery is stopped.
    Paused,
}

impl TopicStatistics {
    const NOTHING: Self = Self {
        accepted: 0,
        delivered: 0,
        dead: 0,
        discarded: 0,
        lost: 0,
        waiting: 0,
        waiting_bytes: 0,
        oldest_at: None,
        in_flight: 0,
        retries: 0,
        state: TopicState::Idle,
    };
}

impl Topics {
    /// Counts of a sink.
    #[must_use]
    pub fn statistics(&self, sink: &Sink) -> TopicStatistics {
        let messages = self.streams(MESSAGES).remove(&sink.key).unwrap_or_default();
        let letters = self.streams(UNDELIVERED).remove(&sink.key);
        let mut sum = TopicStatistics::NOTHING;
        let mut done = 0;
        for stream in &messages {
            let stats = &stream.stats;
            sum.accepted += stats.next_seq;
            done += stats.trimmed_to.min(stats.next_seq);
            sum.waiting += stats.next_seq.saturating_sub(stats.trimmed_to);
            sum.lost += stats.lost_records;
            sum.waiting_bytes += stats.stored_bytes;
            if sum.oldest_at.is_none() && !stream.is_drained() {
                sum.oldest_at = stats.first_at_ms.map(Timestamp::from_millis);
            }
        }
        for stream in letters.unwrap_or_default() {
            let stats = &stream.stats;
            sum.dead += stats.next_seq.saturating_sub(stats.trimmed_to);
            sum.discarded += stats.trimmed_to.min(stats.next_seq);
            if !messages.iter().any(|m| m.number == stream.number) {
                // All that is left of a stream that was removed.
                sum.accepted += stats.next_seq;
                done += stats.next_seq;
            }
        }
        sum.lost = sum.lost.min(done.saturating_sub(sum.dead + sum.discarded));
        sum.delivered = done.saturating_sub(sum.dead + sum.discarded + sum.lost);
        let place = self.places().get(&sink.key).cloned();
        if let Some(delivered) = place.and_then(|p| p.delivered()) {
            self.add(&mut sum, delivered);
        }
        if sink.paused.is_some() {
            sum.state = TopicState::Paused;
        }
        sum
    }

    fn add(&self, sum: &mut TopicStatistics, delivered: Delivered) {
        let now = self.deps.clock.now();
        match delivered {
            Delivered::Problem(error) => sum.state = TopicState::Down { error, since: now },
            Delivered::Lane(lane) => {
                sum.in_flight = lane.in_flight;
                sum.retries = lane.retries;
                sum.state = match lane.provider {
                    ProviderState::Unknown => TopicState::Idle,
                    ProviderState::Up => TopicState::Up,
                    ProviderState::Down { error, since } => {
                        let ago = self.deps.env.elapsed().saturating_sub(since);
                        let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
                        let since = Timestamp::from_millis(now.as_millis().saturating_sub(ago));
                        TopicState::Down { error, since }
                    }
                };
            }
        }
    }
}
