//! Counts whether the paths of a mapping match records: a default hides a misspelled path.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use forebay_model::{PathColumnUse, PathUse, Timestamp};

/// Counters of the path columns with a default.
#[derive(Debug, Default)]
pub(crate) struct PathUseCounters {
    /// Time of the first record in milliseconds.
    since: AtomicI64,
    records: AtomicU64,
    columns: Vec<CountedColumn>,
}

#[derive(Debug)]
struct CountedColumn {
    column: String,
    path: String,
    missed: AtomicU64,
    found: AtomicBool,
}

impl PathUseCounters {
    /// Adds a column; returns its index.
    pub(crate) fn add(&mut self, column: &str, path: &str) -> usize {
        self.columns.push(CountedColumn {
            column: column.to_owned(),
            path: path.to_owned(),
            missed: AtomicU64::new(0),
            found: AtomicBool::new(false),
        });
        self.columns.len() - 1
    }

    pub(crate) fn count_record(&self, received: Timestamp) {
        if self.records.fetch_add(1, Ordering::Relaxed) == 0 {
            self.since.store(received.as_millis(), Ordering::Relaxed);
        }
    }

    pub(crate) fn count_missed(&self, column: usize) {
        if let Some(counted) = self.columns.get(column) {
            counted.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Stored once, so that most records only read the flag.
    pub(crate) fn mark_found(&self, column: usize) {
        if let Some(counted) = self.columns.get(column)
            && !counted.found.load(Ordering::Relaxed)
        {
            counted.found.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn report(&self) -> PathUse {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let columns = self.columns.iter().map(|c| PathColumnUse {
            column: c.column.clone(),
            path: c.path.clone(),
            missed: get(&c.missed),
            found: c.found.load(Ordering::Relaxed),
        });
        // A miss is counted after its record. Reading misses first keeps them at most the records.
        let columns = columns.collect();
        let records = get(&self.records);
        PathUse {
            since: (records > 0)
                .then(|| Timestamp::from_millis(self.since.load(Ordering::Relaxed))),
            records,
            columns,
        }
    }
}
