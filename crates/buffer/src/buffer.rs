//! The handle: what a program does with a buffer.

use std::future::poll_fn;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use forebay_log::{AppendError, Env, Log, RecoveryReport, StdEnv};

use crate::config::{BufferConfig, Mode};
use crate::dead::{DeadLetter, Letters};
use crate::deliver::{Deliverer, Next};
use crate::error::{OpenError, WriteError};
use crate::event::Events;
use crate::frame::encoded_len;
use crate::intake::{self, Refused};
use crate::lane::LaneCore;
use crate::message::Message;
use crate::provider::Provider;
use crate::receipt::{Accepted, Receipt};
use crate::retention::{self, Attempt, Wait};
use crate::shared::{DEAD_STREAM, LANE_PREFIX, Shared};
use crate::stats::{LaneStats, Stats};
use crate::sync::lock;
use crate::worker;

/// The longest name of a topic or group, in bytes. Kafka's bound.
pub const MAX_TOPIC: usize = 249;

/// A message buffer. Cheap to clone; the last handle that is dropped closes it, and leaves on disk
/// what was not delivered.
#[derive(Clone)]
pub struct Buffer {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer")
            .field("dir", &self.inner.shared.config.dir)
            .finish_non_exhaustive()
    }
}

struct Inner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    keeper: Arc<worker::Keeper>,
    /// Where there are no threads.
    manual: Mutex<Vec<Deliverer>>,
    recovery: RecoveryReport,
}

/// What becomes of messages that wait when a buffer is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// They are delivered, for at most so long; then as with `Leave`.
    Drain(Duration),
    /// They stay on disk, and are delivered after the next opening.
    Leave,
}

