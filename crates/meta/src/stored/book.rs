//! What is remembered of a sink beyond its files.

use forebay_model::{Statistics, Timestamp};
use serde::{Deserialize, Serialize};

use super::common::StatisticsForm;
use super::{Stored, StoredError, form, no_version};

/// Of one sink, for as long as the store exists: which file is open, when the last one was opened,
/// and what files that were removed had held. Every transaction that opens, closes or removes a
/// file of the sink writes it under the condition that nobody else has: so there are never two open
/// files, and a time is never used twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
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
    pub cleared: Option<Cleared>,
    /// How often an imported file went back on its way, since its table had lost it.
    pub reopened: u64,
}

/// Statistics that a user has cleared. They are hidden, not forgotten: the balance goes on with
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleared {
    /// Files that were opened up to then are not shown; all of them were imported.
    pub up_to: Timestamp,
    /// What removed files held that were opened later.
    pub removed_since: Statistics,
}

/// A book.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named as in the domain type")]
pub struct BookV1 {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writing: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_opened_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_up_to: Option<Timestamp>,
    pub removed: StatisticsForm,
    pub removed_imported_rows: u64,
}

/// A book, with what was cleared.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named as in the domain type")]
pub struct BookV2 {
    #[serde(flatten)]
    pub book: BookV1,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared: Option<ClearedForm>,
    #[serde(default)]
    pub reopened: u64,
}

impl From<BookV1> for BookV2 {
    /// All of it was shown.
    fn from(book: BookV1) -> Self {
        Self {
            book,
            cleared: None,
            reopened: 0,
        }
    }
}

/// Statistics that a user has cleared.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named as in the domain type")]
pub struct ClearedForm {
    pub up_to: Timestamp,
    pub removed_since: StatisticsForm,
}

impl Stored for Book {
    const WHAT: &'static str = "book of a sink";
    const VERSION: u32 = 2;
    type Form = BookV2;

    fn to_form(&self) -> BookV2 {
        BookV2 {
            book: BookV1 {
                writing: self.writing,
                last_opened_at: self.last_opened_at,
                removed_up_to: self.removed_up_to,
                removed: (&self.removed).into(),
                removed_imported_rows: self.removed_imported_rows,
            },
            cleared: self.cleared.map(|c| ClearedForm {
                up_to: c.up_to,
                removed_since: (&c.removed_since).into(),
            }),
            reopened: self.reopened,
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let BookV2 {
            book,
            cleared,
            reopened,
        } = match version {
            1 => form::<Self, BookV1>(value)?.into(),
            2 => form::<Self, BookV2>(value)?,
            _ => return Err(no_version::<Self>(version)),
        };
        Ok(Self {
            writing: book.writing,
            last_opened_at: book.last_opened_at,
            removed_up_to: book.removed_up_to,
            removed: book.removed.into(),
            removed_imported_rows: book.removed_imported_rows,
            cleared: cleared.map(|c| Cleared {
                up_to: c.up_to,
                removed_since: c.removed_since.into(),
            }),
            reopened,
        })
    }
}
