//! Sink state: data of a sink beside its files.

use forebay_model::{Statistics, Timestamp};
use serde::{Deserialize, Serialize};

/// State of a sink, for as long as the store exists: the open file, the opening time of the last
/// one, and totals of removed files. Every transaction that opens, closes or removes a file of the
/// sink writes it with the precondition that it is unchanged: so there are never two open files,
/// and an opening time is never reused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkState {
    /// Opening time of the open file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writing: Option<Timestamp>,
    /// Opening time of the newest file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_opened_at: Option<Timestamp>,
    /// Opening time of the newest removed file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_up_to: Option<Timestamp>,
    /// Totals of the removed files.
    pub removed: Statistics,
    /// Rows that the table accepted from the removed files.
    pub removed_imported_rows: u64,
    /// Cleared statistics; `None` if all are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared: Option<ClearedStatistics>,
    /// Number of times that an imported file became active again, since its table had lost it.
    pub reopened: u64,
}

/// Statistics that a user has cleared. They are hidden, but still part of the reconciliation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClearedStatistics {
    /// Files opened up to this time are hidden; all of them were imported.
    pub up_to: Timestamp,
    /// Totals of removed files that were opened later.
    pub removed_since: Statistics,
}
