//! What the provider has answered, and what follows.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Deliverer, Redo, Sent};
use crate::config::Mode;
use crate::event::Event;
use crate::message::Delivery;
use crate::provider::{Outcome, SendError};
use crate::stats::ProviderState;
use crate::sync::lock;

impl Deliverer {
    /// Everything before the first unanswered batch is done with.
    pub(super) fn confirm(&mut self, now: Duration) {
        while self
            .sent
            .front()
            .is_some_and(|s| s.outcome == Some(Outcome::Taken))
        {
            let Some(sent) = self.sent.pop_front() else {
                break;
            };
            self.forget(&sent);
            self.taken(sent.batch.messages());
            self.succeeded(now);
        }
        self.finish_straight();
    }

    fn forget(&mut self, sent: &Sent) {
        self.sent_bytes -= sent.bytes;
        self.sent_messages -= sent.batch.messages().len();
        let messages = self.sent_messages as u64;
        self.lane
            .meters
            .in_flight
            .store(messages, Ordering::Release);
    }

    fn taken(&mut self, messages: &[Delivery]) {
        let meters = &self.lane.meters;
        let count = messages.len() as u64;
        meters.delivered.fetch_add(count, Ordering::Relaxed);
        let bytes: usize = messages.iter().map(|d| d.message.len()).sum();
        meters
            .delivered_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(straight) = &mut self.straight {
            for delivery in messages {
                straight.set(delivery.sequence, Ok(()));
            }
        }
    }

    fn succeeded(&mut self, now: Duration) {
        self.pause.clear();
        self.reached(now);
    }

    /// The provider has answered.
    pub(super) fn reached(&mut self, now: Duration) {
        self.progress_at = now;
        let mut state = lock(&self.lane.state);
        let before = std::mem::replace(&mut *state, ProviderState::Up);
        drop(state);
        if let ProviderState::Down { since, .. } = before {
            let (lane, after) = (self.lane.name.clone(), now.saturating_sub(since));
            self.lane.shared.tell(Event::ProviderUp { lane, after });
        }
    }

    pub(super) fn look_at_failures(&mut self, now: Duration) {
        let failed = |s: &Sent| matches!(s.outcome, Some(Outcome::Each(_)));
        let late = self.is_late(now);
        if !late && !self.sent.iter().any(failed) {
            return;
        }
        if self.sent.iter().any(|s| s.outcome.is_none()) {
            self.abort();
            return;
        }
        self.settle(now);
    }

    /// A batch that goes straight to the provider has its time.
    fn is_late(&self, now: Duration) -> bool {
        let limit = self.lane.shared.config.direct_timeout;
        let late = |s: &Sent| s.outcome.is_none() && now.saturating_sub(s.at) >= limit;
        self.straight.is_some() && self.sent.front().is_some_and(late)
    }

    pub(super) fn abort(&mut self) {
        if !std::mem::replace(&mut self.aborted, true)
            && let Some(connection) = &mut self.connection
        {
            connection.abort();
        }
    }

    /// Every batch has its answer, and some failed: what failed is to be sent again.
    fn settle(&mut self, now: Duration) {
        let mut failed = VecDeque::new();
        let attempts_max = self.lane.shared.config.attempts;
        let mut broken: Option<SendError> = None;
        let (mut refused, mut some_taken) = (None, false);
        for sent in std::mem::take(&mut self.sent) {
            self.forget(&sent);
            let results = match sent.outcome.clone() {
                Some(Outcome::Each(results)) => results,
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
                        failed.push_back(Redo {
                            delivery: delivery.clone(),
                            attempts: (before + u32::from(error.rejected)).min(most),
                            error,
                        });
                    }
                }
            }
        }
        failed.append(&mut self.redo);
        self.redo = failed;
        if some_taken {
            // A provider that now and then fails has no long queue of failures behind it: the wait
            // would grow from batch to batch, as hardly one is taken whole.
            self.pause.clear();
        }
        if let Some(error) = broken {
            self.failed(&error, now);
        } else if let Some(error) = &refused {
            self.reached(now);
            self.disconnect_if_aborted();
            let wait = self.lane.shared.provider.retry_wait().or(error.after);
            if self.straight.is_none() || self.mode() == Mode::Block {
                self.pause.after_failure(&self.lane.shared, now, wait);
            }
        }
        self.settle_straight();
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
        let shared = self.lane.shared.clone();
        let wait = error.after.or_else(|| shared.provider.retry_wait());
        self.pause.after_failure(&shared, now, wait);
        self.lane.meters.retries.fetch_add(1, Ordering::Relaxed);
        self.down(&error.message, now);
        self.leave_straight();
    }

    pub(super) fn down(&self, error: &str, now: Duration) {
        let mut state = lock(&self.lane.state);
        let since = match &*state {
            ProviderState::Down { since, .. } => Some(*since),
            _ => None,
        };
        *state = ProviderState::Down {
            error: error.to_owned(),
            since: since.unwrap_or(now),
        };
        drop(state);
        if since.is_none() {
            self.lane.shared.tell(Event::ProviderDown {
                lane: self.lane.name.clone(),
                error: error.to_owned(),
            });
        }
    }

    /// Messages that were refused too often are set aside.
    pub(super) fn bury(&mut self) {
        let attempts = self.lane.shared.config.attempts;
        while self.straight.is_none()
            && self.sent.is_empty()
            && self.redo.front().is_some_and(|r| r.attempts >= attempts)
        {
            let Some(redo) = self.redo.front() else {
                return;
            };
            if let Err(error) = crate::dead::bury(&self.lane, redo) {
                tracing::warn!(lane = %self.lane.name, %error, "can't set a message aside yet");
                return;
            }
            self.redo.pop_front();
            self.pause.clear();
        }
    }
}
