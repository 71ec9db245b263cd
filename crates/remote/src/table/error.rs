//! What can go wrong with a table, as the two things that a caller needs to know.

use crate::table::RowError;

/// Why a table did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// May succeed later without anyone doing anything: a connection, a lock, a full disk, a
    /// restart. Nothing was imported, or the ledger has it.
    #[error("{0}")]
    Retryable(String),
    /// Needs a person: it will fail the same way until the table, a permission or the data changes.
    #[error("{0}")]
    Terminal(String),
}

impl TableError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Retryable(_))
    }
}

impl From<RowError> for TableError {
    fn from(e: RowError) -> Self {
        if e.retryable {
            Self::Retryable(e.message)
        } else {
            Self::Terminal(e.message)
        }
    }
}
