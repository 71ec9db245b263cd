//! Counts of records and bytes.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Content of a stream, slice, file or sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Statistics {
    /// Number of records.
    pub records: u64,
    /// Bytes of CSV before compression.
    pub uncompressed_bytes: u64,
    /// Bytes after compression.
    pub compressed_bytes: u64,
    /// Receipt time of the first record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_record_at: Option<Timestamp>,
    /// Receipt time of the last record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_record_at: Option<Timestamp>,
    /// Acknowledged records that were lost to disk corruption; they are listed in the log and
    /// counted here. Not part of `records`.
    pub lost_records: u64,
}

impl Statistics {
    /// Sum of both.
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

/// Reconciliation of a sink's records: *accepted = imported + dead + expired + lost + in flight*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciliation {
    /// Acknowledged records, by the sequence numbers of the log.
    pub accepted: u64,
    /// Records in the table, by the row counts of the imports.
    pub imported: u64,
    /// Dead letters.
    pub dead: u64,
    /// Records dropped by a configured retention.
    pub expired: u64,
    /// Records lost to disk corruption and reported.
    pub lost: u64,
    /// Records in the log or in staging.
    pub in_flight: u64,
}

impl Reconciliation {
    /// Whether every accepted record is accounted for.
    pub fn holds(&self) -> bool {
        self.accepted == self.imported + self.dead + self.expired + self.lost + self.in_flight
    }
}