impl Buffer {
    /// Opens a buffer, and begins to deliver what waits in its directory.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(config: BufferConfig, provider: impl Provider) -> Result<Self, OpenError> {
        Self::open_in(Arc::new(StdEnv::new()), config, Arc::new(provider))
    }

    /// As [`Buffer::open`], on other files and clocks than those of the operating system.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_in(
        env: Arc<dyn Env>,
        config: BufferConfig,
        provider: Arc<dyn Provider>,
    ) -> Result<Self, OpenError> {
        config.validate()?;
        if provider.keeps_cursor() && config.mode != Mode::Always {
            return Err(OpenError::Config {
                name: "mode",
                value: format!("{:?}", config.mode),
                allowed: format!("Always, as {} keeps the cursor", provider.name()),
            });
        }
        let (log, recovery) = Log::open(env.clone(), Path::new(&config.dir), config.log())?;
        let dead = log.stream(DEAD_STREAM).map_err(|e| refused(&config, &e))?;
        let manual = config.manual;
        let shared = Arc::new(Shared::new(env, log, config, provider, dead));
        let buffer = Self {
            inner: Arc::new(Inner {
                keeper: Arc::default(),
                threads: Mutex::default(),
                manual: Mutex::default(),
                shared: shared.clone(),
                recovery,
            }),
        };
        shared.measure_dead();
        let streams = shared.log.streams();
        let lanes: Vec<_> = streams
            .iter()
            .filter_map(|s| s.name.strip_prefix(LANE_PREFIX))
            .collect();
        let allowed = shared.config.max_lanes;
        if lanes.len() > allowed {
            let found = lanes.len();
            return Err(OpenError::TooManyLanes { found, allowed });
        }
        for name in lanes {
            let lane = buffer
                .lane_named(&Arc::from(name))
                .map_err(|error| OpenError::Config {
                    name: "dir",
                    value: name.to_owned(),
                    allowed: error.to_string(),
                })?;
            lane.measure();
        }
        if !manual {
            let keeper = buffer.inner.keeper.clone();
            let thread = worker::keep(keeper, shared).map_err(OpenError::Thread)?;
            lock(&buffer.inner.threads).push(thread);
        }
        Ok(buffer)
    }

    /// What opening the directory has found: damage, if there was any.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.inner.recovery
    }

    /// The buffer's id, chosen when its directory was made.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.inner.shared.volume
    }

    /// A topic to write to. Faster than naming it with each message.
    ///
    /// # Errors
    /// When the name is none, or there are too many lanes.
    pub fn topic(&self, topic: &str) -> Result<Topic, WriteError> {
        if topic.is_empty() || topic.len() > MAX_TOPIC {
            return Err(WriteError::Invalid {
                field: "topic",
                value: format!("{} bytes long", topic.len()),
                allowed: format!("1 to {MAX_TOPIC} bytes"),
            });
        }
        let group = self.inner.shared.groups.get(topic).cloned();
        let lane_name = group.unwrap_or_else(|| Arc::from(topic));
        let lane = self.lane_named(&lane_name)?;
        Ok(Topic {
            own: (*lane_name != *topic).then(|| Arc::from(topic)),
            lane,
            _buffer: self.clone(),
        })
    }

    /// Writes a message; returns when it is accepted.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write(&self, topic: &str, message: Message) -> Result<Accepted, WriteError> {
        self.topic(topic)?.write(&[message]).await
    }

    /// As [`Buffer::write`], but blocks the thread.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write_blocking(&self, topic: &str, message: Message) -> Result<Accepted, WriteError> {
        self.topic(topic)?.write_blocking(&[message])
    }

    /// Writes several messages of a topic, next to each other; returns when all are accepted.
    ///
    /// # Errors
    /// See [`WriteError`]. When the disk fails some of them may have been accepted.
    pub async fn write_batch(
        &self,
        topic: &str,
        messages: &[Message],
    ) -> Result<Accepted, WriteError> {
        self.topic(topic)?.write(messages).await
    }

    /// As [`Buffer::write_batch`], but blocks the thread.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write_batch_blocking(
        &self,
        topic: &str,
        messages: &[Message],
    ) -> Result<Accepted, WriteError> {
        self.topic(topic)?.write_blocking(messages)
    }

    fn lane_named(&self, name: &Arc<str>) -> Result<Arc<LaneCore>, WriteError> {
        let shared = &self.inner.shared;
        let lanes = shared.lanes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(name) {
            return Ok(lane.clone());
        }
        drop(lanes);
        let mut lanes = shared.lanes.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(name) {
            return Ok(lane.clone());
        }
        if self.inner.keeper.is_stopped() {
            return Err(WriteError::Closed);
        }
        if lanes.len() >= shared.config.max_lanes {
            return Err(WriteError::Invalid {
                field: "topic",
                value: format!("{name:?}, one lane more"),
                allowed: format!(
                    "{} lanes (`max_lanes`); put topics into groups",
                    lanes.len()
                ),
            });
        }
        let stream = shared.log.stream(&format!("{LANE_PREFIX}{name}"));
        let stream = stream.map_err(|e| match e {
            AppendError::Shutdown => WriteError::Closed,
            other => WriteError::Disk(other.to_string()),
        })?;
        let lane = Arc::new(LaneCore::new(shared.clone(), name.clone(), stream));
        let deliverer = Deliverer::new(lane.clone());
        if shared.config.manual {
            lock(&self.inner.manual).push(deliverer);
        } else {
            let thread = worker::deliver(deliverer)
                .map_err(|e| WriteError::Disk(format!("can't start a thread: {e}")))?;
            lock(&self.inner.threads).push(thread);
        }
        lanes.insert(name.clone(), lane.clone());
        Ok(lane)
    }

    /// Waits until everything that was accepted before is delivered or set aside.
    ///
    /// # Errors
    /// [`WriteError::Timeout`] when that takes longer.
    pub async fn flush(&self, limit: Duration) -> Result<(), WriteError> {
        let waiting = self.waiting_for();
        let shared = &self.inner.shared;
        let until = shared.env.elapsed() + limit;
        let done = poll_fn(|cx| {
            let seen = shared.change.seen();
            if waiting.is_done() {
                return Poll::Ready(true);
            }
            if shared.env.elapsed() >= until {
                return Poll::Ready(false);
            }
            if shared.change.poll(seen, cx.waker()) {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        });
        if done.await {
            Ok(())
        } else {
            Err(not_delivered(limit))
        }
    }

    /// As [`Buffer::flush`], but blocks the thread.
    ///
    /// # Errors
    /// As [`Buffer::flush`].
    pub fn flush_blocking(&self, limit: Duration) -> Result<(), WriteError> {
        let waiting = self.waiting_for();
        let shared = &self.inner.shared;
        let until = shared.env.elapsed() + limit;
        loop {
            let seen = shared.change.seen();
            if waiting.is_done() {
                return Ok(());
            }
            let left = until.saturating_sub(shared.env.elapsed());
            if left.is_zero() {
                return Err(not_delivered(limit));
            }
            if shared.config.manual {
                // Time moves on only when somebody moves it: what can't be done now never will.
                if !self.step().is_zero() && !waiting.is_done() {
                    return Err(not_delivered(limit));
                }
            } else {
                shared
                    .change
                    .wait(seen, left.min(Duration::from_millis(100)));
            }
        }
    }

    fn waiting_for(&self) -> Target {
        let lanes = self.inner.shared.all_lanes();
        Target {
            lanes: lanes.into_iter().map(|lane| (lane.end(), lane)).collect(),
        }
    }

    /// Events from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.inner.shared.listeners.subscribe()
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.inner.shared;
        shared.measure_dead();
        let volume = shared.log.volume_stats();
        Stats {
            at: shared.env.elapsed(),
            at_ms: shared.env.now_ms(),
            lanes: shared
                .all_lanes()
                .iter()
                .map(|lane| LaneStats::of(lane))
                .collect(),
            dead_letters: shared
                .log
                .stats(shared.dead)
                .map_or(0, |s| s.next_seq - s.trimmed_to),
            waiting_bytes: shared
                .total_bytes
                .load(std::sync::atomic::Ordering::Acquire),
            max_bytes: shared.config.max_bytes,
            files: volume.segments,
            file_bytes: volume.file_bytes,
            syncs: volume.syncs.count,
            disk_failed: volume.latched.map(|l| l.to_string()),
        }
    }

    /// Dead letters, from this number on, oldest first.
    ///
    /// # Errors
    /// An item is an error when the disk can't be read.
    pub fn dead_letters(
        &self,
        from: u64,
    ) -> impl Iterator<Item = Result<DeadLetter, forebay_log::ReadError>> {
        let shared = &self.inner.shared;
        Letters::new(shared.log.reader(shared.dead, from).ok(), from)
    }

    /// Forgets the dead letters below this number.
    ///
    /// # Errors
    /// When the disk does not take the note.
    pub fn discard_dead_letters(&self, below: u64) -> Result<(), WriteError> {
        let shared = &self.inner.shared;
        let failed = |error: String| WriteError::Disk(error);
        let ticket = shared
            .log
            .trim(shared.dead, below)
            .map_err(|e| failed(e.to_string()))?;
        ticket.wait().map_err(|e| failed(e.to_string()))?;
        shared.measure_dead();
        shared.change.notify();
        Ok(())
    }

    /// Writes the dead letters below this number to their topics again, and forgets them. Returns
    /// how many. Interrupted, some may be written twice.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn replay_dead_letters(&self, below: u64) -> Result<u64, WriteError> {
        let mut count = 0;
        for letter in self.dead_letters(0) {
            let letter = letter.map_err(|e| WriteError::Disk(e.to_string()))?;
            if letter.number >= below {
                break;
            }
            self.write_blocking(&letter.topic, letter.message)?;
            self.discard_dead_letters(letter.number + 1)?;
            count += 1;
        }
        Ok(count)
    }

    /// Closes the buffer. Writes are refused from now on, in every clone.
    ///
    /// # Errors
    /// [`WriteError::Timeout`] when not all could be delivered in the time that `Drain` gives. What
    /// is left is on disk, and delivered after the next opening.
    pub fn close(&self, closing: Closing) -> Result<(), WriteError> {
        let inner = &self.inner;
        for lane in inner.shared.all_lanes() {
            lock(&lane.intake).closed = true;
        }
        let drained = match closing {
            Closing::Drain(limit) => self.flush_taken(limit),
            Closing::Leave => Ok(()),
        };
        inner.shutdown();
        drained
    }

    /// As a flush, but for what is taken and not committed, too.
    fn flush_taken(&self, limit: Duration) -> Result<(), WriteError> {
        let shared = &self.inner.shared;
        let until = shared.env.elapsed() + limit;
        loop {
            let seen = shared.change.seen();
            let lanes = shared.all_lanes();
            let taken = lanes.iter().all(|lane| {
                let intake = lock(&lane.intake);
                intake.is_empty() && intake.committing == 0
            });
            let left = until.saturating_sub(shared.env.elapsed());
            if taken {
                return self.flush_blocking(left);
            }
            if left.is_zero() {
                return Err(not_delivered(limit));
            }
            if shared.config.manual {
                self.step();
            } else {
                shared
                    .change
                    .wait(seen, left.min(Duration::from_millis(20)));
            }
        }
    }

    /// Does what can be done now, on this thread: for [`BufferConfig::manual`]. How long nothing
    /// else will be to do, unless something happens.
    pub fn step(&self) -> Duration {
        let shared = &self.inner.shared;
        while shared.log.step() {}
        retention::drop_aged(shared);
        let mut patience = Duration::from_secs(60);
        for deliverer in lock(&self.inner.manual).iter_mut() {
            loop {
                match deliverer.step() {
                    Next::Again => {}
                    Next::Wait(left) => {
                        patience = patience.min(left);
                        break;
                    }
                    Next::Finished => break,
                }
            }
        }
        shared.change.notify();
        patience
    }
}

