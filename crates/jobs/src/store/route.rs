//! Routes records to the workers of a table: rows with the same key go to the same worker, in order, so that
//! the last one of a key stays. Close numbers go to the same worker too, as stores keep them side by side.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, mpsc};

use crate::convert::RowConverter;
use crate::engine::execution::JobExecution;
use crate::engine::queue::QueueReceiver;
use crate::record::{
    DeadRecord, JobStage, PartLines, Record, RecordOutcomes, StageBatch, TypedRows,
};
use forebay_connect::keyed::{RowRef, TableSchema, ValueRef};

/// Batches that may wait for a worker.
const BATCHES_AHEAD: usize = 4;

/// Counts idle workers.
#[derive(Debug, Default)]
pub(super) struct IdleWorkers {
    count: AtomicUsize,
    changed: Notify,
}

impl IdleWorkers {
    /// Counts a worker as idle until the returned guard is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> impl Drop + use<> {
        struct IdleGuard(Arc<IdleWorkers>);
        impl Drop for IdleGuard {
            fn drop(&mut self) {
                self.0.count.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.count.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
        IdleGuard(Arc::clone(self))
    }

    async fn wait_for_idle(&self) {
        loop {
            let changed = self.changed.notified();
            if self.count.load(Ordering::SeqCst) > 0 {
                return;
            }
            changed.await;
        }
    }
}

/// The rows of a batch that go to one worker.
#[derive(Clone, Debug)]
pub(super) struct BatchPart {
    batch: Arc<TypedBatch>,
    /// Row indexes in the batch, in order.
    pub(super) places: Vec<usize>,
}

/// A batch of rows.
#[derive(Debug)]
enum TypedBatch {
    Records(Vec<Record>, TypedRows),
    Lines(Arc<PartLines>),
}

impl BatchPart {
    pub(super) fn table(&self) -> &TypedRows {
        match &*self.batch {
            TypedBatch::Records(_, table) => table,
            TypedBatch::Lines(lines) => &lines.table,
        }
    }

    /// The record of a row.
    pub(super) fn record(&self, index: usize) -> Option<Record> {
        match &*self.batch {
            TypedBatch::Records(records, _) => records.get(index).cloned(),
            TypedBatch::Lines(lines) => lines.record(index),
        }
    }

