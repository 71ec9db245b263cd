//! What a buffer tells besides its answers.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::sync::lock;

/// Something worth knowing about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BufferEvent {
    /// The provider does not take a lane's messages. It is tried again.
    ProviderDown {
        /// The lane.
        partition: Arc<str>,
        /// Why.
        error: String,
    },
    /// It takes them again.
    ProviderUp {
        /// The lane.
        partition: Arc<str>,
        /// How long it did not.
        after: Duration,
    },
    /// Messages were dropped that were not delivered, by the policy at a bound or by their age.
    Dropped {
        /// The lane.
        partition: Arc<str>,
        /// Everything below that was not sent yet.
        below: u64,
        /// About how many; the exact number is in the statistics.
        messages: u64,
    },
    /// A write waits for room.
    Blocked {
        /// The lane.
        partition: Arc<str>,
    },
    /// A message was refused for good, and set aside.
    DeadLetter {
        /// The lane.
        partition: Arc<str>,
        /// The message's sequence.
        sequence: u64,
        /// What the provider said.
        error: String,
    },
    /// Messages can't be read any more: the disk has damaged them.
    Lost {
        /// The lane.
        partition: Arc<str>,
        /// The first of them.
        sequence: u64,
        /// How many.
        messages: u64,
    },
    /// In [`BufferMode::OnError`](crate::BufferMode::OnError): from here on through the disk, or straight again.
    Buffering {
        /// The lane.
        partition: Arc<str>,
        /// Through the disk.
        on: bool,
    },
    /// The disk failed. Nothing is accepted until the buffer is opened anew.
    DiskFailed {
        /// What happened.
        error: String,
    },
    /// This receiver was too slow, and so many events before this one are missing.
    Missed(u64),
}

/// Events that a receiver may be behind.
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

/// All who listen.
#[derive(Default)]
pub(crate) struct EventListeners {
    mailboxes: Mutex<Vec<Weak<EventMailbox>>>,
}

impl EventListeners {
    pub(crate) fn subscribe(&self) -> EventStream {
        let mailbox = Arc::new(EventMailbox::default());
        lock(&self.mailboxes).push(Arc::downgrade(&mailbox));
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
        lock(&self.mailboxes).retain(|weak| {
            let Some(mailbox) = weak.upgrade() else {
                return false;
            };
            let mut queue = lock(&mailbox.queue);
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

/// Receives events from the moment it was made. Whoever does not listen misses nothing that
/// matters to delivery: events inform, they are no commands.
pub struct EventStream {
    mailbox: Arc<EventMailbox>,
}

impl EventStream {
    /// The next event, if one waits.
    #[must_use]
    pub fn try_next(&self) -> Option<BufferEvent> {
        take(&mut lock(&self.mailbox.queue))
    }

    /// Waits for the next event. `None`: nothing came within the time, or the buffer is closed.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> Option<BufferEvent> {
        let queue = lock(&self.mailbox.queue);
        let idle = |q: &mut EventQueue| q.waiting.is_empty() && q.missed == 0 && !q.closed;
        let waited = self.mailbox.arrived.wait_timeout_while(queue, limit, idle);
        take(&mut waited.unwrap_or_else(PoisonError::into_inner).0)
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
        let mut queue = lock(&self.events.mailbox.queue);
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
