//! Progress, outcome and control of a run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// Error of a run. In each case the next run resumes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobFailure {
    /// The source can't be read.
    #[error("{0}")]
    Source(String),
    /// The destination can't be prepared, or was unavailable for too long.
    #[error("{0}")]
    Destination(String),
    /// More bad records than the definition allows.
    #[error("{0}")]
    TooManyErrors(String),
    /// The job's state can't be read or written.
    #[error("{0}")]
    State(String),
}

/// Live counters of a run.
#[derive(Debug, Default)]
pub struct JobProgress {
    pub(crate) read: AtomicU64,
    pub(crate) processed: AtomicU64,
    pub(crate) written: AtomicU64,
    pub(crate) unchanged: AtomicU64,
    pub(crate) superseded: AtomicU64,
    pub(crate) dead: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) bytes_total: AtomicU64,
    paths: Mutex<ColumnPaths>,
}

/// The paths of a table's columns, and whether a record had them.
#[derive(Debug, Default)]
struct ColumnPaths {
    columns: Vec<(ColumnPath, bool)>,
    /// Records examined.
    records: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct ColumnPath {
    pub(crate) column: String,
    pub(crate) path: String,
}

/// A column whose path no record had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NeverFound {
    pub column: String,
    /// Path in the record.
    pub path: String,
    /// Records examined.
    pub records: u64,
}

pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

impl JobProgress {
    /// Bytes read from files, and their total (as stored).
    pub fn bytes(&self) -> (u64, u64) {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        (get(&self.bytes), get(&self.bytes_total))
    }

    /// Sets the columns; only the first call has an effect.
    pub(crate) fn set_columns(&self, columns: impl Iterator<Item = ColumnPath>) {
        let mut paths = self.paths();
        if paths.columns.is_empty() {
            paths.columns = columns.map(|column| (column, false)).collect();
        }
    }

    /// Indexes of the columns that no record had so far.
    pub(crate) fn columns_not_found(&self) -> Vec<usize> {
        let paths = self.paths();
        let all = paths.columns.iter().enumerate();
        all.filter(|(_, (_, found))| !found)
            .map(|(i, _)| i)
            .collect()
    }

    /// Adds `records` examined records, none of which had the columns with these indexes.
    pub(crate) fn record_columns(&self, records: u64, not_found: &[usize]) {
        if records == 0 {
            return;
        }
        let mut paths = self.paths();
        paths.records += records;
        for (i, (_, found)) in paths.columns.iter_mut().enumerate() {
            *found |= !not_found.contains(&i);
        }
    }

    fn paths(&self) -> MutexGuard<'_, ColumnPaths> {
        self.paths.lock()
    }

    /// The totals after `elapsed`.
    pub fn summary(&self, elapsed: Duration) -> JobSummary {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let seconds = elapsed.as_secs_f64();
        let paths = self.paths();
        let not_found = paths.columns.iter().filter(|(_, found)| !found);
        let not_found = not_found.filter(|_| paths.records > 0);
        let never_found = not_found.map(|(column, _)| NeverFound {
            column: column.column.clone(),
            path: column.path.clone(),
            records: paths.records,
        });
        let completed = get(&self.written) + get(&self.unchanged) + get(&self.superseded);
        JobSummary {
            read: get(&self.read),
            processed: get(&self.processed),
            written: get(&self.written),
            unchanged: get(&self.unchanged),
            superseded: get(&self.superseded),
            dead: get(&self.dead),
            retries: get(&self.retries),
            requests: get(&self.requests),
            never_found: never_found.collect(),
            seconds: (seconds * 1000.0).round() / 1000.0,
            rows_per_second: (completed as f64 / seconds.max(0.001)).round(),
        }
    }
}

/// Totals of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSummary {
    /// Records read from the source, bad ones included.
    pub read: u64,
    /// Records that the processing API returned.
    pub processed: u64,
    /// Records that the destination accepted.
    pub written: u64,
    /// Rows that were unchanged according to the cache.
    pub unchanged: u64,
    /// Rows replaced by a later one of the same batch and key before they were written.
    pub superseded: u64,
    /// Records that became dead letters, bad lines included.
    pub dead: u64,
    /// Retried requests and writes.
    pub retries: u64,
    /// Requests to the source.
    pub requests: u64,
    /// Columns whose path no record had, so that all are NULL or empty lists.
    pub never_found: Vec<NeverFound>,
    /// Duration of the run.
    pub seconds: f64,
    /// Records completed per second.
    pub rows_per_second: f64,
}

/// Stop signal and first failure, shared by the stages of a run.
#[derive(Debug)]
pub(crate) struct JobControl {
    /// Read no more records and finish work in progress, without waits.
    pub(crate) stop: CancellationToken,
    failure: Mutex<Option<JobFailure>>,
}

impl JobControl {
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self {
            stop,
            failure: Mutex::new(None),
        }
    }

    /// Ends the run; the first failure counts.
    pub(crate) fn fail(&self, failure: JobFailure) {
        let mut first = self.failure.lock();
        first.get_or_insert(failure);
        drop(first);
        self.stop.cancel();
    }

    pub(crate) fn failure(&self) -> Option<JobFailure> {
        let first = self.failure.lock();
        first.clone()
    }

    /// Waits; returns false if the run ends before.
    pub(crate) async fn wait(&self, time: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = self.stop.cancelled() => false,
        }
    }
}
