//! Thread pool for long work: few jobs run at a time, and clients are served round-robin by key, so
//! that one with many requests does not delay the others. Jobs run on threads that yield to those
//! that serve requests (`docs/adr/1472-…`).

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Weak, mpsc};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

/// Queue length of a key up to which cancelled waiters are not pruned.
const PRUNE_FROM: usize = 64;

/// Nice value of the threads: where all cores are busy, they get a third of the time of others.
const NICE: i32 = 5;

/// Bounds how many jobs run at a time.
#[derive(Debug)]
pub struct FairThreadPool(Mutex<FairPoolState>);

#[derive(Debug)]
struct FairPoolState {
    free: usize,
    /// Idle threads; as many as have ever worked at a time.
    idle: Vec<mpsc::SyncSender<PoolJob>>,
    /// Waiters by key; the first key is next.
    queues: VecDeque<(u64, VecDeque<oneshot::Sender<WorkPermit>>)>,
}

/// Right to run a job, passed on when it is dropped.
#[derive(Debug)]
pub struct WorkPermit(Option<Arc<FairThreadPool>>);

impl FairThreadPool {
    /// Creates a pool of `width` threads, at least one.
    pub fn new(width: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(FairPoolState {
            free: width.max(1),
            idle: Vec::new(),
            queues: VecDeque::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, FairPoolState> {
        // Nothing that can panic runs under the lock.
        self.0.lock()
    }

    /// Number of waiters.
    pub fn waiting(&self) -> usize {
        let state = self.lock();
        let all = state.queues.iter().flat_map(|(_, queue)| queue);
        // Cancelled waiters are noticed only when it is their turn.
        all.filter(|waiting| !waiting.is_closed()).count()
    }

    /// Waits for a permit. Waiters with the same `key` are served in order, different keys
    /// round-robin.
    pub async fn acquire(self: &Arc<Self>, key: u64) -> WorkPermit {
        self.acquire_at(key, false).await
    }

    /// Waits for the next permit: for a request that had one before, and has to begin again.
    pub(crate) async fn acquire_next(self: &Arc<Self>, key: u64) -> WorkPermit {
        self.acquire_at(key, true).await
    }

    async fn acquire_at(self: &Arc<Self>, key: u64, first: bool) -> WorkPermit {
        loop {
            let work_permit = {
                let mut state = self.lock();
                if state.free > 0 {
                    state.free -= 1;
                    return WorkPermit(Some(Arc::clone(self)));
                }
                state.enqueue(key, first)
            };
            // The sender is in the queue until it is used.
            if let Ok(work_permit) = work_permit.await {
                return work_permit;
            }
        }
    }

    /// Runs a job on one of the threads.
    fn execute(self: &Arc<Self>, mut work: PoolJob) {
        loop {
            let idle = self.lock().idle.pop();
            let Some(idle) = idle else { break };
            match idle.send(work) {
                Ok(()) => return,
                Err(mpsc::SendError(back)) => work = back,
            }
        }
        let pool = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name("large".to_owned());
        let (first, next) = mpsc::sync_channel(1);
        if thread.spawn(move || run_thread(&pool, next)).is_ok() {
            drop(first.send(work));
        } else {
            // The system can't start a thread; the runtime has some.
            tokio::task::spawn_blocking(|| work()());
        }
    }

    fn release(self: &Arc<Self>) {
        let mut state = self.lock();
        while let Some(next) = state.next_waiter() {
            match next.send(WorkPermit(Some(Arc::clone(self)))) {
                Ok(()) => return,
                // The waiter was cancelled: the permit is still ours.
                Err(mut work_permit) => work_permit.0 = None,
            }
        }
        state.free += 1;
    }
}

impl FairPoolState {
    fn enqueue(&mut self, key: u64, first: bool) -> oneshot::Receiver<WorkPermit> {
        let (sender, receiver) = oneshot::channel();
        if first {
            self.queues.push_front((key, VecDeque::from([sender])));
            return receiver;
        }
        let index = self.queues.iter().position(|(k, _)| *k == key);
        let index = index.unwrap_or_else(|| {
            self.queues.push_back((key, VecDeque::new()));
            self.queues.len() - 1
        });
        let queue = &mut self.queues[index].1;
        // Clients that cancel while no permit is free must not grow the queue.
        if queue.len() >= PRUNE_FROM && queue.len().is_power_of_two() {
            queue.retain(|waiting| !waiting.is_closed());
        }
        queue.push_back(sender);
        receiver
    }

    fn next_waiter(&mut self) -> Option<oneshot::Sender<WorkPermit>> {
        let (key, mut queue) = self.queues.pop_front()?;
        let next = queue.pop_front();
        if !queue.is_empty() {
            self.queues.push_back((key, queue));
        }
        next
    }
}

impl Drop for WorkPermit {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            pool.release();
        }
    }
}

/// A job; returns the function that notifies its waiter.
type PoolJob = Box<dyn FnOnce() -> Box<dyn FnOnce()> + Send>;

/// Runs jobs on a thread of the pool until the pool is dropped.
fn run_thread(pool: &Weak<FairThreadPool>, mut next: mpsc::Receiver<PoolJob>) {
    // Affects this thread only.
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "lowering the priority of a pool thread failed");
    }
    while let Ok(work) = next.recv() {
        let notify = work();
        let Some(pool) = pool.upgrade() else {
            return notify();
        };
        let (sender, receiver) = mpsc::sync_channel(1);
        next = receiver;
        pool.lock().idle.push(sender);
        drop(pool);
        // The thread is idle before its waiter can submit more work; otherwise another one would be
        // started.
        notify();
    }
}

