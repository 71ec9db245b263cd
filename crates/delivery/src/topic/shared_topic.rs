//! State of a sink that its writer, its delivery and its statistics share.

use std::sync::Arc;

use forebay_buffer::{DeliveryWorker, PartitionStats};
use forebay_model::{HttpMethod, TopicKind, TopicStatistics};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::replay_state::AckedRanges;

/// State of a sink that its writer, its delivery and its statistics share.
#[derive(Debug)]
pub(super) struct SharedTopic {
    delivery: Mutex<DeliverySlot>,
    /// Serializes changes to the delivery worker and the dead letters.
    lock: Mutex<()>,
    /// Resolved dead letters, once they were read.
    pub(super) acked: Mutex<Option<AckedRanges>>,
    /// Statistics from before a replay, while it runs: meanwhile some are dead letters and
    /// messages.
    pub(super) held_statistics: Mutex<Option<TopicStatistics>>,
    wake: Arc<Notify>,
}

#[derive(Debug, Default)]
pub(super) struct DeliverySlot {
    pub(super) worker: Option<(DeliverySpec, Arc<DeliveryWorker>)>,
    /// Error of starting a worker that should run.
    pub(super) problem: Option<String>,
}

/// Parameters of a delivery worker, which is replaced when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeliverySpec {
    pub(super) stream: String,
    pub(super) kind: TopicKind,
    pub(super) provider: String,
    pub(super) topic: String,
    pub(super) batches: bool,
    pub(super) method: HttpMethod,
}

/// State of a sink's delivery.
pub(super) enum DeliveryStatus {
    /// Statistics of the partition.
    Partition(PartitionStats),
    /// No worker runs, for this reason.
    Problem(String),
}

impl SharedTopic {
    pub(super) fn new(wake: Arc<Notify>) -> Self {
        Self {
            delivery: Mutex::default(),
            lock: Mutex::default(),
            acked: Mutex::default(),
            held_statistics: Mutex::default(),
            wake,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock()
    }

    /// Returns the lock if it is free.
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, ()>> {
        self.lock.try_lock()
    }

    pub(super) fn delivery(&self) -> MutexGuard<'_, DeliverySlot> {
        self.delivery.lock()
    }

    /// Shows these statistics until they are `None`, and retains all that is in the stream
    /// meanwhile. The caller holds the lock.
    pub(super) fn hold_statistics(&self, statistics: Option<TopicStatistics>) {
        if let Some((_, worker)) = &self.delivery().worker {
            worker.hold_cursor(statistics.is_some());
        }
        // Replaced as a whole.
        *self.held_statistics.lock() = statistics;
    }

    /// Remembers the state as it is on disk.
    pub(super) fn cache_ranges(&self, acked: AckedRanges) {
        // Replaced as a whole.
        *self.acked.lock() = Some(acked);
    }

    /// Whether a replay is in progress, as far as is known.
    pub(super) fn is_replaying(&self) -> bool {
        let acked = self.acked.lock();
        acked.as_ref().is_some_and(|s| s.pending_replay.is_some())
    }

    /// Wakes the worker after a commit.
    pub(super) fn wake_worker(&self) {
        match &self.delivery().worker {
            Some((_, worker)) => worker.wake(),
            None => self.wake.notify_one(),
        }
    }

    /// Ends the backoff of its delivery, or starts the delivery that failed to start.
    pub(super) fn retry_now(&self) {
        match &self.delivery().worker {
            Some((_, worker)) => worker.retry_now(),
            None => self.wake.notify_one(),
        }
    }

    /// State of its delivery; `None` when there is nothing to deliver or it is paused.
    pub(super) fn delivery_status(&self) -> Option<DeliveryStatus> {
        let slot = self.delivery();
        if let Some(problem) = &slot.problem {
            return Some(DeliveryStatus::Problem(problem.clone()));
        }
        let worker = slot.worker.as_ref().map(|(_, worker)| Arc::clone(worker));
        drop(slot);
        worker.map(|o| DeliveryStatus::Partition(o.stats()))
    }

    /// Detaches the worker; returns when its cursor is on disk.
    pub(super) fn detach(&self) {
        let worker = self.delivery().worker.take();
        if let Some((_, worker)) = worker {
            worker.close();
        }
    }
}
