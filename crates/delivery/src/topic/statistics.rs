//! Counting a topic's messages.

use forebay_buffer::ProviderHealth;

use forebay_model::{Sink, SinkKey, Timestamp, TopicState, TopicStatistics};

use super::TopicRegistry;
use super::shared_topic::DeliveryStatus;
use forebay_ingest::streams::TOPIC_PREFIX;

impl TopicRegistry {
    pub fn statistics(&self, sink: &Sink) -> TopicStatistics {
        let mut sum = self.counts(&sink.key);
        if sink.paused.is_some() {
            sum.state = TopicState::Paused;
        }
        sum
    }

    pub(super) fn counts(&self, sink: &SinkKey) -> TopicStatistics {
        let shared_topic = self.shared_topic(sink);
        let before = shared_topic.held_statistics.lock();
        if let Some(before) = &*before {
            return before.clone();
        }
        drop(before);
        let messages = self.streams(TOPIC_PREFIX).remove(sink).unwrap_or_default();
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
        // A read failure is reported where dead letters are listed.
        let acked = self.cached_ranges(&shared_topic, sink).unwrap_or_default();
        let (mut dead_letters, mut resolved) = (0, acked.resolved);
        for (base, stream) in self.dead_letter_streams(sink) {
            let stats = &stream.stats;
            resolved.resolve(base, base + stats.trimmed_to);
            dead_letters += stats.next_seq;
            if !messages.iter().any(|m| m.number == stream.number) {
                // The remains of a stream that was removed.
                sum.accepted += stats.next_seq;
                done += stats.next_seq;
            }
        }
        let resolved = resolved.count().min(dead_letters);
        sum.dead = dead_letters - resolved;
        // A dead letter that was replayed is in the stream a second time.
        let replayed = acked.replayed.min(resolved);
        sum.discarded = resolved - replayed;
        sum.accepted = sum.accepted.saturating_sub(replayed);
        done = done.saturating_sub(replayed);
        sum.lost = sum.lost.min(done.saturating_sub(sum.dead + sum.discarded));
        sum.delivered = done.saturating_sub(sum.dead + sum.discarded + sum.lost);
        if let Some(status) = shared_topic.delivery_status() {
            self.add(&mut sum, status);
        }
        sum
    }

    fn add(&self, sum: &mut TopicStatistics, status: DeliveryStatus) {
        let now = self.deps.clock.now();
        match status {
            DeliveryStatus::Problem(error) => sum.state = TopicState::Down { error, since: now },
            DeliveryStatus::Partition(partition) => {
                sum.in_flight = partition.in_flight;
                sum.retries = partition.retries;
                sum.state = match partition.provider {
                    ProviderHealth::Unknown => TopicState::Idle,
                    ProviderHealth::Up => TopicState::Up,
                    ProviderHealth::Down { error, since } => {
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
