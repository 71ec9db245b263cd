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
use crate::record::{Batch, Dead, Lines, Record, Settled, Stage, Typed};
use forebay_remote::keyed::{RowRef, Shape, ValueRef};

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

/// Some of the rows of a batch, for one worker.
#[derive(Clone, Debug)]
pub(super) struct Part {
    batch: Arc<Rowed>,
    /// Which, in their order.
    pub(super) places: Vec<usize>,
}

/// A batch as rows.
#[derive(Debug)]
enum Rowed {
    Records(Vec<Record>, Typed),
    Lines(Arc<Lines>),
}

impl Part {
    pub(super) fn table(&self) -> &Typed {
        match &*self.batch {
            Rowed::Records(_, table) => table,
            Rowed::Lines(lines) => &lines.table,
        }
    }

    /// The record of the row at a place.
    pub(super) fn record(&self, place: usize) -> Option<Record> {
        match &*self.batch {
            Rowed::Records(records, _) => records.get(place).cloned(),
            Rowed::Lines(lines) => lines.record(place),
        }
    }

    /// Notes that rows of these places are settled.
    pub(super) fn settle(&self, places: impl Iterator<Item = usize>, settled: &mut Settled) {
        match &*self.batch {
            Rowed::Records(records, _) => {
                let records = places.filter_map(|place| records.get(place));
                settled.done.extend(records.map(|r| (r.position, 1)));
            }
            Rowed::Lines(lines) => settled.done.push((lines.position, places.count())),
        }
    }
}

/// Takes records, makes rows of those that are none yet, and spreads them over the workers. Where a
/// record costs a request, it takes none while all of them are busy.
pub(super) async fn route(
    run: Arc<Run>,
    converter: Arc<Converter>,
    shape: Shape,
    records: Taker<Batch>,
    workers: Vec<mpsc::Sender<Part>>,
    idle: Arc<Idle>,
) {
    loop {
        if !run.reads_ahead {
            idle.some().await;
        }
        let Some(batch) = records.take().await else {
            return;
        };
        let rowed = match batch {
            Batch::Lines(lines) => Rowed::Lines(lines),
            Batch::Records(records) => {
                let (rowed, bad) = typed(records, &converter, &shape);
                run.settle(bad).await;
                rowed
            }
        };
        for (worker, part) in workers.iter().zip(divided(rowed, &shape, workers.len())) {
            // A worker is gone only when the run has failed: its rows are read again.
            if !part.places.is_empty() && worker.send(part).await.is_err() {
                return;
            }
        }
    }
}

/// Records as rows, and those that are none.
fn typed(records: Vec<Record>, converter: &Converter, shape: &Shape) -> (Rowed, Settled) {
    let mut typing = converter.begin();
    let mut good = Vec::with_capacity(records.len());
    let mut bad = Settled::default();
    for record in records {
        match typing.add(record.body.clone()) {
            Ok(()) => good.push(record),
            Err(error) => bad.dead.push(refused(record, shape, error)),
        }
    }
    (Rowed::Records(good, typing.end()), bad)
}

/// What each of so many workers has to write.
fn divided(batch: Rowed, shape: &Shape, workers: usize) -> Vec<Part> {
    let part = Part {
        batch: Arc::new(batch),
        places: Vec::new(),
    };
    let mut parts = vec![part; workers];
    let Some(rows) = parts.first().map(|p| Arc::clone(&p.table().rows)) else {
        return parts;
    };
    if let [only] = parts.as_mut_slice() {
        only.places = (0..rows.len()).collect();
        return parts;
    }
    for place in 0..rows.len() {
        let worker = rows.get(place).map(|row| worker_of(shape, row, workers));
        if let Some(part) = worker.and_then(|worker| parts.get_mut(worker)) {
            part.places.push(place);
        }
    }
    parts
}

/// Which of so many workers the rows of this key go to.
fn worker_of(shape: &Shape, row: RowRef<'_>, workers: usize) -> usize {
    let mut key = shape.key_of(row);
    let place = match (key.next(), key.next()) {
        // Numbers that count up go round the workers; the higher digits are for those that count in
        // large steps.
        (Some(ValueRef::Integer(n)), None) => {
            let digits = (1..=6).map(|digit| n >> (10 * digit) & 0x3ff);
            digits.sum::<i64>().unsigned_abs()
        }
        _ => {
            let (mut hasher, mut bytes) = (DefaultHasher::new(), Vec::new());
            shape.write_key(row, &mut bytes);
            bytes.hash(&mut hasher);
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

type Senders = Vec<mpsc::Sender<Part>>;
type Receivers = Vec<mpsc::Receiver<Part>>;

/// Channels of the workers.
pub(super) fn channels(count: usize) -> (Senders, Receivers) {
    (0..count.max(1))
        .map(|_| mpsc::channel(BATCHES_AHEAD))
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_remote::keyed::{Batch, Column, Row, Value, ValueType};

    #[test]
    fn all_workers_have_their_share_of_numbers_and_texts() {
        let shape = |kind| Shape {
            table: "t".to_owned(),
            columns: vec![Column {
                name: "id".to_owned(),
                kind,
                is_key: true,
                foreign: None,
            }],
        };
        let (number, text) = (shape(ValueType::Integer), shape(ValueType::Text));
        let worker_of = |shape: &Shape, value: Value| {
            let rows = Batch::from([Row(vec![value])]);
            worker_of(shape, rows.iter().next().unwrap(), 4)
        };
        let shares = |shape: &Shape, value: &dyn Fn(i64) -> Value| {
            let mut shares = [0; 4];
            for n in 0..100_000 {
                let worker = worker_of(shape, value(n));
                assert_eq!(worker, worker_of(shape, value(n)));
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
        let worker = |n| worker_of(&number, Value::Integer(n));
        assert!((1..1024).all(|n| worker(n) == worker(0)));
        assert_ne!(worker(1024), worker(0));
    }
}
