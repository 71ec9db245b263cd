//! Change notification for threads and futures.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

/// Locks even if another thread panicked under the lock: our critical sections can't panic half way
/// through a change.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notifies waiters of changes. Read [`ChangeNotifier::seen`], check the condition, then wait.
#[derive(Default)]
pub(crate) struct ChangeNotifier {
    state: Mutex<ChangeState>,
    changed: Condvar,
}

#[derive(Default)]
struct ChangeState {
    number: u64,
    wakers: Vec<Waker>,
    /// Waiting threads: notifying none would cost a system call.
    threads: usize,
}

impl ChangeNotifier {
    pub(crate) fn seen(&self) -> u64 {
        lock(&self.state).number
    }

    pub(crate) fn notify(&self) {
        let mut state = lock(&self.state);
        state.number += 1;
        let wakers = std::mem::take(&mut state.wakers);
        let threads = state.threads;
        drop(state);
        if threads > 0 {
            self.changed.notify_all();
        }
        for waker in wakers {
            waker.wake();
        }
    }

    /// Blocks the thread until a change after `seen`, at most `limit`.
    pub(crate) fn wait(&self, seen: u64, limit: Duration) {
        let same = |state: &mut ChangeState| state.number == seen;
        let mut state = lock(&self.state);
        state.threads += 1;
        let waited = self.changed.wait_timeout_while(state, limit, same);
        waited.unwrap_or_else(PoisonError::into_inner).0.threads -= 1;
    }

    /// Registers the waker; `true` if there was a change after `seen` already.
    pub(crate) fn poll(&self, seen: u64, waker: &Waker) -> bool {
        let mut state = lock(&self.state);
        if state.number != seen {
            return true;
        }
        if !state.wakers.iter().any(|w| w.will_wake(waker)) {
            state.wakers.push(waker.clone());
        }
        false
    }
}
