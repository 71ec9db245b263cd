//! The way out: reads a lane, sends it, and moves the cursor behind what was confirmed.
//!
//! Invariants:
//! - Messages are sent in the order of their sequences. After a failure that may pass, nothing new
//!   is sent until everything under way has its answer, and what failed is sent first.
//! - The cursor is the smallest sequence that is neither confirmed nor set aside; on disk it is
//!   never more than `repeat_window` behind what was sent.
//! - A dead letter is on disk before the cursor passes it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use forebay_log::Ticket;

use crate::config::Mode;
use crate::event::Event;
use crate::lane::LaneCore;
use crate::message::Delivery;
use crate::pause::Pause;
use crate::provider::{Batch, Connection, Done, Outcome, SendError};
use crate::source::Source;
use crate::stats::ProviderState;
use crate::straight::Straight;
use crate::sync::lock;

/// How long a deliverer with nothing to do sleeps; it is woken earlier.
const IDLE: Duration = Duration::from_secs(60);
/// How long the provider gets for what is under way when the buffer is closed.
const GRACE: Duration = Duration::from_secs(5);

/// What to do after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Again,
    Wait(Duration),
    Finished,
}

/// A batch with the provider.
struct Sent {
    batch: Batch,
    number: u64,
    outcome: Option<Outcome>,
    bytes: usize,
    at: Duration,
    /// Refusals so far, of each message; empty: none.
    attempts: Vec<u32>,
}

/// A message to be sent again.
pub(crate) struct Redo {
    pub(crate) delivery: Delivery,
    /// How often it was refused for good.
    pub(crate) attempts: u32,
    pub(crate) error: SendError,
}

/// Delivers one lane.
pub(crate) struct Deliverer {
    pub(crate) lane: Arc<LaneCore>,
    connection: Option<Box<dyn Connection>>,
    source: Source,
    sent: VecDeque<Sent>,
    sent_bytes: usize,
    sent_messages: usize,
    next_number: u64,
    pub(crate) redo: VecDeque<Redo>,
    /// The block that goes straight to the provider.
    pub(crate) straight: Option<Straight>,
    aborted: bool,
    pub(crate) pause: Pause,
    progress_at: Duration,
    saving: Option<(Ticket, u64)>,
    saved_at: Duration,
    stop_at: Option<Duration>,
}

impl Deliverer {
    pub(crate) fn new(lane: Arc<LaneCore>) -> Self {
        let from = lane.meters.cursor.load(Ordering::Acquire);
        Self {
            source: Source::new(lane.clone(), from),
            lane,
            connection: None,
            sent: VecDeque::new(),
            sent_bytes: 0,
            sent_messages: 0,
            next_number: 0,
            redo: VecDeque::new(),
            straight: None,
            aborted: false,
            pause: Pause::default(),
            progress_at: Duration::ZERO,
            saving: None,
            saved_at: Duration::ZERO,
            stop_at: None,
        }
    }

    /// Does what can be done now.
    pub(crate) fn step(&mut self) -> Next {
        let (letters, stop) = self.lane.letters();
        for (number, outcome) in letters {
            if let Some(sent) = self.sent.iter_mut().find(|s| s.number == number) {
                sent.outcome.get_or_insert(outcome);
            }
        }
        let now = self.lane.shared.env.elapsed();
        self.confirm(now);
        self.look_at_failures(now);
        self.bury();
        if stop {
            return self.wind_down(now);
        }
        let mut sent = false;
        if self.pause.is_over(now) {
            sent = self.send_some(now);
        }
        if !self.pause.is_over(now) {
            self.refuse_straight();
        }
        self.save_cursor(now, false);
        self.look_at_stall(now);
        if sent {
            return Next::Again;
        }
        Next::Wait(self.patience(now))
    }

