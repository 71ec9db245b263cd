//! What the handles, the writer and the readers of a volume have in common.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use crate::active::{Fail, Room};
use crate::commit::{Drive, Group};
use crate::config::LogConfig;
use crate::env::{Env, LockGuard};
use crate::error::{CommitError, Latched};
use crate::queue::{Mood, Queue, lock};
use crate::read::Store;
use crate::spares::Spares;
use crate::stats::{SyncStats, VolumeStats};
use crate::writer::Writer;

/// What the handles, the writer and the readers have in common.
pub(crate) struct Shared {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) config: LogConfig,
    pub(crate) volume: u64,
    pub(crate) store: Arc<Store>,
    pub(crate) queue: Mutex<Queue>,
    /// The writer waits here for work.
    pub(crate) work: Condvar,
    /// Appenders wait here for room.
    pub(crate) space: Condvar,
    pub(crate) spares: Spares,
    pub(crate) meters: Mutex<Meters>,
    pub(crate) watchers: Mutex<Vec<Waker>>,
    /// Grows with each commit.
    pub(crate) commits: AtomicU64,
    pub(crate) writer: Mutex<Writer>,
    /// Set when a segment may have become free, so that commits need not look.
    pub(crate) reclaim: AtomicBool,
    /// Held until the end.
    pub(crate) lock: Mutex<Option<LockGuard>>,
}

/// Counters since the log was opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meters {
    pub(crate) committed_blocks: u64,
    pub(crate) written_bytes: u64,
    pub(crate) moved_blocks: u64,
    pub(crate) reclaimed_segments: u64,
    pub(crate) syncs: SyncStats,
}

impl Shared {
    pub(crate) fn dir(&self) -> &Path {
        &self.store.dir
    }

    /// Bytes that changes may take where records may not: with small segments a volume may be
    /// smaller than a step.
    pub(crate) fn reserve(&self) -> u64 {
        let config = &self.config;
        config.preallocate_step.min(config.segment_size)
    }

