//! State shared by the handles, the writer and the readers of a volume.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::{Condvar, Mutex};

use crate::active_segment::FreeSpace;
use crate::config::LogConfig;
use crate::env::{Env, LockGuard};
use crate::error::{CommitError, LatchedFailure};
use crate::queue::{AppendQueue, WriterState};
use crate::read::CommittedState;
use crate::segment_pool::SegmentPool;
use crate::stats::{SyncStats, VolumeStats};
use crate::writer_state::LogWriter;

/// State shared by the handles, the writer and the readers.
pub(crate) struct SharedVolume {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) config: LogConfig,
    pub(crate) volume: u64,
    pub(crate) committed: Arc<CommittedState>,
    pub(crate) queue: Mutex<AppendQueue>,
    /// Wakes the writer.
    pub(crate) work: Condvar,
    /// Wakes appenders that wait for queue space.
    pub(crate) space: Condvar,
    pub(crate) segment_pool: SegmentPool,
    pub(crate) counters: Mutex<VolumeCounters>,
    pub(crate) watchers: Mutex<Vec<Waker>>,
    /// Number of commits.
    pub(crate) commits: AtomicU64,
    pub(crate) writer: Mutex<LogWriter>,
    /// Set when a segment may be dead, so that other commits need not look.
    pub(crate) reclaim: AtomicBool,
    /// Set when the last handle was dropped on the writer's thread, which then shuts down by itself.
    pub(crate) is_orphaned: AtomicBool,
    /// Held until shutdown.
    pub(crate) lock: Mutex<Option<LockGuard>>,
}

/// Counters since the log was opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct VolumeCounters {
    pub(crate) committed_blocks: u64,
    pub(crate) written_bytes: u64,
    pub(crate) relocated_blocks: u64,
    pub(crate) reclaimed_segments: u64,
    pub(crate) syncs: SyncStats,
}

impl SharedVolume {
    pub(crate) fn dir(&self) -> &Path {
        &self.committed.dir
    }

    /// Bytes reserved for control blocks: with small segments a volume may be smaller than a step.
    pub(crate) fn reserve(&self) -> u64 {
        let config = &self.config;
        config.preallocate_step.min(config.segment_size)
    }

    /// Space for data blocks; excludes the reserve, see `control_space`.
    pub(crate) fn data_space(&self) -> FreeSpace<'_> {
        FreeSpace {
            env: &*self.env,
            dir: self.dir(),
            step: self.config.preallocate_step,
            min_free: self.config.min_free_bytes.max(self.reserve()),
            spare: None,
        }
    }

    /// Number of dead segments to keep for reuse: none on a tight disk.
    pub(crate) fn recycled(&self) -> usize {
        let most = self.config.recycled_segments;
        let all = (most as u64).saturating_mul(self.config.segment_size);
        let tight = self.data_space().free().is_some_and(|free| free < all);
        if tight { 0 } else { most }
    }

    /// Space for control blocks: everything. A trim needs a few hundred bytes, and on a full volume
    /// only a trim can free space.
    pub(crate) fn control_space(&self) -> FreeSpace<'_> {
        let free_space = self.data_space();
        FreeSpace {
            min_free: 0,
            spare: Some(free_space.min_free),
            ..free_space
        }
    }

    pub(crate) fn release_queue_space(&self) {
        let mut queue = self.queue.lock();
        queue.writing = 0;
        let wakers = std::mem::take(&mut queue.space_wakers);
        drop(queue);
        self.space.notify_all();
        self.commits.fetch_add(1, Ordering::AcqRel);
        let watchers = std::mem::take(&mut *self.watchers.lock());
        for waker in wakers.into_iter().chain(watchers) {
            waker.wake();
        }
    }

    /// Latches the first failure: from now on nothing is accepted.
    pub(crate) fn latch(&self, during: &'static str, cause: &str) -> LatchedFailure {
        let mut queue = self.queue.lock();
        let latched = match &queue.writer_state {
            WriterState::Latched(first) => first.clone(),
            _ => LatchedFailure {
                during,
                cause: Arc::from(cause),
                at_ms: self.env.now_ms(),
            },
        };
        queue.writer_state = WriterState::Latched(latched.clone());
        let (_, waiting) = queue.take();
        drop(queue);
        waiting.fail(CommitError::MayHaveHappened(latched.clone()));
        self.release_queue_space();
        latched
    }
}

impl SharedVolume {
    pub(crate) fn volume_stats(&self) -> VolumeStats {
        let table = self.committed.read();
        let spare_segments = self.segment_pool.count();
        let files: u64 = table.segments.values().map(|s| s.file_len).sum();
        let live = table.segments.values().map(|s| s.live_bytes).sum();
        let (streams, segments) = (table.streams.len(), table.segments.len());
        drop(table);
        let counters = self.counters.lock().clone();
        let mut queue = self.queue.lock();
        self.refresh_free_space(&mut queue);
        VolumeStats {
            volume: self.volume,
            streams,
            segments,
            spare_segments,
            used_bytes: queue.space.used,
            live_bytes: live,
            file_bytes: files + spare_segments as u64 * self.config.segment_size,
            reserved_bytes: queue.space.reserved,
            available_bytes: queue.available(self.config.max_bytes),
            queued_bytes: (queue.bytes + queue.writing) as u64,
            committed_blocks: counters.committed_blocks,
            written_bytes: counters.written_bytes,
            relocated_blocks: counters.relocated_blocks,
            reclaimed_segments: counters.reclaimed_segments,
            syncs: counters.syncs,
            rejected: queue.space.rejected,
            latched: match &queue.writer_state {
                WriterState::Latched(latched) => Some(latched.clone()),
                WriterState::Running | WriterState::Shutdown => None,
            },
        }
    }
}
