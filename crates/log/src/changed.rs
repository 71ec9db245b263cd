//! Waiting for the log: for room in its queue, or for the next commit.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll};

use crate::queue::{Mood, lock};
use crate::shared::Shared;

enum What {
    Room,
    Commit(u64),
}

/// Waits for a change of the log; see [`Log::change_future`](crate::Log::change_future) and
/// [`Log::queue_space`](crate::Log::queue_space).
pub struct Changed {
    shared: Arc<Shared>,
    what: What,
    registered: bool,
}

impl Changed {
    /// Ready when the queue was emptied once.
    pub(crate) fn room(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            what: What::Room,
            registered: false,
        }
    }

    /// Ready after the next commit.
    pub(crate) fn commit(shared: Arc<Shared>) -> Self {
        let seen = shared.commits.load(Ordering::Acquire);
        Self {
            shared,
            what: What::Commit(seen),
            registered: false,
        }
    }

    /// Blocks the thread; at most so long. `false` when nothing changed.
    pub fn wait_timeout(mut self, limit: std::time::Duration) -> bool {
        let parker = Arc::new(Parker::default());
        let waker = parker.clone().into();
        let mut cx = Context::from_waker(&waker);
        if Pin::new(&mut self).poll(&mut cx).is_ready() {
            return true;
        }
        let woken = lock(&parker.lock);
        let asleep = |(): &mut ()| !parker.woken.load(Ordering::Acquire);
        let waited = parker.wake.wait_timeout_while(woken, limit, asleep);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

#[derive(Default)]
struct Parker {
    woken: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl std::task::Wake for Parker {
    fn wake(self: Arc<Self>) {
        let _held = lock(&self.lock);
        self.woken.store(true, Ordering::Release);
        self.wake.notify_all();
    }
}

impl Future for Changed {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared.clone();
        match self.what {
            What::Room if shared.config.manual => {
                shared.step();
                return Poll::Ready(());
            }
            What::Room => {
                let mut queue = lock(&shared.queue);
                let pending = queue.bytes + queue.writing;
                let idle = pending == 0 || queue.mood != Mood::Running;
                if self.registered || idle {
                    return Poll::Ready(());
                }
                queue.room_wakers.push(cx.waker().clone());
                self.registered = true;
            }
            What::Commit(seen) => {
                let mut watchers = lock(&shared.watchers);
                let over = lock(&shared.queue).mood != Mood::Running;
                if shared.commits.load(Ordering::Acquire) != seen || over {
                    return Poll::Ready(());
                }
                watchers.push(cx.waker().clone());
            }
        }
        Poll::Pending
    }
}