    /// Room for blocks. A reserve is left free beside what others are to have: see `change_room`.
    pub(crate) fn space_room(&self) -> Room<'_> {
        Room {
            env: &*self.env,
            dir: self.dir(),
            step: self.config.preallocate_step,
            min_free: self.config.min_free_bytes.max(self.reserve()),
            spare: None,
        }
    }

    /// How many dead segments are kept to be written again: none where others may need the room.
    pub(crate) fn recycled(&self) -> usize {
        let most = self.config.recycled_segments;
        let all = (most as u64).saturating_mul(self.config.segment_size);
        let tight = self.space_room().free().is_some_and(|free| free < all);
        if tight { 0 } else { most }
    }

    /// Room for changes: all that there is. A trim needs a few hundred bytes, and on a full volume
    /// it is the only way to get any.
    pub(crate) fn change_room(&self) -> Room<'_> {
        let room = self.space_room();
        Room {
            min_free: 0,
            spare: Some(room.min_free),
            ..room
        }
    }

    /// The writer's thread.
    pub(crate) fn run(&self) {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work_loop()));
        if outcome.is_err() {
            // Else everybody who waits for a ticket would wait for ever.
            self.latch(
                "an internal error",
                "the writer panicked; please report this",
            );
        }
    }

    fn work_loop(&self) {
        loop {
            let mut queue = lock(&self.queue);
            while queue.ops.is_empty() && queue.mood == Mood::Running {
                queue = self
                    .work
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if queue.ops.is_empty() {
                return;
            }
            drop(queue);
            self.space_out();
            self.step();
        }
    }

    /// Waits until the next sync may start.
    fn space_out(&self) {
        let interval = self.config.sync_interval;
        if interval.is_zero() {
            return;
        }
        let last = lock(&self.writer).last_sync;
        let mut queue = lock(&self.queue);
        while queue.mood == Mood::Running {
            let left = (last + interval).saturating_sub(self.env.elapsed());
            if left.is_zero() {
                return;
            }
            // The clock is the environment's; the condition variable's is the real one.
            let step = left.min(Duration::from_millis(10));
            let waited = self.work.wait_timeout(queue, step);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Commits what waits. `false` when nothing did.
    pub(crate) fn step(&self) -> bool {
        let mut writer = lock(&self.writer);
        let (ops, group) = lock(&self.queue).take();
        if ops.is_empty() {
            return false;
        }
        match writer.commit(self, &ops, &group) {
            Ok(()) => {}
            Err(Fail::Full) => self.refuse(&group, &CommitError::Full),
            Err(Fail::Scarce { path, source }) => {
                let cause = format!("{}: {source}", path.display());
                self.refuse(&group, &CommitError::Scarce(cause.into()));
            }
            Err(Fail::Io {
                during,
                path,
                source,
            }) => {
                let cause = format!("{}: {source}", path.display());
                let latched = self.latch(during, &cause);
                group.fail(CommitError::MayHaveHappened(latched));
            }
        }
        self.made_room();
        writer.reclaim(self);
        true
    }

    fn made_room(&self) {
        let mut queue = lock(&self.queue);
        queue.writing = 0;
        let wakers = std::mem::take(&mut queue.room_wakers);
        drop(queue);
        self.space.notify_all();
        self.commits.fetch_add(1, Ordering::AcqRel);
        let watchers = std::mem::take(&mut *lock(&self.watchers));
        for waker in wakers.into_iter().chain(watchers) {
            waker.wake();
        }
    }

    /// The first failure: from now on nothing is taken.
    pub(crate) fn latch(&self, during: &'static str, cause: &str) -> Latched {
        let mut queue = lock(&self.queue);
        let latched = match &queue.mood {
            Mood::Latched(first) => first.clone(),
            _ => Latched {
                during,
                cause: Arc::from(cause),
                at_ms: self.env.now_ms(),
            },
        };
        queue.mood = Mood::Latched(latched.clone());
        let (_, waiting) = queue.take();
        drop(queue);
        waiting.fail(CommitError::MayHaveHappened(latched.clone()));
        self.made_room();
        latched
    }

    /// The volume is full, or the system is short of something: nothing that waits was written, and
    /// nothing of it will be. Sequences that were assigned are taken back, so no gap stays.
    fn refuse(&self, group: &Group, error: &CommitError) {
        let table = self.store.read();
        let mut queue = lock(&self.queue);
        let needed = (queue.writing + queue.bytes) as u64;
        let (_, waiting) = queue.take();
        queue.reset(&table);
        // So the next append looks at the file system anew.
        queue.space.room = 0;
        queue.space.refuse(needed);
        drop(queue);
        drop(table);
        group.fail(error.clone());
        waiting.fail(error.clone());
    }
}

impl Shared {
    pub(crate) fn volume_stats(&self) -> VolumeStats {
        let table = self.store.read();
        let spares = self.spares.count();
        let files: u64 = table.segments.values().map(|s| s.file_len).sum();
        let live = table.segments.values().map(|s| s.live_bytes).sum();
        let (streams, segments) = (table.streams.len(), table.segments.len());
        drop(table);
        let meters = lock(&self.meters).clone();
        let mut queue = lock(&self.queue);
        self.see_room(&mut queue);
        VolumeStats {
            volume: self.volume,
            streams,
            segments,
            spare_segments: spares,
            used_bytes: queue.space.used,
            live_bytes: live,
            file_bytes: files + spares as u64 * self.config.segment_size,
            reserved_bytes: queue.space.reserved,
            available_bytes: queue.available(self.config.max_bytes),
            queued_bytes: (queue.bytes + queue.writing) as u64,
            committed_blocks: meters.committed_blocks,
            written_bytes: meters.written_bytes,
            moved_blocks: meters.moved_blocks,
            reclaimed_segments: meters.reclaimed_segments,
            syncs: meters.syncs,
            refused: queue.space.refused,
            latched: match &queue.mood {
                Mood::Latched(latched) => Some(latched.clone()),
                Mood::Running | Mood::Shutdown => None,
            },
        }
    }
}

impl Drive for Shared {
    fn drive(&self) -> bool {
        self.step()
    }
}
