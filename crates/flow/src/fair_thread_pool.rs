//! Work that takes long: few do it at a time, and whose turn is next goes round those who ask, so
//! that one with many requests does not keep the others from theirs. It is done on threads that the
//! system lets wait for those that answer requests (`docs/adr/1472-…`).

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};

use tokio::sync::oneshot;

/// Turns of one who asks up to which nobody looks for those who have left.
const PRUNE_FROM: usize = 64;

/// How much the threads yield to others: where all are busy they have a third of what others have.
const NICE: i32 = 5;

/// A bound on how many work at a time.
#[derive(Debug)]
pub struct FairThreadPool(Mutex<FairPoolState>);

#[derive(Debug)]
struct FairPoolState {
    free: usize,
    /// Threads that have nothing to do; as many as have ever worked at a time.
    idle: Vec<mpsc::SyncSender<PoolJob>>,
    /// Those who wait, by who they are; the first one's turn is next.
    queues: VecDeque<(u64, VecDeque<oneshot::Sender<WorkPermit>>)>,
}

/// The right to work, given on when it is dropped.
#[derive(Debug)]
pub struct WorkPermit(Option<Arc<FairThreadPool>>);

impl FairThreadPool {
    /// A lane for so many at a time, at least one.
    #[must_use]
    pub fn new(width: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(FairPoolState {
            free: width.max(1),
            idle: Vec::new(),
            queues: VecDeque::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, FairPoolState> {
        // Nothing that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let state = self.lock();
        let all = state.queues.iter().flat_map(|(_, queue)| queue);
        // Some have left, which is noticed when it is their turn.
        all.filter(|waiting| !waiting.is_closed()).count()
    }

    /// Waits for a turn. Those with the same `key` get theirs in order, and different ones in turn.
    pub async fn acquire(self: &Arc<Self>, key: u64) -> WorkPermit {
        self.acquire_at(key, false).await
    }

    /// Waits for the next turn: for one who had a turn before, and has to begin again.
    pub async fn acquire_next(self: &Arc<Self>, key: u64) -> WorkPermit {
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

    /// Has work done on one of the threads.
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
            // The system has no thread to give. The runtime has some.
            tokio::task::spawn_blocking(|| work()());
        }
    }

    fn release(self: &Arc<Self>) {
        let mut state = self.lock();
        while let Some(next) = state.next_waiter() {
            match next.send(WorkPermit(Some(Arc::clone(self)))) {
                Ok(()) => return,
                // It has left meanwhile. Its turn is still ours.
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
        // Clients that come and go while nobody gets a turn leave nothing behind.
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

/// What is to be done, and how whoever waits for it is told afterwards.
type PoolJob = Box<dyn FnOnce() -> Box<dyn FnOnce()> + Send>;

/// A thread of a lane, until the lane is gone.
fn run_thread(pool: &Weak<FairThreadPool>, mut next: mpsc::Receiver<PoolJob>) {
    // Of this thread alone.
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "the thread of large requests does not yield");
    }
    while let Ok(work) = next.recv() {
        let tell = work();
        let Some(pool) = pool.upgrade() else {
            return tell();
        };
        let (sender, receiver) = mpsc::sync_channel(1);
        next = receiver;
        pool.lock().idle.push(sender);
        drop(pool);
        // It is idle before anybody can have more work, or there would be a further thread for that.
        tell();
    }
}

/// Calls `work` on a thread of the turn's lane. It keeps the turn until it has ended, even when nobody
/// waits for it any longer.
pub async fn run_on_pool<T: Send + 'static>(
    work_permit: WorkPermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> (WorkPermit, T) {
    let Some(pool) = work_permit.0.clone() else {
        return (work_permit, work());
    };
    let (sender, result) = mpsc::sync_channel::<(WorkPermit, Result<T, Box<dyn Any + Send>>)>(1);
    pool.execute(Box::new(move || {
        let done = catch_unwind(AssertUnwindSafe(work));
        // Where nobody waits any more the turn is the next one's.
        Box::new(move || drop(sender.send((work_permit, done))))
    }));
    drop(pool);
    // One of the runtime's threads waits for it: the runtime does not end before, and a clock that
    // stands still in a test goes on doing so.
    match tokio::task::spawn_blocking(move || result.recv()).await {
        Ok(Ok((work_permit, Ok(done)))) => (work_permit, done),
        Ok(Ok((_, Err(panic)))) => resume_unwind(panic),
        // The runtime is ending, and with it whoever asks.
        Ok(Err(_)) | Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn few_work_at_a_time_and_turns_go_round() {
        let lane = FairThreadPool::new(2);
        let (first, second) = (lane.acquire(1).await, lane.acquire(1).await);
        // Three of one, then one of another; the second of the first has left.
        let mut waiting: Vec<_> = [1, 1, 1, 2]
            .into_iter()
            .map(|key| Box::pin(lane.acquire(key)))
            .collect();
        for turn in &mut waiting {
            assert!(turn.now_or_never().is_none());
        }
        assert_eq!(lane.waiting(), 4);
        drop(waiting.remove(1));
        let mut of_two = waiting.pop().unwrap();
        drop(first);
        let turn = waiting.remove(0).now_or_never().unwrap();
        drop(second);
        let other = of_two.as_mut().now_or_never().unwrap();
        assert!(waiting[0].as_mut().now_or_never().is_none());
        drop(turn);
        let last = waiting.remove(0).now_or_never().unwrap();
        drop((other, last));
        // All are free again: nothing was lost with those who left.
        let all = [
            lane.acquire(3).now_or_never(),
            lane.acquire(3).now_or_never(),
        ];
        assert!(all.iter().all(Option::is_some));
        assert!(lane.acquire(3).now_or_never().is_none());
    }

    #[tokio::test]
    async fn work_keeps_its_turn_when_nobody_waits_for_it() {
        let lane = FairThreadPool::new(1);
        let (go, wait) = mpsc::sync_channel::<()>(1);
        let turn = lane.acquire(1).await;
        let mut work = Box::pin(run_on_pool(turn, move || wait.recv()));
        assert!(work.as_mut().now_or_never().is_none());
        drop(work);
        let mut next = Box::pin(lane.acquire(2));
        assert!(next.as_mut().now_or_never().is_none());
        go.send(()).unwrap();
        drop(next.await);
    }

    #[tokio::test]
    async fn there_are_no_more_threads_than_turns_and_they_yield() {
        use rustix::process::getpriority_process;
        let lane = FairThreadPool::new(2);
        let own = getpriority_process(None).unwrap();
        let mut threads = std::collections::HashSet::new();
        for _ in 0..50 {
            let work = || {
                (
                    std::thread::current().id(),
                    getpriority_process(None).unwrap(),
                )
            };
            let (one, two) = (lane.acquire(1).await, lane.acquire(1).await);
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
    async fn a_panic_is_that_of_who_waits_and_the_turn_is_given_on() {
        let lane = FairThreadPool::new(1);
        let turn = lane.acquire(1).await;
        let broken = tokio::spawn(run_on_pool(turn, || panic!("as meant")));
        assert!(broken.await.unwrap_err().is_panic());
        let turn = lane.acquire(1).await;
        assert_eq!(run_on_pool(turn, || 7).await.1, 7);
    }

    #[tokio::test]
    async fn who_has_to_begin_again_is_next() {
        let lane = FairThreadPool::new(1);
        let turn = lane.acquire(1).await;
        let mut others: Vec<_> = (1..3).map(|key| Box::pin(lane.acquire(key))).collect();
        assert!(others.iter_mut().all(|o| o.now_or_never().is_none()));
        let mut again = Box::pin(lane.acquire_next(1));
        assert!(again.as_mut().now_or_never().is_none());
        drop(turn);
        let turn = again.as_mut().now_or_never().unwrap();
        assert!(others[0].as_mut().now_or_never().is_none());
        drop(turn);
        for other in others {
            drop(other.now_or_never().unwrap());
        }
    }
}
