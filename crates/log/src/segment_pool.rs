//! Segments that are ready before they are needed: preallocated in the background, or reused.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::active_segment::FreeSpace;
use crate::env::{EnvFile, FileAccess, write_zeroes};
use crate::queue::lock;
use crate::segment::spare_name;

/// An empty segment. It is kept open: where the system has no descriptor left for anybody, the log
/// still has that of its next segment.
pub(crate) struct SpareSegment {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn EnvFile>,
}

/// The empty segments.
#[derive(Default)]
pub(crate) struct SegmentPool {
    state: Mutex<SegmentPoolState>,
    work: Condvar,
}

#[derive(Default)]
struct SegmentPoolState {
    ready: Vec<SpareSegment>,
    /// How many there should be.
    want: usize,
    next: u64,
    /// The disk was full, or the system short of something: not again before somebody asks.
    paused: bool,
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
        }
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.state).ready.len()
    }

    /// One that is ready; and from now on `want` of them are kept.
    pub(crate) fn take(&self, want: usize) -> Option<SpareSegment> {
        let mut state = lock(&self.state);
        let spare = state.ready.pop();
        state.want = want;
        state.paused = false;
        self.work.notify_all();
        spare
    }

    /// Takes a file in, if fewer are ready than are kept and `more`; the path that it gets then.
    pub(crate) fn adopt(&self, dir: &std::path::Path, more: usize) -> Option<PathBuf> {
        let mut state = lock(&self.state);
        if state.ready.len() >= state.want + more {
            return None;
        }
        state.next += 1;
        Some(dir.join(spare_name(state.next)))
    }

    pub(crate) fn add(&self, spare: SpareSegment) {
        lock(&self.state).ready.push(spare);
    }

    pub(crate) fn stop(&self) {
        lock(&self.state).stop = true;
        self.work.notify_all();
    }

    /// The thread that keeps spares ready.
    pub(crate) fn run(&self, free_space: &FreeSpace<'_>, size: u64) {
        loop {
            let mut state = lock(&self.state);
            while !state.stop && (state.paused || state.ready.len() >= state.want) {
                state = self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if state.stop {
                return;
            }
            drop(state);
            self.make(free_space, size);
        }
    }

    /// Makes one, if one is missing.
    pub(crate) fn make(&self, free_space: &FreeSpace<'_>, size: u64) {
        let Some(path) = self.adopt(free_space.dir, 0) else {
            return;
        };
        if let Some(file) = self.preallocate(free_space, &path, size) {
            self.add(SpareSegment { path, file });
            return;
        }
        lock(&self.state).paused = true;
        // Nothing is lost with a spare; whatever made it fail, the writer will meet it itself.
        drop(free_space.env.remove(&path));
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
            if lock(&self.state).stop {
                return None;
            }
            let to = (at + free_space.step).min(size);
            write_zeroes(&*file, at, to).ok()?;
            // Step by step: one large sync would hold up the syncs of commits.
            file.sync_data().ok()?;
            at = to;
        }
        Some(file)
    }
}
