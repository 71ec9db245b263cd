//! Delivery of a partition: reads messages, sends them and advances the cursor.
//!
//! Invariants:
//! - Messages are sent in the order of their sequences. After a temporary failure no new message is
//!   sent until every batch in flight has its outcome; failed messages are sent first.
//! - The cursor is the smallest unresolved sequence. On disk it is at most `repeat_window` behind
//!   the messages sent.
//! - A dead letter is on disk before the cursor passes it.

mod batches;
mod cursor;
mod direct;
mod outcomes;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay_log::Ticket;

use crate::backoff::DeliveryBackoff;
use crate::config::BufferMode;
use crate::direct_sender::DirectSender;
use crate::message::MessageDelivery;
use crate::partition::PartitionState;
use crate::partition_reader::PartitionReader;
use crate::provider::{BatchOutcome, MessageBatch, ProviderConnection, SendError};

/// Sleep of an idle worker, unless it is woken earlier.
const IDLE: Duration = Duration::from_secs(60);
/// Time for the batches in flight when the buffer is closed.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextStep {
    Again,
    Wait(Duration),
    Finished,
}

/// A batch in flight.
struct SentBatch {
    batch: MessageBatch,
    number: u64,
    outcome: Option<BatchOutcome>,
    bytes: usize,
    at: Duration,
    /// Rejections so far, per message; empty if none.
    attempts: Vec<u32>,
}

/// A message to send again.
pub(crate) struct RetryEntry {
    pub(crate) delivery: MessageDelivery,
    /// Rejections so far.
    pub(crate) attempts: u32,
    pub(crate) error: SendError,
}

/// Delivers one partition.
pub(crate) struct DeliveryLoop {
    pub(crate) partition: Arc<PartitionState>,
    connection: Option<Box<dyn ProviderConnection>>,
    reader: PartitionReader,
    sent: VecDeque<SentBatch>,
    sent_bytes: usize,
    sent_messages: usize,
    next_number: u64,
    pub(crate) retry_queue: VecDeque<RetryEntry>,
    /// The block in flight in a direct mode.
    pub(crate) direct: Option<DirectSender>,
    aborted: bool,
    pub(crate) backoff: DeliveryBackoff,
    progress_at: Duration,
    saving: Option<(Ticket, u64)>,
    saved_at: Duration,
    stop_at: Option<Duration>,
}

impl DeliveryLoop {
    pub(crate) fn new(partition: Arc<PartitionState>) -> Self {
        let from = partition.meters.cursor.load(Ordering::Acquire);
        Self {
            reader: PartitionReader::new(partition.clone(), from),
            partition,
            connection: None,
            sent: VecDeque::new(),
            sent_bytes: 0,
            sent_messages: 0,
            next_number: 0,
            retry_queue: VecDeque::new(),
            direct: None,
            aborted: false,
            backoff: DeliveryBackoff::default(),
            progress_at: Duration::ZERO,
            saving: None,
            saved_at: Duration::ZERO,
            stop_at: None,
        }
    }

