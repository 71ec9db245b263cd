//! Counts of records and bytes.

use crate::time::Timestamp;

/// What a stream, slice, file or sink holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Records.
    pub records: u64,
    /// Bytes of CSV before compression.
    pub uncompressed_bytes: u64,
    /// Bytes after compression.
    pub compressed_bytes: u64,
    /// Receipt of the first record.
    pub first_record_at: Option<Timestamp>,
    /// Receipt of the last record.
    pub last_record_at: Option<Timestamp>,
    /// Records that were acknowledged and that a damaged disk has taken since; they are named in
    /// the log and counted here. Not part of `records`.
    pub lost_records: u64,
}

impl Statistics {
    /// Of both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let pick = |a: Option<Timestamp>,
                    b: Option<Timestamp>,
                    f: fn(Timestamp, Timestamp) -> Timestamp| match (a, b) {
            (Some(a), Some(b)) => Some(f(a, b)),
            (a, b) => a.or(b),
        };
        Self {
            records: self.records + other.records,
            uncompressed_bytes: self.uncompressed_bytes + other.uncompressed_bytes,
            compressed_bytes: self.compressed_bytes + other.compressed_bytes,
            first_record_at: pick(self.first_record_at, other.first_record_at, Timestamp::min),
            last_record_at: pick(self.last_record_at, other.last_record_at, Timestamp::max),
            lost_records: self.lost_records + other.lost_records,
        }
    }
}

/// Where a sink's records are: *accepted = imported + dead + expired + lost + in flight*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciliation {
    /// Acknowledged, by the sequence numbers of the log.
    pub accepted: u64,
    /// In the table, by the count of rows that the imports loaded.
    pub imported: u64,
    /// Set aside with their error.
    pub dead: u64,
    /// Dropped by a retention that someone has set.
    pub expired: u64,
    /// Taken by a damaged disk, and named.
    pub lost: u64,
    /// On their way: in the log or in staging.
    pub in_flight: u64,
}

impl Reconciliation {
    /// Whether every accepted record is accounted for.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.accepted == self.imported + self.dead + self.expired + self.lost + self.in_flight
    }
}
