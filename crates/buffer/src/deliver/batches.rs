//! What is sent next: what failed before what is new.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Deliverer, Redo, Sent};
use crate::provider::{Batch, Done};

impl Deliverer {
    pub(super) fn next_batch(&mut self) -> Option<(Batch, Vec<u32>)> {
        if !self.redo.is_empty() {
            return self.redo_batch();
        }
        let config = &self.lane.shared.config;
        let durable = self.lane.meters.durable_cursor.load(Ordering::Acquire);
        let ahead = self.source.position().saturating_sub(durable);
        // What may be sent before the cursor has to follow; beyond it a crash repeats too much.
        let room = config.repeat_window.saturating_sub(ahead);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let room = room.min(config.in_flight_messages.saturating_sub(self.sent_messages));
        let some = usize::try_from(config.repeat_window / 2).unwrap_or(usize::MAX);
        let some = some.min(config.in_flight_messages / 2);
        // What is under way makes more room soon: small batches cost more than the wait.
        let full =
            self.sent_bytes >= config.in_flight_bytes || room < config.batch_messages.min(some);
        if full && !self.sent.is_empty() || room == 0 {
            return None;
        }
        if self.straight.is_some() {
            return None;
        }
        let messages = self
            .source
            .take(config.batch_messages.min(room), config.batch_bytes);
        if !messages.is_empty() {
            return Some((Batch::new(messages), Vec::new()));
        }
        if !self.sent.is_empty() {
            return None;
        }
        let messages = self.take_straight()?;
        Some((Batch::new(messages), Vec::new()))
    }

    /// What failed is sent one batch at a time, and what was refused alone: so it can't take its
    /// neighbours with it.
    fn redo_batch(&mut self) -> Option<(Batch, Vec<u32>)> {
        let config = &self.lane.shared.config;
        let max_attempts = config.attempts;
        if !self.sent.is_empty() || self.redo.front()?.attempts >= max_attempts {
            return None;
        }
        let alone = self.redo.front()?.error.rejected;
        let mut bytes = 0;
        let mut run = 0;
        for redo in &self.redo {
            if run > 0
                && (alone
                    || redo.error.rejected
                    || run >= config.batch_messages
                    || bytes >= config.batch_bytes)
            {
                break;
            }
            bytes += redo.delivery.message.len();
            run += 1;
        }
        let run: Vec<Redo> = self.redo.drain(..run).collect();
        let attempts = run.iter().map(|r| r.attempts).collect();
        let messages = run.into_iter().map(|r| r.delivery).collect();
        Some((Batch::new(messages), attempts))
    }

    pub(super) fn send(&mut self, batch: Batch, attempts: Vec<u32>, now: Duration) {
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
        self.lane
            .meters
            .in_flight
            .store(in_flight, Ordering::Release);
        let done = Done {
            to: Some(self.lane.clone()),
            batch: number,
            len: batch.messages().len(),
        };
        self.sent.push_back(Sent {
            batch: batch.clone(),
            number,
            outcome: None,
            bytes,
            at: now,
            attempts,
        });
        connection.send(&batch, done);
    }
}
