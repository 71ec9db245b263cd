//! A partition: a topic, or a group of topics that share one order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use forebay_log::{CommitError, LogAppendError, StreamId, StreamStats};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::config::BufferMode;
use crate::error::WriteError;
use crate::intake::PartitionIntake;
use crate::provider::{AckSink, BatchOutcome, Partition, ProviderHealth};
use crate::shared::{BufferState, replace};

/// State of a partition that writers, delivery worker and provider share.
pub(crate) struct PartitionState {
    pub(crate) shared: Arc<BufferState>,
    pub(crate) name: Arc<str>,
    pub(crate) stream: StreamId,
    pub(crate) intake: Mutex<PartitionIntake>,
    mailbox: Mutex<WorkerMailbox>,
    wakeup: Condvar,
    pub(crate) meters: PartitionMeters,
    /// Encoded bytes in the log.
    stored_bytes: Mutex<u64>,
    /// Encoded bytes appended, and of those the bytes committed or failed. Two counters, because
    /// the first then needs only a store: see `add_enqueued`.
    enqueued: AtomicU64,
    dequeued: AtomicU64,
    pub(crate) state: Mutex<ProviderHealth>,
    /// Whether the cursor on disk is frozen.
    held: AtomicBool,
}

/// Counters since the buffer was opened, and positions in the stream.
#[derive(Default)]
pub(crate) struct PartitionMeters {
    pub(crate) written: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) delivered_bytes: AtomicU64,
    pub(crate) dead: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) retries: AtomicU64,
    /// Every message below is delivered, dead, dropped or lost.
    pub(crate) cursor: AtomicU64,
    /// The cursor on disk.
    pub(crate) durable_cursor: AtomicU64,
    /// Every message below was read from the log.
    pub(crate) read_to: AtomicU64,
    /// Messages sent and not yet confirmed.
    pub(crate) in_flight: AtomicU64,
}

/// Mailbox of the delivery worker: provider acks and wake-ups.
#[derive(Default)]
pub(crate) struct WorkerMailbox {
    pub(crate) outcomes: Vec<(u64, BatchOutcome)>,
    notified: bool,
    pub(crate) stop: bool,
    /// Whether the backoff is to end now.
    retry: bool,
    /// Whether the worker sleeps; otherwise no wake-up is needed.
    asleep: bool,
    /// Whether it sleeps through a backoff, which new messages do not end.
    paused: bool,
}

impl PartitionState {
    pub(crate) fn new(shared: Arc<BufferState>, name: Arc<str>, stream: StreamId) -> Self {
        let stats = shared.log.stats(stream);
        let cursor = stats.as_ref().map_or(0, |s| s.trimmed_to);
        let nothing_waits = stats.as_ref().is_none_or(|s| s.next_seq == s.trimmed_to);
        let intake = PartitionIntake::new(match shared.config.mode {
            BufferMode::Always => false,
            BufferMode::OnError => nothing_waits,
            BufferMode::Block | BufferMode::Error => true,
        });
        let meters = PartitionMeters::default();
        meters.cursor.store(cursor, Ordering::Release);
        meters.durable_cursor.store(cursor, Ordering::Release);
        meters.read_to.store(cursor, Ordering::Release);
        Self {
            shared,
            name,
            stream,
            intake: Mutex::new(intake),
            mailbox: Mutex::default(),
            wakeup: Condvar::new(),
            meters,
            stored_bytes: Mutex::new(0),
            enqueued: AtomicU64::new(0),
            dequeued: AtomicU64::new(0),
            state: Mutex::new(ProviderHealth::Unknown),
            held: AtomicBool::new(false),
        }
    }

    pub(crate) fn id(&self) -> Partition {
        Partition {
            name: self.name.clone(),
            buffer: self.shared.volume,
        }
    }

    /// Counts appended messages. Called only under the intake's lock, so all but one of the
    /// counters need only a store.
    pub(crate) fn record_appended(&self, messages: u64, bytes: u64) {
        add(&self.meters.written, messages);
        add(&self.meters.written_bytes, bytes);
        self.add_enqueued(bytes);
    }

