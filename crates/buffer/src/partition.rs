//! A lane: a topic, or a group of topics, with one order.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forebay_log::{CommitError, LogAppendError, StreamId, StreamStats};

use crate::config::BufferMode;
use crate::error::WriteError;
use crate::intake::PartitionIntake;
use crate::provider::{AckSink, BatchOutcome, Partition};
use crate::shared::{BufferState, replace};
use crate::stats::ProviderHealth;
use crate::sync::lock;

/// What of a lane its writers, its deliverer and its provider share.
pub(crate) struct PartitionState {
    pub(crate) shared: Arc<BufferState>,
    pub(crate) name: Arc<str>,
    pub(crate) stream: StreamId,
    pub(crate) intake: Mutex<PartitionIntake>,
    mailbox: Mutex<WorkerMailbox>,
    wakeup: Condvar,
    pub(crate) meters: PartitionMeters,
    /// Encoded bytes that the log has.
    stored_bytes: Mutex<u64>,
    /// Encoded bytes that were taken, and of those the ones that the log has committed or that will
    /// never be there. Two sums, of which the first needs no more than a store: see `entered`.
    enqueued: AtomicU64,
    dequeued: AtomicU64,
    pub(crate) state: Mutex<ProviderHealth>,
    /// The cursor on disk stays where it is.
    held: AtomicBool,
}

/// Counters since the buffer was opened, and places in the stream.
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
    /// Everything below is delivered, dead, dropped or lost.
    pub(crate) cursor: AtomicU64,
    /// As far as that is on disk.
    pub(crate) durable_cursor: AtomicU64,
    /// Everything below was read out of the log.
    pub(crate) read_to: AtomicU64,
    /// Messages with the provider, unconfirmed.
    pub(crate) in_flight: AtomicU64,
}

/// Letters to the deliverer.
#[derive(Default)]
pub(crate) struct WorkerMailbox {
    pub(crate) outcomes: Vec<(u64, BatchOutcome)>,
    notified: bool,
    pub(crate) stop: bool,
    /// The deliverer sleeps; else there is nobody to wake.
    asleep: bool,
    /// It sleeps until the provider is tried again, and new messages are no reason to wake up.
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

    /// Messages were taken. Called under the lock of the intake alone, so all but one of the counters
    /// need no more than a store.
    pub(crate) fn record_appended(&self, messages: u64, bytes: u64) {
        add(&self.meters.written, messages);
        add(&self.meters.written_bytes, bytes);
        self.add_enqueued(bytes);
    }

    /// Bytes are on their way to the log: of messages just taken, or of such as the provider did not
    /// take. Called under the lock of the intake alone.
    pub(crate) fn add_enqueued(&self, bytes: u64) {
        add(&self.enqueued, bytes);
        self.shared.total_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// A block of so many bytes is with the log now, or will never be.
    pub(crate) fn stored(&self, bytes: u64) {
        self.measure();
        self.add_dequeued(bytes);
    }

    /// Bytes that were taken are not on their way any more.
    pub(crate) fn add_dequeued(&self, bytes: u64) {
        self.dequeued.fetch_add(bytes, Ordering::AcqRel);
        self.shared.total_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Keeps the cursor on disk where it is, or lets it go on.
    pub(crate) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Release);
        self.wake_worker();
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Looks up how much the log holds.
    pub(crate) fn measure(&self) {
        let mut stored = lock(&self.stored_bytes);
        let now = self.stats().map_or(0, |s| s.stored_bytes);
        replace(&self.shared.total_bytes, *stored, now);
        *stored = now;
    }

    /// Bytes that wait in this lane.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        // In this order: what went had come before.
        let dequeued = self.dequeued.load(Ordering::Acquire);
        let enqueued_bytes = self
            .enqueued
            .load(Ordering::Acquire)
            .saturating_sub(dequeued);
        *lock(&self.stored_bytes) + enqueued_bytes
    }

    pub(crate) fn stats(&self) -> Option<StreamStats> {
        self.shared.log.stats(self.stream)
    }

    /// The end of what is committed.
    pub(crate) fn end(&self) -> u64 {
        self.shared.log.committed(self.stream).unwrap_or(0)
    }

    /// Wakes the deliverer.
    pub(crate) fn wake_worker(&self) {
        self.wake_up(lock(&self.mailbox));
    }

    /// Wakes the deliverer for new messages, unless the provider is not to be tried yet anyway.
    pub(crate) fn wake_worker_for_messages(&self) {
        let mailbox = lock(&self.mailbox);
        if !mailbox.paused {
            self.wake_up(mailbox);
        }
    }

    fn wake_up(&self, mut mailbox: MutexGuard<'_, WorkerMailbox>) {
        // Somebody else has woken it if the bell was rung before.
        let wake = !std::mem::replace(&mut mailbox.notified, true) && mailbox.asleep;
        drop(mailbox);
        if wake {
            self.wakeup.notify_one();
        }
    }

    /// Tells the deliverer to stop.
    pub(crate) fn stop(&self) {
        lock(&self.mailbox).stop = true;
        self.wakeup.notify_one();
    }

    /// Waits for letters, at most so long. `pauses`: not for new messages.
    pub(crate) fn wait(&self, limit: Duration, paused: bool) {
        let quiet = |m: &mut WorkerMailbox| !m.notified && m.outcomes.is_empty() && !m.stop;
        let mut mailbox = lock(&self.mailbox);
        (mailbox.asleep, mailbox.paused) = (true, paused);
        let waited = self.wakeup.wait_timeout_while(mailbox, limit, quiet);
        let mut mailbox = waited.unwrap_or_else(PoisonError::into_inner).0;
        (mailbox.asleep, mailbox.paused, mailbox.notified) = (false, false, false);
    }

    /// Takes the letters, and whether to stop.
    pub(crate) fn take_outcomes(&self) -> (Vec<(u64, BatchOutcome)>, bool) {
        let mut mailbox = lock(&self.mailbox);
        mailbox.notified = false;
        (std::mem::take(&mut mailbox.outcomes), mailbox.stop)
    }

    /// What a refusal of the log means for a writer.
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

    /// What a failed commit means for a writer.
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

/// For a counter that only the holder of a lock changes.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

impl AckSink for PartitionState {
    fn receive(&self, batch: u64, outcome: BatchOutcome) {
        lock(&self.mailbox).outcomes.push((batch, outcome));
        self.wakeup.notify_one();
    }
}
