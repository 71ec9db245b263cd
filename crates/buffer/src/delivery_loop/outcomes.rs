//! What the provider has answered, and what follows.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{DeliveryLoop, RetryEntry, SentBatch};
use crate::config::BufferMode;
use crate::event::BufferEvent;
use crate::message::MessageDelivery;
use crate::provider::{BatchOutcome, SendError};
use crate::stats::ProviderHealth;
use crate::sync::lock;

impl DeliveryLoop {
    /// Everything before the first unanswered batch is done with.
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
            self.taken(sent.batch.messages());
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

    fn taken(&mut self, messages: &[MessageDelivery]) {
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

    /// The provider has answered.
    pub(super) fn reached(&mut self, now: Duration) {
        self.progress_at = now;
        let mut state = lock(&self.partition.state);
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

    /// A batch that goes straight to the provider has its time.
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

    /// Every batch has its answer, and some failed: what failed is to be sent again.
    fn requeue_failed(&mut self, now: Duration) {
        let mut failed = VecDeque::new();
        let attempts_max = self.partition.shared.config.attempts;
        let mut broken: Option<SendError> = None;
        let (mut refused, mut some_taken) = (None, false);
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
                        some_taken = true;
                        self.taken(std::slice::from_ref(delivery));
                    }
                    Err(error) => {
                        let which = if error.rejected {
                            &mut refused
                        } else {
                            &mut broken
                        };
                        which.get_or_insert(error.clone());
                        // Refused in company it may be the neighbour's fault: nothing becomes a
                        // dead letter that was not tried alone.
                        let in_company = sent.batch.messages().len() > 1;
                        let most = attempts_max - u32::from(in_company);
                        failed.push_back(RetryEntry {
                            delivery: delivery.clone(),
                            attempts: (before + u32::from(error.rejected)).min(most),
                            error,
                        });
                    }
                }
            }
        }
        failed.append(&mut self.retry_queue);
        self.retry_queue = failed;
        if some_taken {
            // A provider that now and then fails has no long queue of failures behind it: the wait
            // would grow from batch to batch, as hardly one is taken whole.
            self.backoff.clear();
        }
        if let Some(error) = broken {
            self.failed(&error, now);
        } else if let Some(error) = &refused {
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

    /// The connection is given up; after a pause it is tried again.
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
        let mut state = lock(&self.partition.state);
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

    /// Messages that were refused too often are set aside.
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
                tracing::warn!(lane = %self.partition.name, %error, "can't set a message aside yet");
                return;
            }
            self.retry_queue.pop_front();
            self.backoff.clear();
        }
    }
}
