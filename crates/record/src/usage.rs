//! Whether the paths of a mapping are found in the records: a path that is spelt wrong finds nothing,
//! and a default hides that.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use forebay_model::{PathColumnUse, PathUse, Timestamp};

/// Counts of the path columns of a mapping that have something to take when nothing is found.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Milliseconds; of the first record.
    since: AtomicI64,
    records: AtomicU64,
    columns: Vec<Counted>,
}

#[derive(Debug)]
struct Counted {
    column: String,
    path: String,
    missed: AtomicU64,
}

impl Usage {
    /// Counts one more column; returns its number.
    pub(crate) fn add(&mut self, column: &str, path: &str) -> usize {
        self.columns.push(Counted {
            column: column.to_owned(),
            path: path.to_owned(),
            missed: AtomicU64::new(0),
        });
        self.columns.len() - 1
    }

    /// A record was looked at.
    pub(crate) fn note_record(&self, received: Timestamp) {
        if self.records.fetch_add(1, Ordering::Relaxed) == 0 {
            self.since.store(received.as_millis(), Ordering::Relaxed);
        }
    }

    /// Nothing was found for a column.
    pub(crate) fn note_missed(&self, column: usize) {
        if let Some(counted) = self.columns.get(column) {
            counted.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn report(&self) -> PathUse {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let columns = self.columns.iter().map(|c| PathColumnUse {
            column: c.column.clone(),
            path: c.path.clone(),
            missed: get(&c.missed),
        });
        // Misses are noted after their record: read before the records, none has more than there are.
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
