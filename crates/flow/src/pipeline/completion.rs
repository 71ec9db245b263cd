//! One completion for all rows of a block: whoever has a row in it waits for the same moment.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::appender::AppendError;

/// How it ended for a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its rows are as safe as the sink's sync mode promises.
    Stored,
    /// They are not: nothing of the block was written.
    Refused(AppendError),
    /// The write or sync failed on its way: they may be stored or not.
    Unknown(Arc<str>),
}

#[derive(Debug)]
enum State {
    Waiting(Vec<Waker>),
    Done(Outcome),
}

/// The shared end of a block.
#[derive(Debug)]
pub(super) struct Completion(Mutex<State>);

impl Completion {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Waiting(Vec::new()))))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the wait of all; only the first call counts.
    pub(super) fn complete(&self, outcome: Outcome) {
        let wakers = match &mut *self.lock() {
            State::Done(_) => return,
            state => match std::mem::replace(state, State::Done(outcome)) {
                State::Waiting(wakers) => wakers,
                State::Done(_) => Vec::new(),
            },
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Resolves when the block that holds one's rows is done. Dropping it changes nothing: the rows
/// stay in their block.
#[derive(Debug)]
#[must_use = "rows are acknowledged only when this has resolved"]
pub struct Wait {
    completion: Arc<Completion>,
    slot: Option<usize>,
}

impl Wait {
    pub(super) fn new(completion: &Arc<Completion>) -> Self {
        Self {
            completion: Arc::clone(completion),
            slot: None,
        }
    }
}

impl Wait {
    /// How it ended, if it has.
    #[must_use]
    pub fn now(&self) -> Option<Outcome> {
        match &*self.completion.lock() {
            State::Done(outcome) => Some(outcome.clone()),
            State::Waiting(_) => None,
        }
    }
}

impl Future for Wait {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        match &mut *this.completion.lock() {
            State::Done(outcome) => Poll::Ready(outcome.clone()),
            State::Waiting(wakers) => {
                match this.slot.and_then(|i| wakers.get_mut(i)) {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => {
                        this.slot = Some(wakers.len());
                        wakers.push(cx.waker().clone());
                    }
                }
                Poll::Pending
            }
        }
    }
}
