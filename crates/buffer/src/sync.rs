//! Change notification for threads and futures.

use std::task::Waker;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

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
        self.state.lock().number
    }

    pub(crate) fn notify(&self) {
        let mut state = self.state.lock();
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
        let mut state = self.state.lock();
        state.threads += 1;
        self.changed.wait_while_for(&mut state, same, limit);
        state.threads -= 1;
    }

    /// Registers the waker; `true` if there was a change after `seen` already.
    pub(crate) fn poll(&self, seen: u64, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if state.number != seen {
            return true;
        }
        if !state.wakers.iter().any(|w| w.will_wake(waker)) {
            state.wakers.push(waker.clone());
        }
        false
    }
}
