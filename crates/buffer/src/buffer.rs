//! The handle: what a program does with a buffer.

mod closing;
mod letters;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use forebay_log::{AppendError, Env, Log, RecoveryReport, StdEnv};

pub use self::closing::Closing;
use crate::config::{BufferConfig, Mode};
use crate::deliver::{Deliverer, Next};
use crate::error::{OpenError, WriteError};
use crate::event::Events;
use crate::lane::LaneCore;
use crate::message::Message;
use crate::provider::Provider;
use crate::receipt::Accepted;
use crate::retention;
use crate::shared::{DEAD_STREAM, LANE_PREFIX, Shared};
use crate::stats::{LaneStats, Stats};
use crate::sync::lock;
use crate::topic::{MAX_TOPIC, Topic};
use crate::worker;

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

impl Buffer {
    /// Opens a buffer, and begins to deliver what waits in its directory.
    ///
    /// # Errors
    /// See [`BufferOpenError`].
    pub fn open(config: BufferConfig, provider: impl Provider) -> Result<Self, OpenError> {
        Self::open_in(Arc::new(StdEnv::new()), config, Arc::new(provider))
    }

    /// As [`Buffer::open`], on other files and clocks than those of the operating system.
    ///
    /// # Errors
    /// See [`BufferOpenError`].
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
        Ok(Topic::new(self.clone(), lane, topic))
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
                .map_err(|e| WriteError::Scarce(format!("can't start a thread: {e}")))?;
            lock(&self.inner.threads).push(thread);
        }
        lanes.insert(name.clone(), lane.clone());
        Ok(lane)
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
            waiting_bytes: shared.total_bytes.load(Ordering::Acquire),
            max_bytes: shared.config.max_bytes,
            files: volume.segments,
            file_bytes: volume.file_bytes,
            syncs: volume.syncs.count,
            disk_failed: volume.latched.map(|l| l.to_string()),
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