fn refused(config: &BufferConfig, error: &AppendError) -> OpenError {
    OpenError::Config {
        name: "dir",
        value: config.dir.display().to_string(),
        allowed: format!("a directory that can be written ({error})"),
    }
}

fn not_delivered(waited: Duration) -> WriteError {
    WriteError::Timeout {
        waited,
        what: "not everything was delivered".to_owned(),
    }
}

/// Places that lanes have to reach.
struct Target {
    lanes: Vec<(u64, Arc<LaneCore>)>,
}

impl Target {
    fn is_done(&self) -> bool {
        self.lanes.iter().all(|(end, lane)| {
            lane.meters
                .cursor
                .load(std::sync::atomic::Ordering::Acquire)
                >= *end
                || lane.stats().is_none_or(|s| s.trimmed_to >= *end)
        })
    }
}

impl Inner {
    fn shutdown(&self) {
        self.keeper.stop();
        let lanes = self.shared.all_lanes();
        for lane in &lanes {
            lock(&lane.intake).closed = true;
            lane.stop();
        }
        for mut deliverer in std::mem::take(&mut *lock(&self.manual)) {
            while deliverer.step() != Next::Finished {}
        }
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            // The last handle may be dropped by one of our threads: by a provider that has one.
            if thread.thread().id() != std::thread::current().id() {
                // What a panic has left was told when it happened.
                drop(thread.join());
            }
        }
        self.shared.log.shutdown();
        self.shared.listeners.close();
        self.shared.change.notify();
        // Lanes and what they share hold each other.
        self.shared
            .lanes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// A topic of a buffer. Cheap to clone.
#[derive(Clone)]
pub struct Topic {
    lane: Arc<LaneCore>,
    /// Its name, where it shares a lane.
    own: Option<Arc<str>>,
    /// Keeps the buffer open.
    _buffer: Buffer,
}

impl std::fmt::Debug for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topic")
            .field("lane", &self.lane.name)
            .finish_non_exhaustive()
    }
}

