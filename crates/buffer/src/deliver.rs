//! The way out: reads a lane, sends it, and moves the cursor behind what was confirmed.
//!
//! Invariants:
//! - Messages are sent in the order of their sequences. After a failure that may pass, nothing new
//!   is sent until everything under way has its answer, and what failed is sent first.
//! - The cursor is the smallest sequence that is neither confirmed nor set aside; on disk it is
//!   never more than `repeat_window` behind what was sent.
//! - A dead letter is on disk before the cursor passes it.

mod answers;
mod batches;
mod cursor;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay_log::Ticket;

use crate::config::Mode;
use crate::lane::LaneCore;
use crate::message::Delivery;
use crate::pause::Pause;
use crate::provider::{Batch, Connection, Outcome, SendError};
use crate::source::Source;
use crate::straight::Straight;

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
        if behind && self.saving.is_none() && !self.lane.is_held() {
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

    /// Whether the provider is not to be tried yet.
    pub(crate) fn pauses(&self) -> bool {
        !self.pause.is_over(self.lane.shared.env.elapsed())
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
