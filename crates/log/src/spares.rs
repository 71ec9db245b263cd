//! Segments that are ready before they are needed: preallocated in the background, or reused.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::active::Room;
use crate::env::{Access, File, write_zeroes};
use crate::queue::lock;
use crate::segment::spare_name;

/// An empty segment. It is kept open: where the system has no descriptor left for anybody, the log
/// still has that of its next segment.
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
}

/// The empty segments.
#[derive(Default)]
pub(crate) struct Spares {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    ready: Vec<Spare>,
    /// How many there should be.
    want: usize,
    next: u64,
    /// The disk was full, or the system short of something: not again before somebody asks.
    resting: bool,
    stop: bool,
}

impl Spares {
    pub(crate) fn new(ready: Vec<Spare>, next: u64) -> Self {
        let state = State {
            ready,
            next,
            ..State::default()
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
    pub(crate) fn take(&self, want: usize) -> Option<Spare> {
        let mut state = lock(&self.state);
        let spare = state.ready.pop();
        state.want = want;
        state.resting = false;
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

    pub(crate) fn add(&self, spare: Spare) {
        lock(&self.state).ready.push(spare);
    }

    pub(crate) fn stop(&self) {
        lock(&self.state).stop = true;
        self.work.notify_all();
    }

    /// The thread that keeps spares ready.
    pub(crate) fn run(&self, room: &Room<'_>, size: u64) {
        loop {
            let mut state = lock(&self.state);
            while !state.stop && (state.resting || state.ready.len() >= state.want) {
                state = self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if state.stop {
                return;
            }
            drop(state);
            self.make(room, size);
        }
    }

    /// Makes one, if one is missing.
    pub(crate) fn make(&self, room: &Room<'_>, size: u64) {
        let Some(path) = self.adopt(room.dir, 0) else {
            return;
        };
        if let Some(file) = self.preallocate(room, &path, size) {
            self.add(Spare { path, file });
            return;
        }
        lock(&self.state).resting = true;
        // Nothing is lost with a spare; whatever made it fail, the writer will meet it itself.
        drop(room.env.remove(&path));
    }

    fn preallocate(
        &self,
        room: &Room<'_>,
        path: &std::path::Path,
        size: u64,
    ) -> Option<Arc<dyn File>> {
        if room.free().is_some_and(|free| free < size) {
            return None;
        }
        let file = room.env.open(path, Access::Create).ok()?;
        let mut at = 0;
        while at < size {
            if lock(&self.state).stop {
                return None;
            }
            let to = (at + room.step).min(size);
            write_zeroes(&*file, at, to).ok()?;
            // Step by step: one large sync would hold up the syncs of commits.
            file.sync_data().ok()?;
            at = to;
        }
        Some(file)
    }
}
