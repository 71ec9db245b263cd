//! Sink state: data of a sink beside its files.

use forebay_model::{Statistics, Timestamp};
use serde::{Deserialize, Serialize};

use super::common::StatisticsForm;
use super::{Stored, StoredError, decode_only_form};

/// State of a sink, for as long as the store exists: the open file, the opening time of the last
/// one, and totals of removed files. Every transaction that opens, closes or removes a file of the
/// sink writes it with the precondition that it is unchanged: so there are never two open files,
/// and an opening time is never reused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkState {
    /// Opening time of the open file.
    pub writing: Option<Timestamp>,
    /// Opening time of the newest file.
    pub last_opened_at: Option<Timestamp>,
    /// Opening time of the newest removed file.
    pub removed_up_to: Option<Timestamp>,
    /// Totals of the removed files.
    pub removed: Statistics,
    /// Rows that the table accepted from the removed files.
    pub removed_imported_rows: u64,
    /// Cleared statistics; `None` if all are shown.
    pub cleared: Option<ClearedStatistics>,
    /// Number of times that an imported file became active again, since its table had lost it.
    pub reopened: u64,
}

/// Statistics that a user has cleared. They are hidden, but still part of the reconciliation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClearedStatistics {
    /// Files opened up to this time are hidden; all of them were imported.
    pub up_to: Timestamp,
    /// Totals of removed files that were opened later.
    pub removed_since: Statistics,
}

/// Stored form of [`SinkState`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkStateV1 {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writing: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_opened_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_up_to: Option<Timestamp>,
    pub removed: StatisticsForm,
    pub removed_imported_rows: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared: Option<ClearedStatisticsForm>,
    pub reopened: u64,
}

/// Statistics that a user has cleared.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClearedStatisticsForm {
    pub up_to: Timestamp,
    pub removed_since: StatisticsForm,
}

impl Stored for SinkState {
    const WHAT: &'static str = "sink state";
    const VERSION: u32 = 1;
    type Form = SinkStateV1;

    fn to_form(&self) -> SinkStateV1 {
        SinkStateV1 {
            writing: self.writing,
            last_opened_at: self.last_opened_at,
            removed_up_to: self.removed_up_to,
            removed: (&self.removed).into(),
            removed_imported_rows: self.removed_imported_rows,
            cleared: self.cleared.map(|c| ClearedStatisticsForm {
                up_to: c.up_to,
                removed_since: (&c.removed_since).into(),
            }),
            reopened: self.reopened,
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: SinkStateV1 = decode_only_form::<Self, _>(version, value)?;
        Ok(Self {
            writing: form.writing,
            last_opened_at: form.last_opened_at,
            removed_up_to: form.removed_up_to,
            removed: form.removed.into(),
            removed_imported_rows: form.removed_imported_rows,
            cleared: form.cleared.map(|c| ClearedStatistics {
                up_to: c.up_to,
                removed_since: c.removed_since.into(),
            }),
            reopened: form.reopened,
        })
    }
}
