//! The promise that a write gets an answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::WriteError;
use crate::sync::lock;

/// Where accepted messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Sequence of the first message in its lane; those of a batch follow one after another.
    /// `None` when the messages went straight to the provider.
    pub sequence: Option<u64>,
    /// They are in the buffer. Otherwise the provider has confirmed them.
    pub buffered: bool,
}

/// What became of a block of messages.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Buffered { first_seq: Option<u64> },
    Delivered,
    Failed(WriteError),
    Each(Arc<Vec<Result<(), WriteError>>>),
}

/// A block's fate, once it is known. All writers of a block ask for it, and most of them late: then
/// it costs no lock.
#[derive(Default)]
pub(crate) struct Pending {
    /// Set under the lock of those who wait, so that nobody is missed who goes to sleep just then.
    fate: OnceLock<Fate>,
    waiting: Mutex<Waiting>,
    known: Condvar,
    /// Of a write over several blocks: its parts of them, which know what became of it.
    parts: Vec<Part>,
}

#[derive(Default)]
struct Waiting {
    wakers: Vec<Waker>,
    /// Threads that sleep: waking nobody would cost a system call.
    threads: usize,
}

impl Pending {
    /// The first word counts.
    pub(crate) fn resolve(&self, fate: Fate) {
        let mut waiting = lock(&self.waiting);
        self.fate.get_or_init(|| fate);
        let Waiting { wakers, threads } = std::mem::take(&mut *waiting);
        drop(waiting);
        if threads > 0 {
            self.known.notify_all();
        }
        for waker in wakers {
            waker.wake();
        }
    }

    fn wait(&self) -> &Fate {
        if let Some(fate) = self.fate.get() {
            return fate;
        }
        let mut waiting = lock(&self.waiting);
        loop {
            if let Some(fate) = self.fate.get() {
                return fate;
            }
            waiting.threads += 1;
            waiting = self
                .known
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn poll(&self, waker: &Waker) -> Option<&Fate> {
        if self.fate.get().is_none() {
            let mut waiting = lock(&self.waiting);
            let known = self.fate.get().is_some();
            if !known && !waiting.wakers.iter().any(|w| w.will_wake(waker)) {
                waiting.wakers.push(waker.clone());
            }
        }
        self.fate.get()
    }

    fn known(&self) -> Option<&Fate> {
        self.fate.get()
    }
}

/// Messages of one write within one block.
pub(crate) struct Part {
    pub(crate) pending: Arc<Pending>,
    pub(crate) index: u32,
    pub(crate) count: u32,
}

impl Part {
    fn outcome(&self, fate: &Fate) -> Result<Accepted, WriteError> {
        match fate {
            Fate::Buffered { first_seq } => Ok(Accepted {
                sequence: first_seq.map(|first| first + u64::from(self.index)),
                buffered: true,
            }),
            Fate::Delivered => Ok(Accepted {
                sequence: None,
                buffered: false,
            }),
            Fate::Failed(error) => Err(error.clone()),
            Fate::Each(results) => {
                let ours = results
                    .iter()
                    .skip(self.index as usize)
                    .take(self.count as usize);
                let failed = ours.filter_map(|r| r.as_ref().err()).next();
                failed.map_or(
                    Ok(Accepted {
                        sequence: None,
                        buffered: false,
                    }),
                    |error| Err(error.clone()),
                )
            }
        }
    }
}

/// A promise that messages which were handed over will be accepted: await it, or call
/// [`AppendReceipt::wait`]. It may be dropped: the messages go their way nevertheless.
// Two words: receipts are kept by the thousand, and what fits into registers is handed through fast.
#[must_use = "messages are accepted when their receipt says so, not before"]
pub struct Receipt(Part);

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipt").finish_non_exhaustive()
    }
}

impl Receipt {
    /// Of a write that is in one block.
    pub(crate) fn new(part: Part) -> Self {
        Self(part)
    }

    /// Of a write over several blocks.
    pub(crate) fn of_parts(parts: Vec<Part>) -> Self {
        Self(Part {
            pending: Arc::new(Pending {
                parts,
                ..Pending::default()
            }),
            index: 0,
            count: 0,
        })
    }

    fn parts(&self) -> &[Part] {
        let parts = self.0.pending.parts.as_slice();
        if parts.is_empty() {
            std::slice::from_ref(&self.0)
        } else {
            parts
        }
    }

    /// Blocks the thread until the messages are accepted or refused.
    ///
    /// # Errors
    /// See [`WriteError`]. Of several messages some may have been accepted.
    pub fn wait(self) -> Result<Accepted, WriteError> {
        let outcome = self.look(|pending| Some(pending.wait()));
        outcome.expect("it was waited for")
    }

    /// The answer, if there is one yet.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<Accepted, WriteError>> {
        self.look(Pending::known)
    }

    /// The place of the first message, or the first error.
    fn look(
        &self,
        fate: impl for<'a> Fn(&'a Pending) -> Option<&'a Fate>,
    ) -> Option<Result<Accepted, WriteError>> {
        let (first, rest) = self.parts().split_first()?;
        let accepted = first.outcome(fate(&first.pending)?);
        for part in rest {
            if let Err(error) = part.outcome(fate(&part.pending)?) {
                return Some(Err(error));
            }
        }
        Some(accepted)
    }
}

impl Future for Receipt {
    type Output = Result<Accepted, WriteError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = cx.waker();
        self.look(|pending| pending.poll(waker))
            .map_or(Poll::Pending, Poll::Ready)
    }
}
