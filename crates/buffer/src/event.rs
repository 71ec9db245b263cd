//! Events of a buffer and their subscribers.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// A change of state that a buffer reports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BufferEvent {
    /// The provider does not accept a partition's messages; the buffer retries.
    ProviderDown {
        /// Name of the partition.
        partition: Arc<str>,
        /// The error.
        error: String,
    },
    /// The provider accepts them again.
    ProviderUp {
        /// Name of the partition.
        partition: Arc<str>,
        /// Time for which it did not.
        after: Duration,
    },
    /// Undelivered messages were dropped, at a limit or because of their age.
    Dropped {
        /// Name of the partition.
        partition: Arc<str>,
        /// Every message below was dropped unless it was sent.
        below: u64,
        /// Approximate number; the statistics have the exact one.
        messages: u64,
    },
    /// A write waits for free space.
    Blocked {
        /// Name of the partition.
        partition: Arc<str>,
    },
    /// The provider rejected a message for good; it is a dead letter.
    DeadLetter {
        /// Name of the partition.
        partition: Arc<str>,
        /// Sequence of the message.
        sequence: u64,
        /// The provider's error.
        error: String,
    },
    /// Messages are unreadable because of disk corruption.
    Lost {
        /// Name of the partition.
        partition: Arc<str>,
        /// The first lost sequence.
        sequence: u64,
        /// Number of messages.
        messages: u64,
    },
    /// [`BufferMode::OnError`](crate::BufferMode::OnError) switched to the disk or back to direct.
    Buffering {
        /// Name of the partition.
        partition: Arc<str>,
        /// Whether messages go through the disk.
        on: bool,
    },
    /// The disk failed. The buffer accepts nothing until it is reopened.
    DiskFailed {
        /// The cause.
        error: String,
    },
    /// This receiver was too slow and missed this many events.
    Missed(u64),
}

/// Maximum events queued per receiver.
const BACKLOG: usize = 1_024;

#[derive(Default)]
struct EventQueue {
    waiting: VecDeque<BufferEvent>,
    missed: u64,
    closed: bool,
    waker: Option<Waker>,
}

#[derive(Default)]
struct EventMailbox {
    queue: Mutex<EventQueue>,
    arrived: Condvar,
}

#[derive(Default)]
pub(crate) struct EventListeners {
    mailboxes: Mutex<Vec<Weak<EventMailbox>>>,
}

impl EventListeners {
    pub(crate) fn subscribe(&self) -> EventStream {
        let mailbox = Arc::new(EventMailbox::default());
        self.mailboxes.lock().push(Arc::downgrade(&mailbox));
        EventStream { mailbox }
    }

    pub(crate) fn publish(&self, event: &BufferEvent) {
        self.each(|queue| {
            if queue.waiting.len() >= BACKLOG {
                queue.waiting.pop_front();
                queue.missed += 1;
            }
            queue.waiting.push_back(event.clone());
        });
    }

    pub(crate) fn close(&self) {
        self.each(|queue| queue.closed = true);
    }

    fn each(&self, act: impl Fn(&mut EventQueue)) {
        self.mailboxes.lock().retain(|weak| {
            let Some(mailbox) = weak.upgrade() else {
                return false;
            };
            let mut queue = mailbox.queue.lock();
            act(&mut queue);
            let waker = queue.waker.take();
            drop(queue);
            mailbox.arrived.notify_all();
            if let Some(waker) = waker {
                waker.wake();
            }
            true
        });
    }
}

/// Receives events published after its creation. Delivery does not depend on receivers.
pub struct EventStream {
    mailbox: Arc<EventMailbox>,
}

impl EventStream {
    /// The next event, if one is queued.
    pub fn try_next(&self) -> Option<BufferEvent> {
        take(&mut self.mailbox.queue.lock())
    }

    /// Waits for the next event; `None` on timeout or when the buffer is closed.
    pub fn wait(&self, limit: Duration) -> Option<BufferEvent> {
        let mut queue = self.mailbox.queue.lock();
        let idle = |q: &mut EventQueue| q.waiting.is_empty() && q.missed == 0 && !q.closed;
        let arrived = &self.mailbox.arrived;
        arrived.wait_while_for(&mut queue, idle, limit);
        take(&mut queue)
    }

    /// The next event; `None` when the buffer is closed.
    pub fn next(&self) -> impl Future<Output = Option<BufferEvent>> + '_ {
        NextEvent { events: self }
    }
}

fn take(queue: &mut EventQueue) -> Option<BufferEvent> {
    match std::mem::take(&mut queue.missed) {
        0 => queue.waiting.pop_front(),
        missed => Some(BufferEvent::Missed(missed)),
    }
}

struct NextEvent<'a> {
    events: &'a EventStream,
}

impl Future for NextEvent<'_> {
    type Output = Option<BufferEvent>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut queue = self.events.mailbox.queue.lock();
        match take(&mut queue) {
            Some(event) => Poll::Ready(Some(event)),
            None if queue.closed => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
