//! The recent past, in memory: what watches read from.
//!
//! It starts empty when the store is opened. Whoever watches is in the same process, so nobody can
//! come with a revision from before (`docs/adr/0302`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::kv::store::{Revision, WatchBatch, WatchError, WatchEvent, WatchStream};

/// Events that one batch has at most, unless a single transaction has more.
const BATCH_EVENTS_MAX: usize = 1024;

/// What one transaction changed.
#[derive(Debug)]
pub(super) struct CommittedTxn {
    pub(super) revision: Revision,
    pub(super) events: Vec<WatchEvent>,
}

impl CommittedTxn {
    fn bytes(&self) -> usize {
        let size = |e: &WatchEvent| match e {
            WatchEvent::Put(entry) => entry.key.len() + entry.value.len(),
            WatchEvent::Delete { key, .. } => key.len(),
        };
        self.events.iter().map(size).sum()
    }
}

#[derive(Debug, Default)]
struct HistoryRing {
    /// In order and without gaps; the last one is the head.
    past: VecDeque<Arc<CommittedTxn>>,
    bytes: usize,
}

/// How much of the past is remembered.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimits {
    /// Transactions.
    pub revisions: usize,
    /// Bytes of their keys and values.
    pub bytes: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            revisions: 10_000,
            bytes: 64 << 20,
        }
    }
}

/// Shared by the writer, which adds, and the watches, which follow.
#[derive(Debug)]
pub(super) struct WatchHistory {
    limits: HistoryLimits,
    ring: Mutex<HistoryRing>,
    head: watch::Sender<Revision>,
}

impl WatchHistory {
    pub(super) fn new(head: Revision, limits: HistoryLimits) -> Self {
        Self {
            limits,
            ring: Mutex::default(),
            head: watch::Sender::new(head),
        }
    }

    fn ring(&self) -> MutexGuard<'_, HistoryRing> {
        // Nothing in here panics half-way through a change.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what was committed, in order, and wakes the watches once.
    pub(super) fn add(&self, committed: Vec<CommittedTxn>) {
        let Some(head) = committed.last().map(|p| p.revision) else {
            return;
        };
        let mut ring = self.ring();
        for past in committed {
            ring.bytes += past.bytes();
            ring.past.push_back(Arc::new(past));
        }
        while ring.past.len() > self.limits.revisions || ring.bytes > self.limits.bytes {
            let Some(oldest) = ring.past.pop_front() else {
                break;
            };
            ring.bytes -= oldest.bytes();
        }
        // Under the lock, so that nobody sees a head that the ring does not have.
        self.head.send_replace(head);
    }

    /// The batch that begins with transaction `from`; `None` when it has not happened yet.
    fn batch(&self, prefix: &str, from: Revision) -> Result<Option<WatchBatch>, WatchError> {
        let ring = self.ring();
        let head = *self.head.borrow();
        let oldest = ring.past.front().map_or(head.next(), |p| p.revision);
        if from < oldest {
            return Err(WatchError::Compacted { oldest });
        }
        let skip = usize::try_from(from.0 - oldest.0).unwrap_or(usize::MAX);
        let mut batch: Option<WatchBatch> = None;
        for past in ring.past.iter().skip(skip) {
            let batch = batch.get_or_insert_with(|| WatchBatch {
                events: Vec::new(),
                revision: past.revision,
            });
            let ours = past.events.iter().filter(|e| e.key().starts_with(prefix));
            batch.events.extend(ours.cloned());
            batch.revision = past.revision;
            if batch.events.len() >= BATCH_EVENTS_MAX {
                break;
            }
        }
        Ok(batch)
    }

    /// The first revision that is remembered or still to come.
    fn check(&self, from: Revision) -> Result<(), WatchError> {
        self.batch("", from).map(drop)
    }
}

/// What a watch keeps: its place, not a queue. One that is slow costs nothing, and learns that it
/// was too slow when it comes for what is forgotten.
struct WatchCursor {
    history: Arc<WatchHistory>,
    head: watch::Receiver<Revision>,
    prefix: String,
    from: Revision,
    ended: bool,
}

impl WatchCursor {
    async fn next(&mut self) -> Result<WatchBatch, WatchError> {
        loop {
            // Seen before the ring is read, so that what is added meanwhile wakes us again.
            self.head.borrow_and_update();
            if let Some(batch) = self.history.batch(&self.prefix, self.from)? {
                self.from = batch.revision.next();
                return Ok(batch);
            }
            // The sender lives in `history`, which we hold: there is no error to come.
            if self.head.changed().await.is_err() {
                return Err(WatchError::Compacted { oldest: self.from });
            }
        }
    }
}

pub(super) fn subscribe(
    history: &Arc<WatchHistory>,
    prefix: &str,
    from: Revision,
) -> Result<WatchStream, WatchError> {
    history.check(from)?;
    let cursor = WatchCursor {
        history: Arc::clone(history),
        head: history.head.subscribe(),
        prefix: prefix.to_owned(),
        from,
        ended: false,
    };
    Ok(Box::pin(futures::stream::unfold(
        cursor,
        |mut f| async move {
            if f.ended {
                return None;
            }
            let item = f.next().await;
            f.ended = item.is_err();
            Some((item, f))
        },
    )))
}