    /// Everything before the first unanswered batch is done with.
    fn confirm(&mut self, now: Duration) {
        while self
            .sent
            .front()
            .is_some_and(|s| s.outcome == Some(Outcome::Taken))
        {
            let Some(sent) = self.sent.pop_front() else {
                break;
            };
            self.forget(&sent);
            for (i, delivery) in sent.batch.messages().iter().enumerate() {
                self.taken(i, delivery);
            }
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

    fn taken(&mut self, _index: usize, delivery: &Delivery) {
        let meters = &self.lane.meters;
        meters.delivered.fetch_add(1, Ordering::Relaxed);
        let bytes = delivery.message.len() as u64;
        meters.delivered_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(straight) = &mut self.straight {
            straight.set(delivery.sequence, Ok(()));
        }
    }

    fn succeeded(&mut self, now: Duration) {
        self.pause.clear();
        self.reached(now);
    }

    /// The provider has answered.
    fn reached(&mut self, now: Duration) {
        self.progress_at = now;
        let mut state = lock(&self.lane.state);
        let before = std::mem::replace(&mut *state, ProviderState::Up);
        drop(state);
        if let ProviderState::Down { since, .. } = before {
            let (lane, after) = (self.lane.name.clone(), now.saturating_sub(since));
            self.lane.shared.tell(Event::ProviderUp { lane, after });
        }
    }

    fn look_at_failures(&mut self, now: Duration) {
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

    fn abort(&mut self) {
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
        let mut refused = None;
        for sent in std::mem::take(&mut self.sent) {
            self.forget(&sent);
            let results = match sent.outcome.clone() {
                Some(Outcome::Each(results)) => results,
                _ => vec![Ok(()); sent.batch.messages().len()],
            };
            for (i, (delivery, result)) in sent.batch.messages().iter().zip(results).enumerate() {
                let before = sent.attempts.get(i).copied().unwrap_or(0);
                match result {
                    Ok(()) => self.taken(i, delivery),
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
    fn failed(&mut self, error: &SendError, now: Duration) {
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

    fn down(&self, error: &str, now: Duration) {
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
    fn bury(&mut self) {
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

    fn send_some(&mut self, now: Duration) -> bool {
        if !self.has_work() {
            return false;
        }
        if self.connection.is_none() && !self.connect(now) {
            return false;
        }
        let pipeline = self.connection.as_ref().map_or(0, |c| c.pipeline().max(1));
        let mut any = false;
        while self.sent.len() < pipeline {
            let Some((batch, attempts)) = self.next_batch() else {
                break;
            };
            self.send(batch, attempts, now);
            any = true;
        }
        any
    }

    /// Whether a connection is worth having.
    fn has_work(&mut self) -> bool {
        !self.redo.is_empty() || self.source.has_more() || self.straight_waits()
    }

    fn connect(&mut self, now: Duration) -> bool {
        let shared = self.lane.shared.clone();
        let opened = shared
            .provider
            .open(&self.lane.id())
            .and_then(|mut connection| {
                let cursor = if shared.provider.keeps_cursor() {
                    connection.cursor()?
                } else {
                    None
                };
                Ok((connection, cursor))
            });
        match opened {
            Ok((connection, cursor)) => {
                self.connection = Some(connection);
                self.aborted = false;
                self.progress_at = now;
                if let Some(cursor) = cursor {
                    self.go_on_at(cursor);
                }
                true
            }
            Err(error) => {
                self.failed(&error, now);
                false
            }
        }
    }

    /// The provider knows better than our disk what it has taken.
    fn go_on_at(&mut self, cursor: u64) {
        if cursor > self.lane.end() {
            // The disk has lost its end (it was not synced, or put back from a copy): new messages
            // get numbers that the provider has seen. Repeats are better than a loss.
            tracing::warn!(lane = %self.lane.name, cursor, "the provider's cursor is ahead of the buffer; it is ignored");
            return;
        }
        let meters = &self.lane.meters;
        let before = self.redo.len();
        self.redo.retain(|r| r.delivery.sequence >= cursor);
        let known = (before - self.redo.len()) as u64;
        let skipped = self.source.skip_to(cursor);
        meters
            .delivered
            .fetch_add(known + skipped, Ordering::Relaxed);
    }

    fn next_batch(&mut self) -> Option<(Batch, Vec<u32>)> {
        if !self.redo.is_empty() {
            return self.redo_batch();
        }
        let config = &self.lane.shared.config;
        let durable = self.lane.meters.durable_cursor.load(Ordering::Acquire);
        let ahead = self.source.position().saturating_sub(durable);
        let full = self.sent_messages >= config.in_flight_messages
            || self.sent_bytes >= config.in_flight_bytes
            || ahead + config.batch_messages as u64
                > config.repeat_window.max(2 * config.batch_messages as u64);
        if full && !self.sent.is_empty() || ahead >= config.repeat_window {
            return None;
        }
        if self.straight.is_some() {
            return None;
        }
        let messages = self.source.take(config.batch_messages, config.batch_bytes);
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

    fn send(&mut self, batch: Batch, attempts: Vec<u32>, now: Duration) {
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

    /// The smallest sequence that is not done with.
    fn cursor(&self) -> u64 {
        if self.straight.is_some() {
            return self.source.position();
        }
        let first = |s: &Sent| s.batch.messages().first().map(|d| d.sequence);
        let sent = self.sent.front().and_then(first);
        let redo = self.redo.front().map(|r| r.delivery.sequence);
        let places = [sent, redo, Some(self.source.position())];
        places.into_iter().flatten().min().unwrap_or(0)
    }

    /// Writes the cursor to disk: not at every batch, and one at a time.
    fn save_cursor(&mut self, now: Duration, at_once: bool) {
        self.note_saved();
        let (lane, cursor) = (self.lane.clone(), self.cursor());
        let before = lane.meters.cursor.swap(cursor, Ordering::AcqRel);
        lane.meters
            .read_to
            .store(self.source.position(), Ordering::Release);
        if before != cursor {
            lane.shared.change.notify();
        }
        let saved = lane.meters.durable_cursor.load(Ordering::Acquire);
        if self.saving.is_some() || cursor <= saved {
            return;
        }
        let config = &lane.shared.config;
        let due = now.saturating_sub(self.saved_at) >= config.cursor_interval
            || cursor - saved >= config.repeat_window / 4;
        if !at_once && !due {
            return;
        }
        self.saved_at = now;
        match lane.shared.log.trim(lane.stream, cursor) {
            Ok(ticket) => {
                self.saving = Some((ticket, cursor));
                self.note_saved();
            }
            Err(forebay_log::AppendError::Busy) => {}
            Err(error) => lane.shared.disk_failed(&error.to_string()),
        }
    }

    fn note_saved(&mut self) {
        let Some((ticket, cursor)) = &mut self.saving else {
            return;
        };
        let waker = Waker::from(self.lane.clone());
        let polled = Pin::new(ticket).poll(&mut Context::from_waker(&waker));
        let Poll::Ready(outcome) = polled else {
            return;
        };
        match outcome {
            Ok(_) => {
                self.lane
                    .meters
                    .durable_cursor
                    .store(*cursor, Ordering::Release);
                self.lane.measure();
                self.lane.shared.change.notify();
            }
            Err(error) => drop(self.lane.commit_failed(&error)),
        }
        self.saving = None;
    }

    /// Nothing was confirmed for long: that is told, and waited out. The client retries by itself.
    fn look_at_stall(&mut self, now: Duration) {
        let stall = self.lane.shared.config.stall;
        if self.sent.is_empty() || now.saturating_sub(self.progress_at) < stall {
            return;
        }
        let trouble = self.connection.as_ref().and_then(|c| c.trouble());
        let error = trouble.unwrap_or_else(|| format!("nothing was confirmed for {stall:?}"));
        self.down(&error, now);
    }

    fn patience(&self, now: Duration) -> Duration {
        let config = &self.lane.shared.config;
        let mut patience = IDLE;
        if let Some(left) = self.pause.left(now) {
            patience = patience.min(left);
        }
        if let Some(oldest) = self.sent.front() {
            let limit = if self.straight.is_some() {
                config.direct_timeout
            } else {
                config.stall
            };
            let since = if self.straight.is_some() {
                oldest.at
            } else {
                self.progress_at
            };
            let left = (since + limit).saturating_sub(now);
            patience = patience.min(if left.is_zero() {
                Duration::from_secs(1)
            } else {
                left
            });
        }
        let behind = self.cursor() > self.lane.meters.durable_cursor.load(Ordering::Acquire);
        if behind && self.saving.is_none() {
            let left = (self.saved_at + config.cursor_interval).saturating_sub(now);
            patience = patience.min(left.max(Duration::from_millis(1)));
        }
        if self.source.failed() {
            patience = patience.min(Duration::from_secs(1));
        }
        patience
    }

    /// The end: what is under way gets some time, then it is given up. It is not lost: it is sent
    /// again after the next opening.
    fn wind_down(&mut self, now: Duration) -> Next {
        let stop_at = *self.stop_at.get_or_insert(now + GRACE);
        let open = self.sent.iter().any(|s| s.outcome.is_none());
        if open && now < stop_at && !self.lane.shared.config.manual {
            if let Some(connection) = &mut self.connection {
                connection.flush(Duration::ZERO);
            }
            return Next::Wait((stop_at - now).min(Duration::from_millis(100)));
        }
        if open && !self.aborted {
            self.abort();
            return Next::Wait(Duration::from_millis(100));
        }
        if let Some(connection) = self.connection.take() {
            connection.close();
        }
        if let Some((ticket, cursor)) = self.saving.take()
            && ticket.wait().is_ok()
        {
            self.lane
                .meters
                .durable_cursor
                .store(cursor, Ordering::Release);
        }
        self.save_cursor(now, true);
        if let Some((ticket, _)) = self.saving.take() {
            // A cursor that could not be saved means repeats, and is no reason not to end.
            drop(ticket.wait());
        }
        self.end_straight();
        Next::Finished
    }

    /// Whether everything that is committed was delivered or set aside.
    pub(crate) fn is_drained(&mut self) -> bool {
        self.sent.is_empty() && self.redo.is_empty() && !self.source.has_more()
    }

    pub(crate) fn mode(&self) -> Mode {
        self.lane.shared.config.mode
    }

    /// Nothing is under way, and nothing waits in the log.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.is_drained() && self.straight.is_none()
    }

    pub(crate) fn read_to(&self) -> u64 {
        self.source.position()
    }
}

impl std::task::Wake for LaneCore {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}