    /// Runs all due work.
    pub(crate) fn step(&mut self) -> NextStep {
        let (outcomes, stop) = self.partition.take_outcomes();
        for (number, outcome) in outcomes {
            if let Some(sent) = self.sent.iter_mut().find(|s| s.number == number) {
                sent.outcome.get_or_insert(outcome);
            }
        }
        let now = self.partition.shared.env.elapsed();
        self.confirm(now);
        self.handle_failures(now);
        self.move_to_dlq();
        if stop {
            return self.wind_down(now);
        }
        if self.partition.take_retry() {
            self.backoff.clear();
        }
        let mut sent = false;
        if self.backoff.is_over(now) {
            sent = self.send_some(now);
        }
        if !self.backoff.is_over(now) {
            self.reject_direct();
        }
        self.save_cursor(now, false);
        self.check_stall(now);
        if sent {
            return NextStep::Again;
        }
        NextStep::Wait(self.max_wait(now))
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

    /// Whether there is something to send.
    fn has_work(&mut self) -> bool {
        !self.retry_queue.is_empty() || self.reader.has_more() || self.has_direct_work()
    }

    fn connect(&mut self, now: Duration) -> bool {
        let shared = self.partition.shared.clone();
        let opened = shared
            .provider
            .open(&self.partition.id())
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
                    self.resume_at(cursor);
                }
                true
            }
            Err(error) => {
                self.failed(&error, now);
                false
            }
        }
    }

    /// Resumes at the provider's cursor, which is newer than ours.
    fn resume_at(&mut self, cursor: u64) {
        if cursor > self.partition.end() {
            // The disk has lost its end (not synced, or restored from a copy), so new messages get
            // sequences that the provider has seen. Repeats are better than a loss.
            tracing::warn!(partition = %self.partition.name, cursor, "ignoring the provider's cursor, which is ahead of the buffer");
            return;
        }
        let meters = &self.partition.meters;
        let before = self.retry_queue.len();
        self.retry_queue.retain(|r| r.delivery.sequence >= cursor);
        let confirmed = (before - self.retry_queue.len()) as u64;
        let skipped = self.reader.skip_to(cursor);
        meters
            .delivered
            .fetch_add(confirmed + skipped, Ordering::Relaxed);
    }

    /// Reports a provider that confirms nothing as down, and waits: the client retries by itself.
    fn check_stall(&mut self, now: Duration) {
        let stall = self.partition.shared.config.stall;
        if self.sent.is_empty() || now.saturating_sub(self.progress_at) < stall {
            return;
        }
        let trouble = self.connection.as_ref().and_then(|c| c.trouble());
        let error =
            trouble.unwrap_or_else(|| format!("the provider has confirmed nothing for {stall:?}"));
        self.down(&error, now);
    }

    fn max_wait(&self, now: Duration) -> Duration {
        let config = &self.partition.shared.config;
        let mut max_wait = IDLE;
        if let Some(left) = self.backoff.left(now) {
            max_wait = max_wait.min(left);
        }
        if let Some(oldest) = self.sent.front() {
            let limit = if self.direct.is_some() {
                config.direct_timeout
            } else {
                config.stall
            };
            let since = if self.direct.is_some() {
                oldest.at
            } else {
                self.progress_at
            };
            let left = (since + limit).saturating_sub(now);
            max_wait = max_wait.min(if left.is_zero() {
                Duration::from_secs(1)
            } else {
                left
            });
        }
        let behind = self.cursor() > self.partition.meters.durable_cursor.load(Ordering::Acquire);
        if behind && self.saving.is_none() && !self.partition.is_held() {
            let left = (self.saved_at + config.cursor_interval).saturating_sub(now);
            max_wait = max_wait.min(left.max(Duration::from_millis(1)));
        }
        if self.reader.failed() {
            max_wait = max_wait.min(Duration::from_secs(1));
        }
        max_wait
    }

    /// Waits for the batches in flight, then aborts them: the next opening sends them again.
    fn wind_down(&mut self, now: Duration) -> NextStep {
        let stop_at = *self.stop_at.get_or_insert(now + GRACE);
        let open = self.sent.iter().any(|s| s.outcome.is_none());
        if open && now < stop_at && !self.partition.shared.config.manual {
            if let Some(connection) = &mut self.connection {
                connection.flush(Duration::ZERO);
            }
            return NextStep::Wait((stop_at - now).min(Duration::from_millis(100)));
        }
        if open && !self.aborted {
            self.abort();
            return NextStep::Wait(Duration::from_millis(100));
        }
        if let Some(connection) = self.connection.take() {
            connection.close();
        }
        if let Some((ticket, cursor)) = self.saving.take()
            && ticket.wait().is_ok()
        {
            self.partition
                .meters
                .durable_cursor
                .store(cursor, Ordering::Release);
        }
        self.save_cursor(now, true);
        if let Some((ticket, _)) = self.saving.take() {
            // A cursor that could not be saved only means repeats.
            drop(ticket.wait());
        }
        self.end_direct();
        NextStep::Finished
    }

    /// Whether all committed messages are resolved.
    pub(crate) fn is_drained(&mut self) -> bool {
        self.sent.is_empty() && self.retry_queue.is_empty() && !self.reader.has_more()
    }

    /// Whether the backoff is running.
    pub(crate) fn is_paused(&self) -> bool {
        !self.backoff.is_over(self.partition.shared.env.elapsed())
    }

    pub(crate) fn mode(&self) -> BufferMode {
        self.partition.shared.config.mode
    }

    /// Whether no batch is in flight and no message waits in the log.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.is_drained() && self.direct.is_none()
    }

    pub(crate) fn read_to(&self) -> u64 {
        self.reader.position()
    }
}