    /// Adds rows to the delivered records.
    pub(super) fn acknowledge(
        &self,
        places: impl Iterator<Item = usize>,
        outcomes: &mut RecordOutcomes,
    ) {
        match &*self.batch {
            TypedBatch::Records(records, _) => {
                let records = places.filter_map(|place| records.get(place));
                outcomes.delivered.extend(records.map(|r| (r.position, 1)));
            }
            TypedBatch::Lines(lines) => outcomes.delivered.push((lines.position, places.count())),
        }
    }
}

/// Receives records, converts those that are not rows yet, and distributes them to the workers. If a record
/// costs a request, it receives none while all workers are busy.
pub(super) async fn route(
    execution: Arc<JobExecution>,
    converter: Arc<RowConverter>,
    shape: TableSchema,
    records: QueueReceiver<StageBatch>,
    workers: Vec<mpsc::Sender<BatchPart>>,
    idle: Arc<IdleWorkers>,
) {
    loop {
        if !execution.reads_ahead {
            idle.wait_for_idle().await;
        }
        let Some(batch) = records.receive().await else {
            return;
        };
        let rowed = match batch {
            StageBatch::Lines(lines) => TypedBatch::Lines(lines),
            StageBatch::Records(records) => {
                let (rowed, bad) = to_typed_batch(records, &converter, &shape);
                execution.acknowledge(bad).await;
                rowed
            }
        };
        for (worker, part) in workers.iter().zip(divide(rowed, &shape, workers.len())) {
            // A worker ends early only when the run has failed: its rows are read again.
            if !part.places.is_empty() && worker.send(part).await.is_err() {
                return;
            }
        }
    }
}

/// Converts records to rows; records that are not valid rows become dead letters.
fn to_typed_batch(
    records: Vec<Record>,
    converter: &RowConverter,
    shape: &TableSchema,
) -> (TypedBatch, RecordOutcomes) {
    let mut builder = converter.row_builder();
    let mut good = Vec::with_capacity(records.len());
    let mut bad = RecordOutcomes::default();
    for record in records {
        match builder.add(record.body.clone()) {
            Ok(()) => good.push(record),
            Err(error) => bad.dead.push(dead_record(record, shape, error)),
        }
    }
    (TypedBatch::Records(good, builder.finish()), bad)
}

/// Divides a batch by worker.
fn divide(batch: TypedBatch, shape: &TableSchema, workers: usize) -> Vec<BatchPart> {
    let part = BatchPart {
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

/// The worker of a row's key.
fn worker_of(shape: &TableSchema, row: RowRef<'_>, workers: usize) -> usize {
    let mut key = shape.key_of(row);
    let number = match (key.next(), key.next()) {
        // Consecutive numbers alternate between workers in blocks of 1024; the higher digits spread numbers that
        // grow in large steps.
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
    usize::try_from(number % (workers as u64).max(1)).unwrap_or(0)
}

/// The dead letter of a record that is not a valid row.
fn dead_record(record: Record, shape: &TableSchema, error: String) -> DeadRecord {
    DeadRecord {
        position: record.position,
        origin: record.origin,
        stage: JobStage::Storage,
        body: record.body,
        request: format!("row of table {}", shape.table),
        status: None,
        error,
        attempts: 1,
    }
}

type PartSenders = Vec<mpsc::Sender<BatchPart>>;
type PartReceivers = Vec<mpsc::Receiver<BatchPart>>;

/// Channels of the workers.
pub(super) fn channels(count: usize) -> (PartSenders, PartReceivers) {
    (0..count.max(1))
        .map(|_| mpsc::channel(BATCHES_AHEAD))
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_connect::keyed::{CellValue, ColumnSchema, DataType, KeyedBatch, KeyedRow};

    #[test]
    fn all_workers_get_a_share_of_numbers_and_strings() {
        let shape = |kind| TableSchema {
            table: "t".to_owned(),
            columns: vec![ColumnSchema {
                name: "id".to_owned(),
                kind,
                is_key: true,
                foreign: None,
            }],
        };
        let (number, text) = (shape(DataType::Integer), shape(DataType::Text));
        let worker_of = |shape: &TableSchema, value: CellValue| {
            let rows = KeyedBatch::from([KeyedRow(vec![value])]);
            worker_of(shape, rows.iter().next().unwrap(), 4)
        };
        let shares = |shape: &TableSchema, value: &dyn Fn(i64) -> CellValue| {
            let mut shares = [0; 4];
            for n in 0..100_000 {
                let worker = worker_of(shape, value(n));
                assert_eq!(worker, worker_of(shape, value(n)));
                shares[worker] += 1;
            }
            shares
        };
        // Consecutive ids, ids of a clock and a counter, negative ids, times, strings.

        for shares in [
            shares(&number, &|n| CellValue::Integer(n)),
            shares(&number, &|n| CellValue::Integer(n << 22)),
            shares(&number, &|n| CellValue::Integer(-n)),
            shares(&number, &|n| {
                CellValue::Integer(1_767_225_600_000 + n * 1000)
            }),
            shares(&text, &|n| CellValue::Text(n.to_string())),
        ] {
            let fair = 15_000..35_000;
            assert!(shares.iter().all(|s| fair.contains(s)), "{shares:?}");
        }
        let worker = |n| worker_of(&number, CellValue::Integer(n));
        assert!((1..1024).all(|n| worker(n) == worker(0)));
        assert_ne!(worker(1024), worker(0));
    }
}
