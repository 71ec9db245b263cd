//! Gates: every step of a component that reaches outside its process waits at one until the
//! schedule passes or fails it. So the order of all steps, and all failures, come from the seed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Kind of a step, and so how it can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A read of the metadata store.
    Get,
    /// A transaction, before it is committed.
    Commit,
    /// A committed transaction, before its response.
    Committed,
    /// An object on its way to staging, before anything of it is there.
    Put,
    /// A staged object, before the response.
    PutDone,
    /// A read of staging.
    Fetch,
    /// A removal from staging.
    Delete,
    /// An import whose rows were read, before its commit.
    Import,
    /// A committed import, before its response.
    Imported,
    /// A removal from the ledger.
    Forget,
    /// Blocks that wait for the disk.
    Sync,
    /// A stream to be closed.
    Close,
}

/// Decision about a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Fail,
}

#[derive(Debug)]
struct Waiting {
    step: Step,
    what: String,
    go: oneshot::Sender<Verdict>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Steps do not wait.
    open: bool,
}

/// All gates of a run. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gates(Arc<Mutex<Inner>>);

impl Gates {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the schedule decides about the step.
    pub(crate) async fn pass(&self, step: Step, what: &str) -> Verdict {
        let wait = {
            let mut inner = self.lock();
            if inner.open {
                return Verdict::Pass;
            }
            let (go, wait) = oneshot::channel();
            let id = inner.next;
            inner.next += 1;
            let what = what.to_owned();
            inner.waiting.insert(id, Waiting { step, what, go });
            wait
        };
        wait.await.unwrap_or(Verdict::Fail)
    }

    /// Waiting steps, in order of arrival.
    pub(crate) fn waiting(&self) -> Vec<(u64, Step)> {
        let mut inner = self.lock();
        // Steps that were cancelled by a timeout.
        inner.waiting.retain(|_, w| !w.go.is_closed());
        inner.waiting.iter().map(|(id, w)| (*id, w.step)).collect()
    }

    /// Decides about a step; returns its description.
    pub(crate) fn release(&self, id: u64, verdict: Verdict) -> Option<String> {
        let waiting = self.lock().waiting.remove(&id)?;
        let what = format!("{:?} {}", waiting.step, waiting.what);
        // A cancelled step ignores it.
        waiting.go.send(verdict).ok();
        Some(what)
    }

    /// Opens all gates, or lets later steps wait.
    pub(crate) fn set_open(&self, open: bool) {
        let mut inner = self.lock();
        inner.open = open;
        if open {
            for waiting in std::mem::take(&mut inner.waiting).into_values() {
                waiting.go.send(Verdict::Pass).ok();
            }
        }
    }

    /// Drops all waiting steps: their process has ended.
    pub(crate) fn clear(&self) {
        self.lock().waiting.clear();
    }
}
