//! Error of dead letters.

use forebay_meta::catalog::dead_letters::DeadLetterResolveError;
use forebay_meta::{FileError, StoreError};

use forebay_ingest::pipeline::BlockAppendError;

/// Error of listing, replaying or dropping dead letters.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// No dead letter has that number, or it is resolved.
    #[error("dead letter {0} not found")]
    NotFound(u64),
    /// The selected dead letters are too many or too large for one call.
    #[error("too many or too large dead letters are selected at a time; select fewer")]
    TooMuch,
    /// Too many dead letters of a topic are resolved between unresolved ones.
    #[error(
        "too many dead letters are resolved out of order (maximum {0}); replay or drop the oldest ones first"
    )]
    TooScattered(usize),
    /// Error of the store, the sink's file or the dead-letter state.
    #[error(transparent)]
    State(#[from] DeadLetterResolveError),
    /// The log rejected the rows or messages.
    #[error("the log rejected the dead letters: {0}")]
    Append(#[from] BlockAppendError),
    /// The log could not be read.
    #[error("the dead letters could not be read: {0}")]
    Read(String),
}

impl From<FileError> for DeadLetterError {
    fn from(error: FileError) -> Self {
        Self::State(error.into())
    }
}

impl From<StoreError> for DeadLetterError {
    fn from(error: StoreError) -> Self {
        Self::State(error.into())
    }
}

impl DeadLetterError {
    /// Whether the outcome of the transaction is unknown.
    pub(super) fn is_uncertain(&self) -> bool {
        matches!(
            self,
            Self::State(DeadLetterResolveError::File(FileError::Store(
                StoreError::Uncertain(_)
            )))
        )
    }
}
