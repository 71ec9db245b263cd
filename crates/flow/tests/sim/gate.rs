//! Gates: every step of a part that reaches outside its process waits at one until the schedule
//! lets it pass, or makes it fail. So the order of everything, and what fails, comes from the seed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// What a step is, and so what can go wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A read of the metadata store.
    Get,
    /// A transaction, before it is committed.
    Commit,
    /// A transaction that is committed, before its answer.
    Committed,
    /// An object on its way to staging, before anything of it is there.
    Put,
    /// An object that is there, before the answer.
    PutDone,
    /// A read of staging.
    Fetch,
    /// A removal from staging.
    Delete,
    /// An import whose rows were read, before its commit.
    Import,
    /// An import that is committed, before its answer.
    Imported,
    /// A removal from the ledger.
    Forget,
    /// Blocks that wait for the disk.
    Sync,
    /// A stream that is to be closed.
    Close,
}

/// What becomes of a step.
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
    /// Nobody waits.
    open: bool,
}

/// All gates of a run. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gates(Arc<Mutex<Inner>>);

impl Gates {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits to be let through.
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

    /// Steps that wait, in the order in which they came.
    pub(crate) fn waiting(&self) -> Vec<(u64, Step)> {
        let mut inner = self.lock();
        // Those that were given up meanwhile, by a timeout.
        inner.waiting.retain(|_, w| !w.go.is_closed());
        inner.waiting.iter().map(|(id, w)| (*id, w.step)).collect()
    }

    /// Lets one through; says what it was.
    pub(crate) fn release(&self, id: u64, verdict: Verdict) -> Option<String> {
        let waiting = self.lock().waiting.remove(&id)?;
        let what = format!("{:?} {}", waiting.step, waiting.what);
        // One that was given up has no use for it.
        waiting.go.send(verdict).ok();
        Some(what)
    }

    /// Opens all gates, or lets everything that comes from now on wait.
    pub(crate) fn set_open(&self, open: bool) {
        let mut inner = self.lock();
        inner.open = open;
        if open {
            for waiting in std::mem::take(&mut inner.waiting).into_values() {
                waiting.go.send(Verdict::Pass).ok();
            }
        }
    }

    /// Forgets whoever waits: their process has ended.
    pub(crate) fn clear(&self) {
        self.lock().waiting.clear();
    }
}
