//! The buffer handle: opening, writing, statistics.

mod closing;
mod dead_letters;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay_log::{Env, Log, LogAppendError, RecoveryReport, StdEnv};
use parking_lot::Mutex;

pub use self::closing::CloseMode;
use crate::config::{BufferConfig, BufferMode, MAX_TOPIC};
use crate::error::{BufferOpenError, WriteError};
use crate::event::EventStream;
use crate::message::Message;
use crate::open_buffer::OpenBuffer;
use crate::partition_set::PartitionSet;
use crate::provider::Provider;
use crate::receipt::AppendAck;
use crate::shared::{BufferState, DEAD_STREAM, PARTITION_PREFIX};
use crate::stats::{BufferStats, PartitionStats};
use crate::threads;
use crate::topic::Topic;

/// A message buffer. Cheap to clone. Dropping the last handle closes it; undelivered messages stay
/// on disk.
#[derive(Clone)]
pub struct Buffer {
    inner: Arc<OpenBuffer>,
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer")
            .field("dir", &self.inner.shared.config.dir)
            .finish_non_exhaustive()
    }
}

impl Buffer {
    /// Opens a buffer and starts to deliver the messages in its directory.
    pub fn open(config: BufferConfig, provider: impl Provider) -> Result<Self, BufferOpenError> {
        Self::open_in(Arc::new(StdEnv::new()), config, Arc::new(provider))
    }

    /// As [`Buffer::open`], with the files and clocks of `env`.
    pub fn open_in(
        env: Arc<dyn Env>,
        config: BufferConfig,
        provider: Arc<dyn Provider>,
    ) -> Result<Self, BufferOpenError> {
        config.validate()?;
        if provider.keeps_cursor() && config.mode != BufferMode::Always {
            return Err(BufferOpenError::Config {
                name: "mode",
                value: format!("{:?}", config.mode),
                allowed: format!("Always, because {} stores the cursor", provider.name()),
            });
        }
        let (log, recovery) = Log::open(env.clone(), Path::new(&config.dir), config.log())?;
        let dead = log
            .stream(DEAD_STREAM)
            .map_err(|e| unwritable_dir(&config, &e))?;
        let manual = config.manual;
        let shared = Arc::new(BufferState::new(env, log, config, provider, dead));
        let buffer = Self {
            inner: Arc::new(OpenBuffer {
                partitions: Arc::new(PartitionSet::new(shared.clone())),
                housekeeping: Arc::default(),
                threads: Mutex::default(),
                manual: Mutex::default(),
                shared: shared.clone(),
                recovery,
            }),
        };
        shared.measure_dead();
        let streams = shared.log.streams();
        let partitions: Vec<_> = streams
            .iter()
            .filter_map(|s| s.name.strip_prefix(PARTITION_PREFIX))
            .collect();
        let allowed = shared.config.max_partitions;
        if partitions.len() > allowed {
            let found = partitions.len();
            return Err(BufferOpenError::TooManyPartitions { found, allowed });
        }
        for name in partitions {
            let partition = buffer
                .inner
                .partition_named(&Arc::from(name))
                .map_err(|error| BufferOpenError::Config {
                    name: "dir",
                    value: name.to_owned(),
                    allowed: error.to_string(),
                })?;
            partition.measure();
        }
        if !manual {
            let housekeeping = buffer.inner.housekeeping.clone();
            let thread = threads::spawn_housekeeping(housekeeping, buffer.inner.partitions.clone())
                .map_err(BufferOpenError::Thread)?;
            buffer.inner.threads.lock().push(thread);
        }
        Ok(buffer)
    }

    /// The report of the recovery at opening, with any damage.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.inner.recovery
    }

    /// The buffer's id, chosen when its directory was created.
    pub fn id(&self) -> u64 {
        self.inner.shared.volume
    }

    /// A handle to write to a topic; faster than naming the topic with each message.
    ///
    /// # Errors
    /// [`WriteError::Invalid`] if the name is invalid or there are too many partitions.
    pub fn topic(&self, topic: &str) -> Result<Topic, WriteError> {
        if topic.is_empty() || topic.len() > MAX_TOPIC {
            return Err(WriteError::Invalid {
                field: "topic",
                value: format!("{} bytes long", topic.len()),
                allowed: format!("1 to {MAX_TOPIC} bytes"),
            });
        }
        let group = self.inner.shared.groups.get(topic).cloned();
        let partition_name = group.unwrap_or_else(|| Arc::from(topic));
        let partition = self.inner.partition_named(&partition_name)?;
        Ok(Topic::new(self.inner.clone(), partition, topic))
    }

    /// Writes a message and returns when it is accepted.
    pub async fn write(&self, topic: &str, message: Message) -> Result<AppendAck, WriteError> {
        self.topic(topic)?.write(&[message]).await
    }

    /// As [`Buffer::write`], blocking the thread.
    pub fn write_blocking(&self, topic: &str, message: Message) -> Result<AppendAck, WriteError> {
        self.topic(topic)?.write_blocking(&[message])
    }

    /// Writes messages of a topic with adjacent sequences and returns when all are accepted.
    ///
    /// # Errors
    /// If the disk fails, some of the messages may have been accepted.
    pub async fn write_batch(
        &self,
        topic: &str,
        messages: &[Message],
    ) -> Result<AppendAck, WriteError> {
        self.topic(topic)?.write(messages).await
    }

    /// As [`Buffer::write_batch`], blocking the thread.
    pub fn write_batch_blocking(
        &self,
        topic: &str,
        messages: &[Message],
    ) -> Result<AppendAck, WriteError> {
        self.topic(topic)?.write_blocking(messages)
    }

    /// Subscribes to events from now on.
    pub fn events(&self) -> EventStream {
        self.inner.shared.listeners.subscribe()
    }

    /// Current statistics.
    pub fn stats(&self) -> BufferStats {
        let shared = &self.inner.shared;
        shared.measure_dead();
        let volume = shared.log.volume_stats();
        BufferStats {
            at: shared.env.elapsed(),
            at_ms: shared.env.now_ms(),
            partitions: self
                .inner
                .partitions
                .all()
                .iter()
                .map(|partition| PartitionStats::from_state(partition))
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

    /// Runs all due work on this thread, for [`BufferConfig::manual`]. Returns the time until the
    /// next work is due, unless a write or an ack comes earlier.
    pub fn step(&self) -> Duration {
        self.inner.step()
    }
}

fn unwritable_dir(config: &BufferConfig, error: &LogAppendError) -> BufferOpenError {
    BufferOpenError::Config {
        name: "dir",
        value: config.dir.display().to_string(),
        allowed: format!("a writable directory ({error})"),
    }
}
