//! From records to the workers of a table: rows of the same key go to the same worker, in their
//! order, so that the last one of a key is the one that stays. Numbers that are close to each other
//! go to the same worker too, as stores keep them side by side.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, mpsc};

use crate::convert::Converter;
use crate::engine::Run;
use crate::engine::queue::Taker;
use crate::record::{Dead, Record, Settled, Stage};
use forebay_remote::keyed::{Row, Shape, Value};

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

/// Takes records, makes rows of those that are none yet, and spreads them over the workers. Where a
/// record costs a request, it takes none while all of them are busy.
pub(super) async fn route(
    run: Arc<Run>,
    converter: Arc<Converter>,
    shape: Shape,
    records: Taker<Vec<Record>>,
    workers: Vec<mpsc::Sender<Vec<Record>>>,
    idle: Arc<Idle>,
) {
    loop {
        if !run.reads_ahead {
            idle.some().await;
        }
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
                    let worker = worker_of(&shape, &row, parts.len());
                    record.row = Some(row);
                    if let Some(part) = parts.get_mut(worker) {
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

/// Which of so many workers the rows of this key go to.
fn worker_of(shape: &Shape, row: &Row, workers: usize) -> usize {
    let mut key = shape.key_of(row);
    let place = match (key.next(), key.next()) {
        // Numbers that count up go round the workers; the higher digits are for those that count in
        // large steps.
        (Some(Value::Integer(n)), None) => {
            let digits = (1..=6).map(|digit| n >> (10 * digit) & 0x3ff);
            digits.sum::<i64>().unsigned_abs()
        }
        _ => {
            let mut hasher = DefaultHasher::new();
            shape.key_bytes(row).hash(&mut hasher);
            hasher.finish()
        }
    };
    usize::try_from(place % (workers as u64).max(1)).unwrap_or(0)
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

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_remote::keyed::{Column, ValueType};

    #[test]
    fn all_workers_have_their_share_of_numbers_and_texts() {
        let shape = |kind| Shape {
            table: "t".to_owned(),
            columns: vec![Column {
                name: "id".to_owned(),
                kind,
                is_key: true,
            }],
        };
        let (number, text) = (shape(ValueType::Integer), shape(ValueType::Text));
        let shares = |shape: &Shape, value: &dyn Fn(i64) -> Value| {
            let mut shares = [0; 4];
            for n in 0..100_000 {
                let row = Row(vec![value(n)]);
                let worker = worker_of(shape, &row, 4);
                assert_eq!(worker, worker_of(shape, &row, 4));
                shares[worker] += 1;
            }
            shares
        };
        // One after another, those of a clock and a counter, negative ones, times, texts.
        for shares in [
            shares(&number, &|n| Value::Integer(n)),
            shares(&number, &|n| Value::Integer(n << 22)),
            shares(&number, &|n| Value::Integer(-n)),
            shares(&number, &|n| Value::Integer(1_767_225_600_000 + n * 1000)),
            shares(&text, &|n| Value::Text(n.to_string())),
        ] {
            let fair = 15_000..35_000;
            assert!(shares.iter().all(|s| fair.contains(s)), "{shares:?}");
        }
        let worker = |n| worker_of(&number, &Row(vec![Value::Integer(n)]), 4);
        assert!((1..1024).all(|n| worker(n) == worker(0)));
        assert_ne!(worker(1024), worker(0));
    }
}
