//! From records to the workers of a table: rows of the same key go to the same worker, in their
//! order, so that the last one of a key is the one that stays.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, mpsc};

use crate::convert::Converter;
use crate::engine::Run;
use crate::engine::queue::Taker;
use crate::record::{Dead, Record, Settled, Stage};
use forebay_remote::keyed::Shape;

/// Batches that wait for a worker.
const BATCHES_AHEAD: usize = 4;

/// Workers that have nothing to do.
#[derive(Debug, Default)]
pub(super) struct Idle {
    count: AtomicUsize,
    changed: Notify,
}

impl Idle {
    /// A worker is idle until what this answers is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> impl Drop + use<> {
        struct End(Arc<Idle>);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.count.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.count.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
        End(Arc::clone(self))
    }

    async fn some(&self) {
        loop {
            let changed = self.changed.notified();
            if self.count.load(Ordering::SeqCst) > 0 {
                return;
            }
            changed.await;
        }
    }
}

/// Takes records, makes rows of those that are none yet, and spreads them over the workers. Takes
/// none while all of them are busy.
pub(super) async fn route(
    run: Arc<Run>,
    converter: Arc<Converter>,
    shape: Shape,
    records: Taker<Vec<Record>>,
    workers: Vec<mpsc::Sender<Vec<Record>>>,
    idle: Arc<Idle>,
) {
    loop {
        idle.some().await;
        let Some(batch) = records.take().await else {
            return;
        };
        let mut parts: Vec<Vec<Record>> = workers.iter().map(|_| Vec::new()).collect();
        let mut bad = Settled::default();
        for mut record in batch {
            let row = match record.row.take() {
                Some(row) => Ok(row),
                None => converter.row(record.body.clone()),
            };
            match row {
                Ok(row) => {
                    let mut hasher = DefaultHasher::new();
                    shape.key_bytes(&row).hash(&mut hasher);
                    let worker = hasher.finish() % (parts.len() as u64).max(1);
                    record.row = Some(row);
                    if let Some(part) = parts.get_mut(usize::try_from(worker).unwrap_or(0)) {
                        part.push(record);
                    }
                }
                Err(error) => bad.dead.push(refused(record, &shape, error)),
            }
        }
        run.settle(bad).await;
        for (worker, part) in workers.iter().zip(parts) {
            // A worker is gone only when the run has failed: its rows are read again.
            if !part.is_empty() && worker.send(part).await.is_err() {
                return;
            }
        }
    }
}

/// A record that is no row of the table.
fn refused(record: Record, shape: &Shape, error: String) -> Dead {
    Dead {
        position: record.position,
        origin: record.origin,
        stage: Stage::Storage,
        body: record.body,
        request: format!("row of table {}", shape.table),
        status: None,
        error,
        attempts: 1,
    }
}

type Senders = Vec<mpsc::Sender<Vec<Record>>>;
type Receivers = Vec<mpsc::Receiver<Vec<Record>>>;

/// Channels of the workers.
pub(super) fn channels(count: usize) -> (Senders, Receivers) {
    (0..count.max(1))
        .map(|_| mpsc::channel(BATCHES_AHEAD))
        .unzip()
}