/// Runs `work` on a thread of the permit's pool. It keeps its permit until it has ended, even if
/// its waiter is cancelled.
pub(crate) async fn run_on_pool<T: Send + 'static>(
    work_permit: WorkPermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> (WorkPermit, T) {
    let Some(pool) = work_permit.0.clone() else {
        return (work_permit, work());
    };
    let (sender, result) = mpsc::sync_channel::<(WorkPermit, Result<T, Box<dyn Any + Send>>)>(1);
    pool.execute(Box::new(move || {
        let done = catch_unwind(AssertUnwindSafe(work));
        // If the waiter was cancelled, the permit is passed on.
        Box::new(move || drop(sender.send((work_permit, done))))
    }));
    drop(pool);
    // One of the runtime's threads waits for the job: the runtime does not end before, and a paused
    // clock in a test stays paused.
    match tokio::task::spawn_blocking(move || result.recv()).await {
        Ok(Ok((work_permit, Ok(done)))) => (work_permit, done),
        Ok(Ok((_, Err(panic)))) => resume_unwind(panic),
        // The runtime is shutting down, and with it the caller.
        Ok(Err(_)) | Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn concurrency_is_bounded_and_keys_alternate() {
        let pool = FairThreadPool::new(2);
        let (first, second) = (pool.acquire(1).await, pool.acquire(1).await);
        // Three of one key, then one of another; the second of the first key is cancelled.
        let mut waiting: Vec<_> = [1, 1, 1, 2]
            .into_iter()
            .map(|key| Box::pin(pool.acquire(key)))
            .collect();
        for permit in &mut waiting {
            assert!(permit.now_or_never().is_none());
        }
        assert_eq!(pool.waiting(), 4);
        drop(waiting.remove(1));
        let mut of_two = waiting.pop().unwrap();
        drop(first);
        let permit = waiting.remove(0).now_or_never().unwrap();
        drop(second);
        let other = of_two.as_mut().now_or_never().unwrap();
        assert!(waiting[0].as_mut().now_or_never().is_none());
        drop(permit);
        let last = waiting.remove(0).now_or_never().unwrap();
        drop((other, last));
        // All permits are free again: cancelled waiters took none.
        let all = [
            pool.acquire(3).now_or_never(),
            pool.acquire(3).now_or_never(),
        ];
        assert!(all.iter().all(Option::is_some));
        assert!(pool.acquire(3).now_or_never().is_none());
    }

    #[tokio::test]
    async fn work_keeps_its_permit_when_its_waiter_is_cancelled() {
        let pool = FairThreadPool::new(1);
        let (go, wait) = mpsc::sync_channel::<()>(1);
        let permit = pool.acquire(1).await;
        let mut work = Box::pin(run_on_pool(permit, move || wait.recv()));
        assert!(work.as_mut().now_or_never().is_none());
        drop(work);
        let mut next = Box::pin(pool.acquire(2));
        assert!(next.as_mut().now_or_never().is_none());
        go.send(()).unwrap();
        drop(next.await);
    }

    #[tokio::test]
    async fn there_are_no_more_threads_than_permits_and_they_yield() {
        use rustix::process::getpriority_process;
        let pool = FairThreadPool::new(2);
        let own = getpriority_process(None).unwrap();
        let mut threads = std::collections::HashSet::new();
        for _ in 0..50 {
            let work = || {
                (
                    std::thread::current().id(),
                    getpriority_process(None).unwrap(),
                )
            };
            let (one, two) = (pool.acquire(1).await, pool.acquire(1).await);
            let both = futures::future::join(run_on_pool(one, work), run_on_pool(two, work)).await;
            for (_, (thread, nice)) in [both.0, both.1] {
                threads.insert(thread);
                assert_eq!(nice, (own + NICE).min(19));
            }
        }
        assert!(threads.len() <= 2, "{threads:?}");
        assert_eq!(getpriority_process(None).unwrap(), own);
    }

    #[tokio::test]
    async fn a_panic_reaches_the_waiter_and_the_permit_is_passed_on() {
        let pool = FairThreadPool::new(1);
        let permit = pool.acquire(1).await;
        let broken = tokio::spawn(run_on_pool(permit, || panic!("as meant")));
        assert!(broken.await.unwrap_err().is_panic());
        let permit = pool.acquire(1).await;
        assert_eq!(run_on_pool(permit, || 7).await.1, 7);
    }

    #[tokio::test]
    async fn a_request_that_begins_again_is_next() {
        let pool = FairThreadPool::new(1);
        let permit = pool.acquire(1).await;
        let mut others: Vec<_> = (1..3).map(|key| Box::pin(pool.acquire(key))).collect();
        assert!(others.iter_mut().all(|o| o.now_or_never().is_none()));
        let mut again = Box::pin(pool.acquire_next(1));
        assert!(again.as_mut().now_or_never().is_none());
        drop(permit);
        let permit = again.as_mut().now_or_never().unwrap();
        assert!(others[0].as_mut().now_or_never().is_none());
        drop(permit);
        for other in others {
            drop(other.now_or_never().unwrap());
        }
    }
}