    /// Counts bytes on their way to the log: of new messages, or of messages that the provider did
    /// not accept. Called only under the intake's lock.
    pub(crate) fn add_enqueued(&self, bytes: u64) {
        add(&self.enqueued, bytes);
        self.shared.total_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Counts the bytes of a block whose append has ended.
    pub(crate) fn stored(&self, bytes: u64) {
        self.measure();
        self.add_dequeued(bytes);
    }

    /// Counts bytes that are no longer on their way to the log.
    pub(crate) fn add_dequeued(&self, bytes: u64) {
        self.dequeued.fetch_add(bytes, Ordering::AcqRel);
        self.shared.total_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Freezes or releases the cursor on disk.
    pub(crate) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Release);
        self.wake_worker();
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Refreshes the bytes in the log.
    pub(crate) fn measure(&self) {
        let mut stored = self.stored_bytes.lock();
        let now = self.stats().map_or(0, |s| s.stored_bytes);
        replace(&self.shared.total_bytes, *stored, now);
        *stored = now;
    }

    /// Bytes waiting in this partition.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        // Dequeued first: every dequeued byte was enqueued before, so the difference is not
        // negative.
        let dequeued = self.dequeued.load(Ordering::Acquire);
        let enqueued_bytes = self
            .enqueued
            .load(Ordering::Acquire)
            .saturating_sub(dequeued);
        *self.stored_bytes.lock() + enqueued_bytes
    }

    pub(crate) fn stats(&self) -> Option<StreamStats> {
        self.shared.log.stats(self.stream)
    }

    /// Sequence after the last committed message.
    pub(crate) fn end(&self) -> u64 {
        self.shared.log.committed(self.stream).unwrap_or(0)
    }

    pub(crate) fn wake_worker(&self) {
        self.wake_up(self.mailbox.lock());
    }

    /// Wakes the worker for new messages, except during a backoff.
    pub(crate) fn wake_worker_for_messages(&self) {
        let mailbox = self.mailbox.lock();
        if !mailbox.paused {
            self.wake_up(mailbox);
        }
    }

    fn wake_up(&self, mut mailbox: MutexGuard<'_, WorkerMailbox>) {
        // If it is notified already, another thread has woken it.
        let wake = !std::mem::replace(&mut mailbox.notified, true) && mailbox.asleep;
        drop(mailbox);
        if wake {
            self.wakeup.notify_one();
        }
    }

    /// Asks the delivery worker to stop.
    pub(crate) fn stop(&self) {
        self.mailbox.lock().stop = true;
        self.wakeup.notify_one();
    }

    /// Ends the worker's backoff.
    pub(crate) fn retry_now(&self) {
        let mut mailbox = self.mailbox.lock();
        mailbox.retry = true;
        self.wake_up(mailbox);
    }

    /// Whether the backoff is to end now; once.
    pub(crate) fn take_retry(&self) -> bool {
        std::mem::take(&mut self.mailbox.lock().retry)
    }

    /// Waits for outcomes or a wake-up, at most `limit`; if `paused`, not for new messages.
    pub(crate) fn wait(&self, limit: Duration, paused: bool) {
        let idle = |m: &mut WorkerMailbox| !m.notified && m.outcomes.is_empty() && !m.stop;
        let mut mailbox = self.mailbox.lock();
        (mailbox.asleep, mailbox.paused) = (true, paused);
        self.wakeup.wait_while_for(&mut mailbox, idle, limit);
        (mailbox.asleep, mailbox.paused, mailbox.notified) = (false, false, false);
    }

    /// The outcomes received, and whether to stop.
    pub(crate) fn take_outcomes(&self) -> (Vec<(u64, BatchOutcome)>, bool) {
        let mut mailbox = self.mailbox.lock();
        mailbox.notified = false;
        (std::mem::take(&mut mailbox.outcomes), mailbox.stop)
    }

    /// Translates a rejected append for the writer.
    pub(crate) fn append_failed(&self, error: &LogAppendError) -> WriteError {
        match error {
            LogAppendError::Full { available, .. } => WriteError::Full {
                what: "the disk".to_owned(),
                waiting: self.shared.total_bytes.load(Ordering::Acquire),
                allowed: self.shared.total_bytes.load(Ordering::Acquire) + available,
            },
            LogAppendError::Shutdown | LogAppendError::Closed => WriteError::Closed,
            other => {
                let error = other.to_string();
                self.shared.disk_failed(&error);
                WriteError::Disk(error)
            }
        }
    }

    /// Translates a failed commit for the writer.
    pub(crate) fn commit_failed(&self, error: &CommitError) -> WriteError {
        match error {
            CommitError::Full => WriteError::Full {
                what: "the disk".to_owned(),
                waiting: self.shared.total_bytes.load(Ordering::Acquire),
                allowed: self.shared.total_bytes.load(Ordering::Acquire),
            },
            CommitError::Scarce(cause) => WriteError::Scarce(cause.to_string()),
            CommitError::Shutdown => WriteError::Closed,
            other => {
                let error = other.to_string();
                self.shared.disk_failed(&error);
                WriteError::MayHaveHappened(error)
            }
        }
    }
}

/// Adds to a counter that only the holder of a lock changes.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

impl AckSink for PartitionState {
    fn receive(&self, batch: u64, outcome: BatchOutcome) {
        self.mailbox.lock().outcomes.push((batch, outcome));
        self.wakeup.notify_one();
    }
}
