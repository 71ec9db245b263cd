//! Watch history: the most recent transactions, in memory.
//!
//! The history is empty when the store is opened. All watchers are in the same process, so none can
//! ask for an earlier revision (`docs/adr/0302`).

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::kv::store::{Revision, WatchBatch, WatchError, WatchEvent, WatchStream};

/// Maximum number of events in a batch, unless a single transaction has more.
const BATCH_EVENTS_MAX: usize = 1024;

/// Changes of one committed transaction.
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
    /// In order and without gaps; the last entry is the head.
    past: VecDeque<Arc<CommittedTxn>>,
    bytes: usize,
}

/// Limits of the watch history.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimits {
    /// Number of transactions.
    pub revisions: usize,
    /// Total bytes of their keys and values.
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

/// Shared by the writer, which appends, and the watches, which read.
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
        // No code panics in the middle of a change while holding the lock.
        self.ring.lock()
    }

    /// Appends committed transactions, in order, and wakes the watches once.
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
        // Under the lock, so that no watch reads a head that is not in the ring.
        self.head.send_replace(head);
    }

    /// Returns the batch that begins with transaction `from`; `None` if it is not committed yet.
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

    /// Checks that `from` is retained or in the future.
    fn check(&self, from: Revision) -> Result<(), WatchError> {
        self.batch("", from).map(drop)
    }
}

/// Position of a watch; events are not queued per watch. A slow watch costs nothing and gets
/// [`WatchError::Compacted`] when its position is no longer retained.
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
            // Mark as seen before reading the ring, so that a concurrent append wakes this watch
            // again.
            self.head.borrow_and_update();
            if let Some(batch) = self.history.batch(&self.prefix, self.from)? {
                self.from = batch.revision.next();
                return Ok(batch);
            }
            // `history` holds the sender, so this can't fail.
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
