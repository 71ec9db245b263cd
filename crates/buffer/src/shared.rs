//! State that all parts of a buffer share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use forebay_log::{Env, Log, Reservation, StreamId};
use parking_lot::Mutex;

use crate::config::{BufferConfig, BufferMode};
use crate::event::{BufferEvent, EventListeners};
use crate::provider::Provider;
use crate::sync::ChangeNotifier;

/// Prefix of the streams of partitions, so that a topic name can't collide with another stream.
pub(crate) const PARTITION_PREFIX: &str = "partition/";
/// The stream of dead letters.
pub(crate) const DEAD_STREAM: &str = "dead";

pub(crate) struct BufferState {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) log: Log,
    pub(crate) config: BufferConfig,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) volume: u64,
    pub(crate) dead: StreamId,
    pub(crate) listeners: EventListeners,
    /// Notified by every change that a waiting write may depend on.
    pub(crate) change: ChangeNotifier,
    /// Encoded bytes of all partitions and dead letters, in the log or on their way to it.
    pub(crate) total_bytes: AtomicU64,
    pub(crate) dead_bytes: AtomicU64,
    /// Topic to group.
    pub(crate) groups: HashMap<Arc<str>, Arc<str>>,
    disk_failed: AtomicBool,
    /// Space reserved for cursors: a cursor has to be written before it frees space.
    _for_cursors: Option<Reservation>,
    /// Serializes drops: two at a time would drop twice as much as needed.
    pub(crate) dropping: Mutex<()>,
}

impl BufferState {
    pub(crate) fn new(
        env: Arc<dyn Env>,
        log: Log,
        config: BufferConfig,
        provider: Arc<dyn Provider>,
        dead: StreamId,
    ) -> Self {
        let step = config.segment().min(config.log().preallocate_step);
        let volume = log.volume_stats().volume;
        Self {
            _for_cursors: reserve(&log, 2 * step),
            ..Self::for_stream(env, log, config, provider, dead, volume)
        }
    }

    /// State for a stream of a shared log, without reserved space. `id` is the buffer's id that the
    /// provider gets.
    pub(crate) fn for_stream(
        env: Arc<dyn Env>,
        log: Log,
        config: BufferConfig,
        provider: Arc<dyn Provider>,
        dead: StreamId,
        id: u64,
    ) -> Self {
        let mut groups = HashMap::new();
        for (group, topics) in &config.groups {
            let group: Arc<str> = Arc::from(group.as_str());
            for topic in topics {
                groups.insert(Arc::from(topic.as_str()), group.clone());
            }
        }
        Self {
            env,
            volume: id,
            _for_cursors: None,
            log,
            config,
            provider,
            dead,
            listeners: EventListeners::default(),
            change: ChangeNotifier::default(),
            total_bytes: AtomicU64::new(0),
            dead_bytes: AtomicU64::new(0),
            groups,
            disk_failed: AtomicBool::new(false),
            dropping: Mutex::new(()),
        }
    }

    /// Whether writes bypass the disk while the provider accepts them.
    pub(crate) fn is_direct(&self) -> bool {
        self.config.mode != BufferMode::Always
    }

    pub(crate) fn report(&self, event: BufferEvent) {
        match &event {
            BufferEvent::ProviderDown { partition, error } => {
                tracing::warn!(%partition, %error, "provider is down");
            }
            BufferEvent::ProviderUp { partition, after } => {
                tracing::info!(%partition, ?after, "provider is up");
            }
            BufferEvent::Dropped {
                partition,
                below,
                messages,
            } => {
                tracing::warn!(%partition, below, messages, "undelivered messages dropped");
            }
            BufferEvent::DeadLetter {
                partition,
                sequence,
                error,
            } => {
                tracing::warn!(%partition, sequence, %error, "message moved to the dead letters");
            }
            BufferEvent::Lost {
                partition,
                sequence,
                messages,
            } => {
                tracing::error!(%partition, sequence, messages, "messages lost to disk corruption");
            }
            BufferEvent::Buffering { partition, on } => tracing::info!(%partition, on, "buffering"),
            BufferEvent::DiskFailed { error } => tracing::error!(%error, "disk failed"),
            BufferEvent::Blocked { partition } => {
                tracing::debug!(%partition, "write waits for free space")
            }
            BufferEvent::Missed(_) => {}
        }
        self.listeners.publish(&event);
    }

    pub(crate) fn disk_failed(&self, error: &str) {
        if !self.disk_failed.swap(true, Ordering::AcqRel) {
            self.report(BufferEvent::DiskFailed {
                error: error.to_owned(),
            });
        }
    }

    /// Refreshes the bytes of the dead letters.
    pub(crate) fn measure_dead(&self) {
        let now = self.log.stats(self.dead).map_or(0, |s| s.stored_bytes);
        let _one = self.dropping.lock();
        let before = self.dead_bytes.swap(now, Ordering::AcqRel);
        replace(&self.total_bytes, before, now);
    }
}

/// Replaces one amount in a sum by another.
pub(crate) fn replace(sum: &AtomicU64, before: u64, now: u64) {
    if now >= before {
        sum.fetch_add(now - before, Ordering::AcqRel);
    } else {
        sum.fetch_sub(before - now, Ordering::AcqRel);
    }
}

/// Reserves `bytes`, or less if the disk is nearly full.
fn reserve(log: &Log, bytes: u64) -> Option<Reservation> {
    let sizes = std::iter::successors(Some(bytes), |size| Some(size / 2)).take(8);
    sizes.filter_map(|size| log.reserve(size).ok()).next()
}
