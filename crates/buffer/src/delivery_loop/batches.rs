//! Builds and sends batches: failed messages first, then new ones.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{DeliveryLoop, RetryEntry, SentBatch};
use crate::provider::{Ack, MessageBatch};

impl DeliveryLoop {
    pub(super) fn next_batch(&mut self) -> Option<(MessageBatch, Vec<u32>)> {
        if !self.retry_queue.is_empty() {
            return self.retry_batch();
        }
        let config = &self.partition.shared.config;
        let durable = self.partition.meters.durable_cursor.load(Ordering::Acquire);
        let ahead = self.reader.position().saturating_sub(durable);
        // Messages that may be sent before the cursor on disk has to follow: limits repeats after a
        // crash.
        let capacity = config.repeat_window.saturating_sub(ahead);
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        let capacity = capacity.min(config.in_flight_messages.saturating_sub(self.sent_messages));
        let half_window = usize::try_from(config.repeat_window / 2).unwrap_or(usize::MAX);
        let half_window = half_window.min(config.in_flight_messages / 2);
        // Batches in flight free capacity soon: waiting costs less than small batches.
        let full = self.sent_bytes >= config.in_flight_bytes
            || capacity < config.batch_messages.min(half_window);
        if full && !self.sent.is_empty() || capacity == 0 {
            return None;
        }
        if self.direct.is_some() {
            return None;
        }
        let messages = self
            .reader
            .take(config.batch_messages.min(capacity), config.batch_bytes);
        if !messages.is_empty() {
            return Some((MessageBatch::new(messages), Vec::new()));
        }
        if !self.sent.is_empty() {
            return None;
        }
        let messages = self.take_direct()?;
        Some((MessageBatch::new(messages), Vec::new()))
    }

    /// Failed messages are sent one batch at a time, rejected ones alone, so that they can't fail
    /// others.
    fn retry_batch(&mut self) -> Option<(MessageBatch, Vec<u32>)> {
        let config = &self.partition.shared.config;
        let max_attempts = config.attempts;
        if !self.sent.is_empty() || self.retry_queue.front()?.attempts >= max_attempts {
            return None;
        }
        let alone = self.retry_queue.front()?.error.rejected;
        let mut bytes = 0;
        let mut count = 0;
        for retry in &self.retry_queue {
            if count > 0
                && (alone
                    || retry.error.rejected
                    || count >= config.batch_messages
                    || bytes >= config.batch_bytes)
            {
                break;
            }
            bytes += retry.delivery.message.len();
            count += 1;
        }
        let entries: Vec<RetryEntry> = self.retry_queue.drain(..count).collect();
        let attempts = entries.iter().map(|r| r.attempts).collect();
        let messages = entries.into_iter().map(|r| r.delivery).collect();
        Some((MessageBatch::new(messages), attempts))
    }

    #[tracing::instrument(name = "delivery", level = "debug", skip_all, fields(
        stream = &*self.partition.name,
        messages = batch.messages().len(),
    ))]
    pub(super) fn send(&mut self, batch: MessageBatch, attempts: Vec<u32>, now: Duration) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let bytes = batch.messages().iter().map(|d| d.message.len()).sum();
        let number = self.next_number;
        self.next_number += 1;
        if self.sent.is_empty() {
            self.progress_at = now;
        }
        self.sent_bytes += bytes;
        self.sent_messages += batch.messages().len();
        let in_flight = self.sent_messages as u64;
        self.partition
            .meters
            .in_flight
            .store(in_flight, Ordering::Release);
        let ack = Ack {
            to: Some(self.partition.clone()),
            batch: number,
            len: batch.messages().len(),
        };
        self.sent.push_back(SentBatch {
            batch: batch.clone(),
            number,
            outcome: None,
            bytes,
            at: now,
            attempts,
        });
        connection.send(&batch, ack);
    }
}
