//! Whether the paths of a mapping are found in the records: a path that is spelt wrong finds nothing,
//! and a default hides that.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use forebay_model::{PathColumnUse, PathUse, Timestamp};

/// Counts of the path columns of a mapping that have something to take when nothing is found.
#[derive(Debug, Default)]
pub(crate) struct PathUseCounters {
    /// Milliseconds; of the first record.
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
    /// Counts one more column; returns its number.
    pub(crate) fn add(&mut self, column: &str, path: &str) -> usize {
        self.columns.push(CountedColumn {
            column: column.to_owned(),
            path: path.to_owned(),
            missed: AtomicU64::new(0),
            found: AtomicBool::new(false),
        });
        self.columns.len() - 1
    }

    /// A record was looked at.
    pub(crate) fn count_record(&self, received: Timestamp) {
        if self.records.fetch_add(1, Ordering::Relaxed) == 0 {
            self.since.store(received.as_millis(), Ordering::Relaxed);
        }
    }

    /// Nothing was found for a column.
    pub(crate) fn count_missed(&self, column: usize) {
        if let Some(counted) = self.columns.get(column) {
            counted.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Something was found for a column. Written once: the usual record only reads.
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
        // Misses are noted after their record: read first, none has more than there are records.
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
