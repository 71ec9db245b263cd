//! Completion of a block, shared by all rows in it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, MutexGuard};

/// Error of appending a block. Nothing of it is or will be on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockAppendError {
    /// A write or sync failed; the volume accepts nothing until it is reopened.
    #[error("the volume accepts no more data since an earlier failure: {0}")]
    Failed(Arc<str>),
    /// The disk or its quota is full.
    #[error("the volume is full: {0}")]
    Full(Arc<str>),
    /// The block exceeds the maximum size.
    #[error("the rows of one block are over the maximum: {0}")]
    TooLarge(Arc<str>),
    /// The stream accepts no more blocks.
    #[error("the slice is closed")]
    Closed,
    #[error("{0}")]
    Other(Arc<str>),
}

/// Outcome of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// Its rows are as safe as the sink's sync mode promises.
    Stored,
    /// Nothing of the block was written.
    Rejected(BlockAppendError),
    /// The write or sync failed: its rows may be stored or not.
    Unknown(Arc<str>),
}

#[derive(Debug)]
enum CompletionState {
    Waiting(Vec<Waker>),
    Done(AppendOutcome),
}

#[derive(Debug)]
pub(super) struct BlockCompletion(Mutex<CompletionState>);

impl BlockCompletion {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(CompletionState::Waiting(Vec::new()))))
    }

    fn lock(&self) -> MutexGuard<'_, CompletionState> {
        // Nothing that can panic runs under the lock.
        self.0.lock()
    }

    /// Ends the wait of all; only the first call counts.
    pub(super) fn complete(&self, outcome: AppendOutcome) {
        let wakers = match &mut *self.lock() {
            CompletionState::Done(_) => return,
            state => match std::mem::replace(state, CompletionState::Done(outcome)) {
                CompletionState::Waiting(wakers) => wakers,
                CompletionState::Done(_) => Vec::new(),
            },
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Resolves when the block that holds the caller's rows is complete. Dropping it changes nothing:
/// the rows stay in their block.
#[derive(Debug)]
#[must_use = "rows are acknowledged only when this has resolved"]
pub struct AppendTicket {
    completion: Arc<BlockCompletion>,
    waker_index: Option<usize>,
}

impl AppendTicket {
    pub(super) fn new(completion: &Arc<BlockCompletion>) -> Self {
        Self {
            completion: Arc::clone(completion),
            waker_index: None,
        }
    }
}

impl AppendTicket {
    pub(crate) fn try_outcome(&self) -> Option<AppendOutcome> {
        match &*self.completion.lock() {
            CompletionState::Done(outcome) => Some(outcome.clone()),
            CompletionState::Waiting(_) => None,
        }
    }
}

impl Future for AppendTicket {
    type Output = AppendOutcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<AppendOutcome> {
        let this = &mut *self;
        match &mut *this.completion.lock() {
            CompletionState::Done(outcome) => Poll::Ready(outcome.clone()),
            CompletionState::Waiting(wakers) => {
                match this.waker_index.and_then(|i| wakers.get_mut(i)) {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => {
                        this.waker_index = Some(wakers.len());
                        wakers.push(cx.waker().clone());
                    }
                }
                Poll::Pending
            }
        }
    }
}
