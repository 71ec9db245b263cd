//! Group commit: operations that one sync makes durable, and the tickets that wait for them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::CommitError;

/// Sequences of an acknowledged block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedRange {
    /// Sequence of the block's first record.
    pub first_seq: u64,
    /// Sequence after its last record.
    pub next_seq: u64,
}

/// Operations that are committed together. All tickets of a batch share one: a ticket costs a
/// reference, not a channel.
#[derive(Default)]
pub(crate) struct CommitGroup {
    state: Mutex<CommitGroupState>,
    done: Condvar,
}

#[derive(Default)]
struct CommitGroupState {
    /// Number of committed operations, from the first.
    committed: usize,
    /// Outcome of the other operations.
    failed: Option<CommitError>,
    wakers: Vec<Waker>,
    /// Grows when `wakers` is emptied: positions in `wakers` are valid for one round only.
    round: u64,
}

impl CommitGroup {
    /// The first `committed` operations are durable.
    pub(crate) fn advance(&self, committed: usize) {
        let mut state = self.state.lock();
        assert!(
            state.failed.is_none(),
            "an operation that was reported as failed is committed"
        );
        debug_assert!(committed >= state.committed, "the watermark never falls");
        state.committed = state.committed.max(committed);
        self.wake(state);
    }

    /// Fails every operation that was not committed.
    pub(crate) fn fail(&self, error: CommitError) {
        let mut state = self.state.lock();
        state.failed.get_or_insert(error);
        self.wake(state);
    }

    fn wake(&self, mut state: MutexGuard<'_, CommitGroupState>) {
        let wakers = std::mem::take(&mut state.wakers);
        state.round += 1;
        drop(state);
        self.done.notify_all();
        for waker in wakers {
            waker.wake();
        }
    }
}

impl CommitGroupState {
    fn outcome(&self, index: usize) -> Option<Result<(), CommitError>> {
        if index < self.committed {
            return Some(Ok(()));
        }
        self.failed.clone().map(Err)
    }
}

/// Runs the writer on the calling thread, where the log has no thread of its own.
pub(crate) trait WriterDriver: Send + Sync {
    /// Commits queued operations. `false` when there were none.
    fn drive(&self) -> bool;
}

/// A future that resolves when a block is on disk; or call [`Ticket::wait`].
///
/// A ticket may be dropped: the block is written nevertheless.
#[must_use = "a block is durable only once its ticket resolves"]
pub struct Ticket {
    /// `None`: acknowledged when queued.
    group: Option<Arc<CommitGroup>>,
    index: usize,
    appended: AppendedRange,
    /// Round and index of our waker.
    waiting: Option<(u64, usize)>,
    driver: Option<Arc<dyn WriterDriver>>,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket")
            .field("appended", &self.appended)
            .finish_non_exhaustive()
    }
}

impl Ticket {
    pub(crate) fn new(
        group: Option<Arc<CommitGroup>>,
        index: usize,
        appended: AppendedRange,
        driver: Option<Arc<dyn WriterDriver>>,
    ) -> Self {
        Self {
            group,
            index,
            appended,
            waiting: None,
            driver,
        }
    }

    /// Sequence of the block's first record. Assigned before the block is on disk, and valid if the
    /// ticket succeeds.
    pub fn first_seq(&self) -> u64 {
        self.appended.first_seq
    }

    /// Sequence after the block's last record.
    pub fn next_seq(&self) -> u64 {
        self.appended.next_seq
    }

    /// The outcome, if it is known yet.
    pub fn outcome(&self) -> Option<Result<AppendedRange, CommitError>> {
        let Some(group) = &self.group else {
            return Some(Ok(self.appended));
        };
        let outcome = group.state.lock().outcome(self.index);
        outcome.map(|r| r.map(|()| self.appended))
    }

    /// Blocks the thread until the block is on disk, or can't be.
    ///
    /// # Errors
    /// [`CommitError::MayHaveHappened`] when the outcome is unknown; with all others the block was
    /// not written.
    pub fn wait(self) -> Result<AppendedRange, CommitError> {
        let Some(group) = &self.group else {
            return Ok(self.appended);
        };
        if let Some(driver) = &self.driver {
            while self.outcome().is_none() && driver.drive() {}
        }
        let mut state = group.state.lock();
        loop {
            if let Some(outcome) = state.outcome(self.index) {
                return outcome.map(|()| self.appended);
            }
            group.done.wait(&mut state);
        }
    }
}

impl Future for Ticket {
    type Output = Result<AppendedRange, CommitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(group) = self.group.clone() else {
            return Poll::Ready(Ok(self.appended));
        };
        if let Some(driver) = self.driver.clone() {
            while self.outcome().is_none() && driver.drive() {}
        }
        let mut state = group.state.lock();
        if let Some(outcome) = state.outcome(self.index) {
            return Poll::Ready(outcome.map(|()| self.appended));
        }
        let position = self.waiting.filter(|&(round, _)| round == state.round);
        if let Some(waker) = position.and_then(|(_, index)| state.wakers.get_mut(index)) {
            waker.clone_from(cx.waker());
        } else {
            let position = (state.round, state.wakers.len());
            state.wakers.push(cx.waker().clone());
            drop(state);
            self.waiting = Some(position);
        }
        Poll::Pending
    }
}
