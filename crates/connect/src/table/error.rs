//! Errors of tables: message, and whether a retry may succeed.

use crate::table::RowError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// May succeed later without intervention: connection, lock, full disk, restart. Nothing was
    /// imported, or the ledger has it.
    #[error("{0}")]
    Retryable(String),
    /// Fails until an operator changes the table, a permission or the data.
    #[error("{0}")]
    Terminal(String),
}

impl TableError {
    /// Whether a retry may succeed.
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
