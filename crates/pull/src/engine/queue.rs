//! A bounded queue between two stages whose giver can wait until a taker is free.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, Notify, mpsc};

/// Who is free, and what is on its way to them.
#[derive(Debug, Default)]
struct Demand {
    waiting: AtomicUsize,
    queued: AtomicUsize,
    changed: Notify,
}

/// The end that gives.
#[derive(Debug)]
pub(crate) struct Giver<T> {
    sender: mpsc::Sender<T>,
    demand: Arc<Demand>,
}

/// The end that takes; shared by the workers of a stage.
#[derive(Debug)]
pub(crate) struct Taker<T> {
    receiver: Arc<Mutex<mpsc::Receiver<T>>>,
    demand: Arc<Demand>,
}

// Derived ones would ask for `T: Clone`.
impl<T> Clone for Giver<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            demand: Arc::clone(&self.demand),
        }
    }
}

impl<T> Clone for Taker<T> {
    fn clone(&self) -> Self {
        Self {
            receiver: Arc::clone(&self.receiver),
            demand: Arc::clone(&self.demand),
        }
    }
}

/// A queue of at most `capacity` items.
pub(crate) fn queue<T>(capacity: usize) -> (Giver<T>, Taker<T>) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let demand = Arc::new(Demand::default());
    let giver = Giver {
        sender,
        demand: Arc::clone(&demand),
    };
    let taker = Taker {
        receiver: Arc::new(Mutex::new(receiver)),
        demand,
    };
    (giver, taker)
}

impl<T> Giver<T> {
    /// Gives an item, once there is room. False when all takers are gone.
    pub(crate) async fn give(&self, item: T) -> bool {
        let Ok(room) = self.sender.reserve().await else {
            return false;
        };
        self.demand.queued.fetch_add(1, Ordering::SeqCst);
        room.send(item);
        true
    }

    /// Waits until a taker is free that no queued item is for, or all are gone.
    pub(crate) async fn wanted(&self) {
        loop {
            let changed = self.demand.changed.notified();
            let waiting = self.demand.waiting.load(Ordering::SeqCst);
            if waiting > self.demand.queued.load(Ordering::SeqCst) {
                return;
            }
            tokio::select! {
                () = changed => {}
                () = self.sender.closed() => return,
            }
        }
    }
}

impl<T> Taker<T> {
    /// The next item, when there is one; nothing when all givers are gone.
    pub(crate) async fn take(&self) -> Option<T> {
        let _waiting = Waiting::begin(&self.demand);
        let item = self.receiver.lock().await.recv().await;
        if item.is_some() {
            self.demand.queued.fetch_sub(1, Ordering::SeqCst);
        }
        item
    }
}

/// A taker that is free, until dropped.
struct Waiting<'a>(&'a Demand);

impl<'a> Waiting<'a> {
    fn begin(demand: &'a Demand) -> Self {
        demand.waiting.fetch_add(1, Ordering::SeqCst);
        demand.changed.notify_waiters();
        Self(demand)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn nothing_is_wanted_while_all_takers_are_busy() {
        let (giver, taker) = queue(10);
        assert_eq!(giver.wanted().now_or_never(), None, "nobody is there");
        let mut free = Box::pin(taker.take());
        assert_eq!((&mut free).now_or_never(), None);
        giver.wanted().await;
        assert!(giver.give(1).await);
        assert_eq!(
            giver.wanted().now_or_never(),
            None,
            "the item is for the one"
        );
        assert_eq!(free.await, Some(1));
        assert_eq!(giver.wanted().now_or_never(), None, "the one is busy");
        drop(taker);
        giver.wanted().await;
        assert!(!giver.give(2).await);
    }
}
