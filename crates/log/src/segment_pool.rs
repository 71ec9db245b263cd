//! Empty segments ready for use: preallocated in the background, or recycled.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::active_segment::FreeSpace;
use crate::env::{Env, EnvFile, FileAccess, write_zeroes};
use crate::segment::spare_name;

/// An empty segment. It stays open, so that the log has a descriptor for its next segment even when
/// the system has none left.
pub(crate) struct SpareSegment {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn EnvFile>,
}

/// The spare segments.
#[derive(Default)]
pub(crate) struct SegmentPool {
    state: Mutex<SegmentPoolState>,
    work: Condvar,
    /// Wakes whoever waits for the end of a preallocation.
    made: Condvar,
}

#[derive(Default)]
struct SegmentPoolState {
    ready: Vec<SpareSegment>,
    /// Number of spares to keep ready.
    want: usize,
    next: u64,
    /// The disk was full or a resource scarce: don't retry before the next request.
    paused: bool,
    /// A spare is being preallocated.
    making: bool,
    stop: bool,
}

impl SegmentPool {
    pub(crate) fn new(ready: Vec<SpareSegment>, next: u64) -> Self {
        let state = SegmentPoolState {
            ready,
            next,
            ..SegmentPoolState::default()
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            made: Condvar::new(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.state.lock().ready.len()
    }

    /// Takes a ready spare, and sets the number of spares to keep ready.
    pub(crate) fn take(&self, want: usize) -> Option<SpareSegment> {
        let mut state = self.state.lock();
        let spare = state.ready.pop();
        state.want = want;
        state.paused = false;
        self.work.notify_all();
        spare
    }

    /// Returns the path for one more spare, if fewer than wanted plus `more` are ready.
    pub(crate) fn adopt(&self, dir: &std::path::Path, more: usize) -> Option<PathBuf> {
        let mut state = self.state.lock();
        if state.ready.len() >= state.want + more {
            return None;
        }
        state.next += 1;
        Some(dir.join(spare_name(state.next)))
    }

    pub(crate) fn add(&self, spare: SpareSegment) {
        self.state.lock().ready.push(spare);
    }

    /// Gives the space of all spares back to the file system, also of the one being preallocated;
    /// `false` when there was none. Records need the space more than a spare does.
    pub(crate) fn free(&self, env: &dyn Env) -> bool {
        let mut state = self.state.lock();
        state.paused = true;
        let mut freed = state.making;
        while state.making {
            self.made.wait(&mut state);
        }
        for spare in std::mem::take(&mut state.ready) {
            freed |= env.remove(&spare.path).is_ok();
        }
        freed
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.work.notify_all();
    }

    /// The thread that keeps spares ready.
    pub(crate) fn run(&self, free_space: &FreeSpace<'_>, size: u64) {
        loop {
            let mut state = self.state.lock();
            while !state.stop && (state.paused || state.ready.len() >= state.want) {
                self.work.wait(&mut state);
            }
            if state.stop {
                return;
            }
            drop(state);
            self.make(free_space, size);
        }
    }

    /// Makes one spare, if one is missing.
    pub(crate) fn make(&self, free_space: &FreeSpace<'_>, size: u64) {
        let Some(path) = self.adopt(free_space.dir, 0) else {
            return;
        };
        self.state.lock().making = true;
        let file = self.preallocate(free_space, &path, size);
        if file.is_none() {
            // A spare is only an optimization; the writer meets the cause itself.
            drop(free_space.env.remove(&path));
        }
        let mut state = self.state.lock();
        match file {
            Some(file) => state.ready.push(SpareSegment { path, file }),
            None => state.paused = true,
        }
        state.making = false;
        drop(state);
        self.made.notify_all();
    }

    fn preallocate(
        &self,
        free_space: &FreeSpace<'_>,
        path: &std::path::Path,
        size: u64,
    ) -> Option<Arc<dyn EnvFile>> {
        if free_space.free().is_some_and(|free| free < size) {
            return None;
        }
        let file = free_space.env.open(path, FileAccess::Create).ok()?;
        let mut at = 0;
        while at < size {
            let state = self.state.lock();
            if state.stop || state.paused {
                return None;
            }
            drop(state);
            let to = (at + free_space.step).min(size);
            write_zeroes(&*file, at, to).ok()?;
            // Step by step: one large sync would delay the syncs of commits.
            file.sync_data().ok()?;
            at = to;
        }
        Some(file)
    }
}