/// What a try to hand messages over came to.
enum Tried {
    Taken(Receipt),
    Wait(Wait),
}

impl Topic {
    /// Writes messages, next to each other; returns when all are accepted.
    ///
    /// # Errors
    /// See [`WriteError`]. When the disk fails some of them may have been accepted.
    pub async fn write(&self, messages: &[Message]) -> Result<Accepted, WriteError> {
        let mut attempt = Attempt::new(&self.lane.shared);
        loop {
            let receipt = self.hand_over_with(messages, &mut attempt).await?;
            match receipt.await {
                Err(full @ WriteError::Full { .. }) if messages.len() == 1 => {
                    let wait = retention::disk_full(&self.lane, full, &mut attempt)?;
                    self.wait(wait).await;
                }
                answer => return answer,
            }
        }
    }

    /// As [`Topic::write`], but blocks the thread.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write_blocking(&self, messages: &[Message]) -> Result<Accepted, WriteError> {
        let mut attempt = Attempt::new(&self.lane.shared);
        loop {
            let receipt = self.hand_over_blocking_with(messages, &mut attempt)?;
            match receipt.wait() {
                Err(full @ WriteError::Full { .. }) if messages.len() == 1 => {
                    let wait = retention::disk_full(&self.lane, full, &mut attempt)?;
                    self.wait_blocking(wait);
                }
                answer => return answer,
            }
        }
    }

    /// Hands messages over, next to each other, and does not wait for the disk: the receipt says
    /// when they are accepted. Waits only where a bound says so. What is handed over one after
    /// another is in that order; the fastest way to write many single messages.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn hand_over(&self, messages: &[Message]) -> Result<Receipt, WriteError> {
        let mut attempt = Attempt::new(&self.lane.shared);
        self.hand_over_with(messages, &mut attempt).await
    }

    /// As [`Topic::hand_over`], but blocks the thread where it has to wait.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn hand_over_blocking(&self, messages: &[Message]) -> Result<Receipt, WriteError> {
        let mut attempt = Attempt::new(&self.lane.shared);
        self.hand_over_blocking_with(messages, &mut attempt)
    }

    async fn hand_over_with(
        &self,
        messages: &[Message],
        attempt: &mut Attempt,
    ) -> Result<Receipt, WriteError> {
        loop {
            match self.try_hand_over(messages, attempt)? {
                Tried::Taken(receipt) => return Ok(receipt),
                Tried::Wait(wait) => self.wait(wait).await,
            }
        }
    }

    fn hand_over_blocking_with(
        &self,
        messages: &[Message],
        attempt: &mut Attempt,
    ) -> Result<Receipt, WriteError> {
        loop {
            match self.try_hand_over(messages, attempt)? {
                Tried::Taken(receipt) => return Ok(receipt),
                Tried::Wait(wait) => self.wait_blocking(wait),
            }
        }
    }

    fn try_hand_over(
        &self,
        messages: &[Message],
        attempt: &mut Attempt,
    ) -> Result<Tried, WriteError> {
        let need = self.check(messages)?;
        let wait = retention::admit(&self.lane, need, attempt)?;
        if !matches!(wait, Wait::No) {
            return Ok(Tried::Wait(wait));
        }
        let shared = &self.lane.shared;
        let seen = shared.change.seen();
        match intake::put(&self.lane, self.own.as_deref(), messages) {
            Ok(receipt) => Ok(Tried::Taken(receipt)),
            Err(Refused::Error(error)) => Err(error),
            // The disk or the provider is behind; that is no bound, and ends by itself.
            Err(Refused::Busy) => {
                let until = shared.env.elapsed() + Duration::from_secs(3_600);
                Ok(Tried::Wait(Wait::Change(seen, until)))
            }
        }
    }

    /// Checks messages; how many bytes they take at most.
    fn check(&self, messages: &[Message]) -> Result<u64, WriteError> {
        let most = self.lane.shared.config.max_message_bytes;
        let mut need = 0;
        for message in messages {
            let len = message.len();
            if len > most {
                return Err(WriteError::Invalid {
                    field: "message",
                    value: format!("{len} bytes long"),
                    allowed: format!(
                        "up to {most} bytes of key, payload and headers (`max_message_bytes`)"
                    ),
                });
            }
            need += encoded_len(self.own.as_deref(), message) as u64;
        }
        Ok(need)
    }

    async fn wait(&self, wait: Wait) {
        match wait {
            Wait::No => {}
            Wait::Dropped(tickets) => {
                for ticket in tickets {
                    // If it failed the next try tells.
                    drop(ticket.await);
                }
                self.remeasure();
            }
            Wait::Change(seen, until) => {
                let shared = &self.lane.shared;
                poll_fn(|cx| {
                    if shared.env.elapsed() >= until || shared.change.poll(seen, cx.waker()) {
                        return Poll::Ready(());
                    }
                    Poll::Pending
                })
                .await;
            }
        }
    }

    fn wait_blocking(&self, wait: Wait) {
        match wait {
            Wait::No => {}
            Wait::Dropped(tickets) => {
                for ticket in tickets {
                    // If it failed the next try tells.
                    drop(ticket.wait());
                }
                self.remeasure();
            }
            Wait::Change(seen, until) => {
                let shared = &self.lane.shared;
                let left = until.saturating_sub(shared.env.elapsed());
                if shared.config.manual {
                    self._buffer.step();
                } else {
                    shared
                        .change
                        .wait(seen, left.min(Duration::from_millis(100)));
                }
            }
        }
    }

    fn remeasure(&self) {
        for lane in self.lane.shared.all_lanes() {
            lane.measure();
        }
    }
}
