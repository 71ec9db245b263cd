//! What is remembered of a sink beyond its files.

use forebay_model::{Statistics, Timestamp};
use serde::{Deserialize, Serialize};

use super::common::StatisticsForm;
use super::{Stored, StoredError, decode_only_form};

/// Of one sink, for as long as the store exists: which file is open, when the last one was opened,
/// and what files that were removed had held. Every transaction that opens, closes or removes a
/// file of the sink writes it under the condition that nobody else has: so there are never two open
/// files, and a time is never used twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkState {
    /// When the file that is being written was opened.
    pub writing: Option<Timestamp>,
    /// When the newest file was opened.
    pub last_opened_at: Option<Timestamp>,
    /// When the newest file was opened of those that were removed.
    pub removed_up_to: Option<Timestamp>,
    /// What the removed files held.
    pub removed: Statistics,
    /// Rows that the table took from the removed files.
    pub removed_imported_rows: u64,
    /// What is not shown any more; `None` when all is.
    pub cleared: Option<ClearedStatistics>,
    /// How often an imported file went back on its way, since its table had lost it.
    pub reopened: u64,
}

/// Statistics that a user has cleared. They are hidden, not forgotten: the balance goes on with
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClearedStatistics {
    /// Files that were opened up to then are not shown; all of them were imported.
    pub up_to: Timestamp,
    /// What removed files held that were opened later.
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
#[allow(missing_docs, reason = "named as in the domain type")]
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
