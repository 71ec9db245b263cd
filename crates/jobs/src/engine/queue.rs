//! A bounded queue between two stages whose sender can wait until a receiver is idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, Notify, mpsc};

/// Idle receivers and queued items.
#[derive(Debug, Default)]
struct QueueDemand {
    waiting: AtomicUsize,
    queued: AtomicUsize,
    changed: Notify,
}

/// The sending half.
#[derive(Debug)]
pub(crate) struct QueueSender<T> {
    sender: mpsc::Sender<T>,
    demand: Arc<QueueDemand>,
}

/// The receiving half, shared by the workers of a stage.
#[derive(Debug)]
pub(crate) struct QueueReceiver<T> {
    receiver: Arc<Mutex<mpsc::Receiver<T>>>,
    demand: Arc<QueueDemand>,
}

// A derived `Clone` would require `T: Clone`.
impl<T> Clone for QueueSender<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            demand: Arc::clone(&self.demand),
        }
    }
}

impl<T> Clone for QueueReceiver<T> {
    fn clone(&self) -> Self {
        Self {
            receiver: Arc::clone(&self.receiver),
            demand: Arc::clone(&self.demand),
        }
    }
}

/// Creates a queue of at most `capacity` items.
pub(crate) fn queue<T>(capacity: usize) -> (QueueSender<T>, QueueReceiver<T>) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let demand = Arc::new(QueueDemand::default());
    let queue_sender = QueueSender {
        sender,
        demand: Arc::clone(&demand),
    };
    let queue_receiver = QueueReceiver {
        receiver: Arc::new(Mutex::new(receiver)),
        demand,
    };
    (queue_sender, queue_receiver)
}

impl<T> QueueSender<T> {
    /// Sends an item once there is capacity. False when all receivers are dropped.
    pub(crate) async fn send(&self, item: T) -> bool {
        let Ok(permit) = self.sender.reserve().await else {
            return false;
        };
        self.demand.queued.fetch_add(1, Ordering::SeqCst);
        permit.send(item);
        true
    }

    /// Waits until more receivers are idle than items are queued, or all receivers are dropped.
    pub(crate) async fn wait_for_demand(&self) {
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

impl<T> QueueReceiver<T> {
    /// Receives the next item; `None` when all senders are dropped.
    pub(crate) async fn receive(&self) -> Option<T> {
        let _waiting = WaitingReceiver::register(&self.demand);
        let item = self.receiver.lock().await.recv().await;
        if item.is_some() {
            self.demand.queued.fetch_sub(1, Ordering::SeqCst);
        }
        item
    }
}

/// Counts a receiver as idle until dropped.
struct WaitingReceiver<'a>(&'a QueueDemand);

impl<'a> WaitingReceiver<'a> {
    fn register(demand: &'a QueueDemand) -> Self {
        demand.waiting.fetch_add(1, Ordering::SeqCst);
        demand.changed.notify_waiters();
        Self(demand)
    }
}

impl Drop for WaitingReceiver<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn no_demand_while_all_receivers_are_busy() {
        let (sender, receiver) = queue(10);
        assert_eq!(sender.wait_for_demand().now_or_never(), None, "no receiver");
        let mut free = Box::pin(receiver.receive());
        assert_eq!((&mut free).now_or_never(), None);
        sender.wait_for_demand().await;
        assert!(sender.send(1).await);
        assert_eq!(
            sender.wait_for_demand().now_or_never(),
            None,
            "the item is for the idle receiver"
        );
        assert_eq!(free.await, Some(1));
        assert_eq!(
            sender.wait_for_demand().now_or_never(),
            None,
            "the receiver is busy"
        );
        drop(receiver);
        sender.wait_for_demand().await;
        assert!(!sender.send(2).await);
    }
}
