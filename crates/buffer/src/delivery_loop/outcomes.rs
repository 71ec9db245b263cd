//! Handles the outcomes of batches: confirmations, retries, dead letters.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{DeliveryLoop, RetryEntry, SentBatch};
use crate::config::BufferMode;
use crate::event::BufferEvent;
use crate::message::MessageDelivery;
use crate::provider::{BatchOutcome, ProviderHealth, SendError};

impl DeliveryLoop {
    /// Confirms the accepted batches before the first unresolved one.
    pub(super) fn confirm(&mut self, now: Duration) {
        while self
            .sent
            .front()
            .is_some_and(|s| s.outcome == Some(BatchOutcome::Taken))
        {
            let Some(sent) = self.sent.pop_front() else {
                break;
            };
            self.forget(&sent);
            self.mark_delivered(sent.batch.messages());
            self.succeeded(now);
        }
        self.finish_direct();
    }

    fn forget(&mut self, sent: &SentBatch) {
        self.sent_bytes -= sent.bytes;
        self.sent_messages -= sent.batch.messages().len();
        let messages = self.sent_messages as u64;
        self.partition
            .meters
            .in_flight
            .store(messages, Ordering::Release);
    }

    fn mark_delivered(&mut self, messages: &[MessageDelivery]) {
        let meters = &self.partition.meters;
        let count = messages.len() as u64;
        meters.delivered.fetch_add(count, Ordering::Relaxed);
        let bytes: usize = messages.iter().map(|d| d.message.len()).sum();
        meters
            .delivered_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(direct) = &mut self.direct {
            for delivery in messages {
                direct.set(delivery.sequence, Ok(()));
            }
        }
    }

    fn succeeded(&mut self, now: Duration) {
        self.backoff.clear();
        self.reached(now);
    }

    /// Records a response of the provider.
    pub(super) fn reached(&mut self, now: Duration) {
        self.progress_at = now;
        let mut state = self.partition.state.lock();
        let before = std::mem::replace(&mut *state, ProviderHealth::Up);
        drop(state);
        if let ProviderHealth::Down { since, .. } = before {
            let (partition, after) = (self.partition.name.clone(), now.saturating_sub(since));
            self.partition
                .shared
                .report(BufferEvent::ProviderUp { partition, after });
        }
    }

    pub(super) fn handle_failures(&mut self, now: Duration) {
        let failed = |s: &SentBatch| matches!(s.outcome, Some(BatchOutcome::Each(_)));
        let late = self.is_late(now);
        if !late && !self.sent.iter().any(failed) {
            return;
        }
        if self.sent.iter().any(|s| s.outcome.is_none()) {
            self.abort();
            return;
        }
        self.requeue_failed(now);
    }

    /// Whether a direct batch exceeds `direct_timeout`.
    fn is_late(&self, now: Duration) -> bool {
        let limit = self.partition.shared.config.direct_timeout;
        let late = |s: &SentBatch| s.outcome.is_none() && now.saturating_sub(s.at) >= limit;
        self.direct.is_some() && self.sent.front().is_some_and(late)
    }

    pub(super) fn abort(&mut self) {
        if !std::mem::replace(&mut self.aborted, true)
            && let Some(connection) = &mut self.connection
        {
            connection.abort();
        }
    }

    /// Queues failed messages for retry, once every batch has its outcome.
    fn requeue_failed(&mut self, now: Duration) {
        let mut failed = VecDeque::new();
        let attempts_max = self.partition.shared.config.attempts;
        let mut broken: Option<SendError> = None;
        let (mut rejected, mut some_accepted) = (None, false);
        for sent in std::mem::take(&mut self.sent) {
            self.forget(&sent);
            let results = match sent.outcome.clone() {
                Some(BatchOutcome::Each(results)) => results,
                _ => vec![Ok(()); sent.batch.messages().len()],
            };
            for (i, (delivery, result)) in sent.batch.messages().iter().zip(results).enumerate() {
                let before = sent.attempts.get(i).copied().unwrap_or(0);
                match result {
                    Ok(()) => {
                        some_accepted = true;
                        self.mark_delivered(std::slice::from_ref(delivery));
                    }
                    Err(error) => {
                        let first = if error.rejected {
                            &mut rejected
                        } else {
                            &mut broken
                        };
                        first.get_or_insert(error.clone());
                        // Another message of the batch may be the cause of a rejection: a message
                        // becomes a dead letter only after it was sent alone.
                        let in_batch = sent.batch.messages().len() > 1;
                        let max = attempts_max - u32::from(in_batch);
                        failed.push_back(RetryEntry {
                            delivery: delivery.clone(),
                            attempts: (before + u32::from(error.rejected)).min(max),
                            error,
                        });
                    }
                }
            }
        }
        failed.append(&mut self.retry_queue);
        self.retry_queue = failed;
        if some_accepted {
            // Progress resets the backoff: with a provider that accepts only parts of batches it
            // would grow without limit.
            self.backoff.clear();
        }
        if let Some(error) = broken {
            self.failed(&error, now);
        } else if let Some(error) = &rejected {
            self.reached(now);
            self.disconnect_if_aborted();
            let wait = self.partition.shared.provider.retry_wait().or(error.after);
            if self.direct.is_none() || self.mode() == BufferMode::Block {
                self.backoff
                    .after_failure(&self.partition.shared, now, wait);
            }
        }
        self.handle_direct_failures();
    }

    fn disconnect_if_aborted(&mut self) {
        if std::mem::take(&mut self.aborted)
            && let Some(connection) = self.connection.take()
        {
            connection.close();
        }
    }

    /// Closes the connection and starts the backoff.
    pub(super) fn failed(&mut self, error: &SendError, now: Duration) {
        self.abort();
        self.disconnect_if_aborted();
        self.aborted = false;
        let shared = self.partition.shared.clone();
        let wait = error.after.or_else(|| shared.provider.retry_wait());
        self.backoff.after_failure(&shared, now, wait);
        self.partition
            .meters
            .retries
            .fetch_add(1, Ordering::Relaxed);
        self.down(&error.message, now);
        self.fall_back_to_disk();
    }

    pub(super) fn down(&self, error: &str, now: Duration) {
        let mut state = self.partition.state.lock();
        let since = match &*state {
            ProviderHealth::Down { since, .. } => Some(*since),
            _ => None,
        };
        *state = ProviderHealth::Down {
            error: error.to_owned(),
            since: since.unwrap_or(now),
        };
        drop(state);
        if since.is_none() {
            self.partition.shared.report(BufferEvent::ProviderDown {
                partition: self.partition.name.clone(),
                error: error.to_owned(),
            });
        }
    }

    /// Moves messages with `attempts` rejections to the dead letters.
    pub(super) fn move_to_dlq(&mut self) {
        let attempts = self.partition.shared.config.attempts;
        while self.direct.is_none()
            && self.sent.is_empty()
            && self
                .retry_queue
                .front()
                .is_some_and(|r| r.attempts >= attempts)
        {
            let Some(retry) = self.retry_queue.front() else {
                return;
            };
            if let Err(error) = crate::dead_letter::move_to_dlq(&self.partition, retry) {
                tracing::warn!(partition = %self.partition.name, %error, "writing a dead letter failed; retrying");
                return;
            }
            self.retry_queue.pop_front();
            self.backoff.clear();
        }
    }
}
