//! Waiting for queue space or for the next commit.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use parking_lot::{Condvar, Mutex};

use crate::queue::WriterState;
use crate::shared::SharedVolume;

enum WaitCondition {
    QueueSpace,
    Commit(u64),
}

/// Waits for a change of the log; see [`Log::changed`](crate::Log::changed) and
/// [`Log::queue_space`](crate::Log::queue_space).
pub struct ChangeFuture {
    shared: Arc<SharedVolume>,
    condition: WaitCondition,
    registered: bool,
}

impl ChangeFuture {
    /// Resolves when the queue has been emptied once.
    pub(crate) fn queue_space(shared: Arc<SharedVolume>) -> Self {
        Self {
            shared,
            condition: WaitCondition::QueueSpace,
            registered: false,
        }
    }

    /// Resolves after the next commit.
    pub(crate) fn commit(shared: Arc<SharedVolume>) -> Self {
        let seen = shared.commits.load(Ordering::Acquire);
        Self {
            shared,
            condition: WaitCondition::Commit(seen),
            registered: false,
        }
    }

    /// Blocks the thread for at most `limit`. `false` when nothing changed.
    pub fn wait_timeout(mut self, limit: std::time::Duration) -> bool {
        let parker = Arc::new(ThreadParker::default());
        let waker = parker.clone().into();
        let mut cx = Context::from_waker(&waker);
        if Pin::new(&mut self).poll(&mut cx).is_ready() {
            return true;
        }
        let mut woken = parker.lock.lock();
        let asleep = |(): &mut ()| !parker.woken.load(Ordering::Acquire);
        parker.wake.wait_while_for(&mut woken, asleep, limit);
        // Not whether the time is over: the wake-up may have come with its end.
        parker.woken.load(Ordering::Acquire)
    }
}

#[derive(Default)]
struct ThreadParker {
    woken: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl std::task::Wake for ThreadParker {
    fn wake(self: Arc<Self>) {
        let _held = self.lock.lock();
        self.woken.store(true, Ordering::Release);
        self.wake.notify_all();
    }
}

impl Future for ChangeFuture {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared.clone();
        match self.condition {
            WaitCondition::QueueSpace if shared.config.manual => {
                shared.step();
                return Poll::Ready(());
            }
            WaitCondition::QueueSpace => {
                let mut queue = shared.queue.lock();
                let pending = queue.bytes + queue.writing;
                let idle = pending == 0 || queue.writer_state != WriterState::Running;
                if self.registered || idle {
                    return Poll::Ready(());
                }
                queue.space_wakers.push(cx.waker().clone());
                self.registered = true;
            }
            WaitCondition::Commit(seen) => {
                let mut watchers = shared.watchers.lock();
                let over = shared.queue.lock().writer_state != WriterState::Running;
                if shared.commits.load(Ordering::Acquire) != seen || over {
                    return Poll::Ready(());
                }
                watchers.push(cx.waker().clone());
            }
        }
        Poll::Pending
    }
}
