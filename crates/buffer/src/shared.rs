//! What all parts of a buffer have in common.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use forebay_log::{Env, Log, Reservation, StreamId};

use crate::config::{BufferConfig, BufferMode};
use crate::event::{BufferEvent, EventListeners};
use crate::partition::PartitionState;
use crate::provider::Provider;
use crate::sync::{ChangeNotifier, lock};

/// Streams of lanes begin with this, so that names of topics can't meet other streams.
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
    /// Something has changed that a waiting write may be glad of.
    pub(crate) change: ChangeNotifier,
    /// Encoded bytes of all lanes and dead letters: with the log, and on their way to it.
    pub(crate) total_bytes: AtomicU64,
    pub(crate) dead_bytes: AtomicU64,
    /// By name of the partition.
    pub(crate) partitions: RwLock<HashMap<Arc<str>, Arc<PartitionState>>>,
    /// From topic to group.
    pub(crate) groups: HashMap<Arc<str>, Arc<str>>,
    disk_failed: AtomicBool,
    /// Room that messages never take: a cursor that moves on has to be written before it frees any.
    _for_cursors: Option<Reservation>,
    /// One dropper at a time: two would drop twice as much as is needed.
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

    /// For a stream of a log that others write, too: no room of it is set aside. `id` is what the
    /// provider is told as the buffer's.
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
            partitions: RwLock::default(),
            groups,
            disk_failed: AtomicBool::new(false),
            dropping: Mutex::new(()),
        }
    }

    /// Whether writes go straight to the provider while all is well.
    pub(crate) fn is_direct(&self) -> bool {
        self.config.mode != BufferMode::Always
    }

    pub(crate) fn all_partitions(&self) -> Vec<Arc<PartitionState>> {
        let partitions = self
            .partitions
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut all: Vec<_> = partitions.values().cloned().collect();
        drop(partitions);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub(crate) fn report(&self, event: BufferEvent) {
        match &event {
            BufferEvent::ProviderDown { partition, error } => {
                tracing::warn!(%partition, %error, "provider is down");
            }
            BufferEvent::ProviderUp { partition, after } => {
                tracing::info!(%partition, ?after, "provider is up again");
            }
            BufferEvent::Dropped {
                partition,
                below,
                messages,
            } => {
                tracing::warn!(%partition, below, messages, "dropped messages that were not delivered");
            }
            BufferEvent::DeadLetter {
                partition,
                sequence,
                error,
            } => {
                tracing::warn!(%partition, sequence, %error, "message is a dead letter");
            }
            BufferEvent::Lost {
                partition,
                sequence,
                messages,
            } => {
                tracing::error!(%partition, sequence, messages, "messages are lost by damage of the disk");
            }
            BufferEvent::Buffering { partition, on } => tracing::info!(%partition, on, "buffering"),
            BufferEvent::DiskFailed { error } => tracing::error!(%error, "the disk failed"),
            BufferEvent::Blocked { partition } => {
                tracing::debug!(%partition, "a write waits for room")
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

    /// Looks up how much the dead letters take.
    pub(crate) fn measure_dead(&self) {
        let now = self.log.stats(self.dead).map_or(0, |s| s.stored_bytes);
        let _one = lock(&self.dropping);
        let before = self.dead_bytes.swap(now, Ordering::AcqRel);
        replace(&self.total_bytes, before, now);
    }
}

/// Takes one amount out of a sum and puts another in.
pub(crate) fn replace(sum: &AtomicU64, before: u64, now: u64) {
    if now >= before {
        sum.fetch_add(now - before, Ordering::AcqRel);
    } else {
        sum.fetch_sub(before - now, Ordering::AcqRel);
    }
}

/// So much, or less where there is less: a disk may be full already.
fn reserve(log: &Log, bytes: u64) -> Option<Reservation> {
    let sizes = std::iter::successors(Some(bytes), |size| Some(size / 2)).take(8);
    sizes.filter_map(|size| log.reserve(size).ok()).next()
}
