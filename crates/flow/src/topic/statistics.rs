//! Counting a topic's messages.

use forebay_buffer::ProviderState;
use forebay_model::{Sink, Timestamp, TopicState, TopicStatistics};

use super::outlets::Delivered;
use super::{MESSAGES, Topics, UNDELIVERED};

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
