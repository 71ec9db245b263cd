//! Receipts: the pending outcome of a write.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use parking_lot::{Condvar, Mutex};

use crate::error::WriteError;

/// Location of accepted messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendAck {
    /// Sequence of the first message in its partition; the messages of a batch are adjacent. `None`
    /// when they went directly to the provider.
    pub sequence: Option<u64>,
    /// Whether they are in the buffer; otherwise the provider has confirmed them.
    pub buffered: bool,
}

/// Outcome of a block of messages.
#[derive(Clone, Debug)]
pub(crate) enum BlockOutcome {
    Buffered { first_seq: Option<u64> },
    Delivered,
    Failed(WriteError),
    Each(Arc<Vec<Result<(), WriteError>>>),
}

/// Outcome of a block, once it is known. All writers of a block read it, most of them after it is
/// set: then without a lock.
#[derive(Default)]
pub(crate) struct PendingOutcome {
    /// Set under the lock of `waiting`, so that no thread misses it between its check and its
    /// sleep.
    outcome: OnceLock<BlockOutcome>,
    waiting: Mutex<OutcomeWaiters>,
    resolved: Condvar,
    /// Parts of a write that spans several blocks; their outcomes make up its outcome.
    parts: Vec<WritePart>,
}

#[derive(Default)]
struct OutcomeWaiters {
    wakers: Vec<Waker>,
    /// Sleeping threads: notifying none would cost a system call.
    threads: usize,
}

impl PendingOutcome {
    /// Sets the outcome; later calls have no effect.
    pub(crate) fn resolve(&self, outcome: BlockOutcome) {
        let mut waiting = self.waiting.lock();
        self.outcome.get_or_init(|| outcome);
        let OutcomeWaiters { wakers, threads } = std::mem::take(&mut *waiting);
        drop(waiting);
        if threads > 0 {
            self.resolved.notify_all();
        }
        for waker in wakers {
            waker.wake();
        }
    }

    fn wait(&self) -> &BlockOutcome {
        if let Some(outcome) = self.outcome.get() {
            return outcome;
        }
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(outcome) = self.outcome.get() {
                return outcome;
            }
            waiting.threads += 1;
            self.resolved.wait(&mut waiting);
        }
    }

    fn poll(&self, waker: &Waker) -> Option<&BlockOutcome> {
        if self.outcome.get().is_none() {
            let mut waiting = self.waiting.lock();
            let resolved = self.outcome.get().is_some();
            if !resolved && !waiting.wakers.iter().any(|w| w.will_wake(waker)) {
                waiting.wakers.push(waker.clone());
            }
        }
        self.outcome.get()
    }

    fn get(&self) -> Option<&BlockOutcome> {
        self.outcome.get()
    }
}

/// The messages of one write in one block.
pub(crate) struct WritePart {
    pub(crate) pending: Arc<PendingOutcome>,
    pub(crate) index: u32,
    pub(crate) count: u32,
}

impl WritePart {
    fn outcome(&self, outcome: &BlockOutcome) -> Result<AppendAck, WriteError> {
        match outcome {
            BlockOutcome::Buffered { first_seq } => Ok(AppendAck {
                sequence: first_seq.map(|first| first + u64::from(self.index)),
                buffered: true,
            }),
            BlockOutcome::Delivered => Ok(AppendAck {
                sequence: None,
                buffered: false,
            }),
            BlockOutcome::Failed(error) => Err(error.clone()),
            BlockOutcome::Each(results) => {
                let ours = results
                    .iter()
                    .skip(self.index as usize)
                    .take(self.count as usize);
                let failed = ours.filter_map(|r| r.as_ref().err()).next();
                failed.map_or(
                    Ok(AppendAck {
                        sequence: None,
                        buffered: false,
                    }),
                    |error| Err(error.clone()),
                )
            }
        }
    }
}

/// Pending acknowledgement of messages: await it, or call [`AppendReceipt::wait`]. Dropping it does
/// not cancel the write.
// Two words: programs hold thousands of receipts, and two words are passed in registers.
#[must_use = "messages are accepted only when their receipt resolves"]
pub struct AppendReceipt(WritePart);

impl std::fmt::Debug for AppendReceipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppendReceipt").finish_non_exhaustive()
    }
}

impl AppendReceipt {
    /// A write in one block.
    pub(crate) fn new(part: WritePart) -> Self {
        Self(part)
    }

    /// A write that spans several blocks.
    pub(crate) fn from_parts(parts: Vec<WritePart>) -> Self {
        Self(WritePart {
            pending: Arc::new(PendingOutcome {
                parts,
                ..PendingOutcome::default()
            }),
            index: 0,
            count: 0,
        })
    }

    fn parts(&self) -> &[WritePart] {
        let parts = self.0.pending.parts.as_slice();
        if parts.is_empty() {
            std::slice::from_ref(&self.0)
        } else {
            parts
        }
    }

    /// Blocks the thread until the messages are accepted or rejected.
    ///
    /// # Errors
    /// Some of several messages may have been accepted.
    pub fn wait(self) -> Result<AppendAck, WriteError> {
        let outcome = self.combined_outcome(|pending| Some(pending.wait()));
        outcome.expect("waiting sets the outcome")
    }

    /// The outcome, if it is known.
    pub fn outcome(&self) -> Option<Result<AppendAck, WriteError>> {
        self.combined_outcome(PendingOutcome::get)
    }

    /// The location of the first message, or the first error.
    fn combined_outcome(
        &self,
        outcome_of: impl for<'a> Fn(&'a PendingOutcome) -> Option<&'a BlockOutcome>,
    ) -> Option<Result<AppendAck, WriteError>> {
        let (first, rest) = self.parts().split_first()?;
        let accepted = first.outcome(outcome_of(&first.pending)?);
        for part in rest {
            if let Err(error) = part.outcome(outcome_of(&part.pending)?) {
                return Some(Err(error));
            }
        }
        Some(accepted)
    }
}

impl Future for AppendReceipt {
    type Output = Result<AppendAck, WriteError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = cx.waker();
        self.combined_outcome(|pending| pending.poll(waker))
            .map_or(Poll::Pending, Poll::Ready)
    }
}
