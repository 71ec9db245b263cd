//! A lane: a topic, or a group of topics, with one order.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forebay_log::{AppendError, CommitError, StreamId, StreamStats};

use crate::config::Mode;
use crate::error::WriteError;
use crate::intake::Intake;
use crate::provider::{Hear, Lane, Outcome};
use crate::shared::{Shared, replace};
use crate::stats::ProviderState;
use crate::sync::lock;

/// What of a lane its writers, its deliverer and its provider share.
pub(crate) struct LaneCore {
    pub(crate) shared: Arc<Shared>,
    pub(crate) name: Arc<str>,
    pub(crate) stream: StreamId,
    pub(crate) intake: Mutex<Intake>,
    mail: Mutex<Mail>,
    bell: Condvar,
    pub(crate) meters: Meters,
    /// Encoded bytes that the log has.
    stored_bytes: Mutex<u64>,
    /// Encoded bytes that were taken, and of those the ones that the log has committed or that will
    /// never be there. Two sums, of which the first needs no more than a store: see `entered`.
    came: AtomicU64,
    went: AtomicU64,
    pub(crate) state: Mutex<ProviderState>,
    /// The cursor on disk stays where it is.
    held: AtomicBool,
}

/// Counters since the buffer was opened, and places in the stream.
#[derive(Default)]
pub(crate) struct Meters {
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
pub(crate) struct Mail {
    pub(crate) outcomes: Vec<(u64, Outcome)>,
    rung: bool,
    pub(crate) stop: bool,
    /// The deliverer sleeps; else there is nobody to wake.
    asleep: bool,
    /// It sleeps until the provider is tried again, and new messages are no reason to wake up.
    pauses: bool,
}

impl LaneCore {
    pub(crate) fn new(shared: Arc<Shared>, name: Arc<str>, stream: StreamId) -> Self {
        let stats = shared.log.stats(stream);
        let cursor = stats.as_ref().map_or(0, |s| s.trimmed_to);
        let nothing_waits = stats.as_ref().is_none_or(|s| s.next_seq == s.trimmed_to);
        let intake = Intake::new(match shared.config.mode {
            Mode::Always => false,
            Mode::OnError => nothing_waits,
            Mode::Block | Mode::Error => true,
        });
        let meters = Meters::default();
        meters.cursor.store(cursor, Ordering::Release);
        meters.durable_cursor.store(cursor, Ordering::Release);
        meters.read_to.store(cursor, Ordering::Release);
        Self {
            shared,
            name,
            stream,
            intake: Mutex::new(intake),
            mail: Mutex::default(),
            bell: Condvar::new(),
            meters,
            stored_bytes: Mutex::new(0),
            came: AtomicU64::new(0),
            went: AtomicU64::new(0),
            state: Mutex::new(ProviderState::Unknown),
            held: AtomicBool::new(false),
        }
    }

    pub(crate) fn id(&self) -> Lane {
        Lane {
            name: self.name.clone(),
            buffer: self.shared.volume,
        }
    }

    /// Messages were taken. Called under the lock of the intake alone, so all but one of the counters
    /// need no more than a store.
    pub(crate) fn entered(&self, messages: u64, bytes: u64) {
        add(&self.meters.written, messages);
        add(&self.meters.written_bytes, bytes);
        self.comes(bytes);
    }

    /// Bytes are on their way to the log: of messages just taken, or of such as the provider did not
    /// take. Called under the lock of the intake alone.
    pub(crate) fn comes(&self, bytes: u64) {
        add(&self.came, bytes);
        self.shared.total_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// A block of so many bytes is with the log now, or will never be.
    pub(crate) fn stored(&self, bytes: u64) {
        self.measure();
        self.left(bytes);
    }

    /// Bytes that were taken are not on their way any more.
    pub(crate) fn left(&self, bytes: u64) {
        self.went.fetch_add(bytes, Ordering::AcqRel);
        self.shared.total_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Keeps the cursor on disk where it is, or lets it go on.
    pub(crate) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Release);
        self.ring();
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
        let went = self.went.load(Ordering::Acquire);
        let on_the_way = self.came.load(Ordering::Acquire).saturating_sub(went);
        *lock(&self.stored_bytes) + on_the_way
    }

    pub(crate) fn stats(&self) -> Option<StreamStats> {
        self.shared.log.stats(self.stream)
    }

    /// The end of what is committed.
    pub(crate) fn end(&self) -> u64 {
        self.shared.log.committed(self.stream).unwrap_or(0)
    }

    /// Wakes the deliverer.
    pub(crate) fn ring(&self) {
        self.wake_up(lock(&self.mail));
    }

    /// Wakes the deliverer for new messages, unless the provider is not to be tried yet anyway.
    pub(crate) fn ring_for_messages(&self) {
        let mail = lock(&self.mail);
        if !mail.pauses {
            self.wake_up(mail);
        }
    }

    fn wake_up(&self, mut mail: MutexGuard<'_, Mail>) {
        // Somebody else has woken it if the bell was rung before.
        let wake = !std::mem::replace(&mut mail.rung, true) && mail.asleep;
        drop(mail);
        if wake {
            self.bell.notify_one();
        }
    }

    /// Tells the deliverer to stop.
    pub(crate) fn stop(&self) {
        lock(&self.mail).stop = true;
        self.bell.notify_one();
    }

    /// Waits for letters, at most so long. `pauses`: not for new messages.
    pub(crate) fn wait(&self, limit: Duration, pauses: bool) {
        let quiet = |m: &mut Mail| !m.rung && m.outcomes.is_empty() && !m.stop;
        let mut mail = lock(&self.mail);
        (mail.asleep, mail.pauses) = (true, pauses);
        let waited = self.bell.wait_timeout_while(mail, limit, quiet);
        let mut mail = waited.unwrap_or_else(PoisonError::into_inner).0;
        (mail.asleep, mail.pauses, mail.rung) = (false, false, false);
    }

    /// Takes the letters, and whether to stop.
    pub(crate) fn letters(&self) -> (Vec<(u64, Outcome)>, bool) {
        let mut mail = lock(&self.mail);
        mail.rung = false;
        (std::mem::take(&mut mail.outcomes), mail.stop)
    }

    /// What a refusal of the log means for a writer.
    pub(crate) fn append_failed(&self, error: &AppendError) -> WriteError {
        match error {
            AppendError::Full { available, .. } => WriteError::Full {
                what: "the disk".to_owned(),
                waiting: self.shared.total_bytes.load(Ordering::Acquire),
                allowed: self.shared.total_bytes.load(Ordering::Acquire) + available,
            },
            AppendError::Shutdown | AppendError::Closed => WriteError::Closed,
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

impl Hear for LaneCore {
    fn hear(&self, batch: u64, outcome: Outcome) {
        lock(&self.mail).outcomes.push((batch, outcome));
        self.bell.notify_one();
    }
}
