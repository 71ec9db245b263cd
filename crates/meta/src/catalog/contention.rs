//! Contention as an error of each operation.

use super::transaction::TxnContention;
use super::{dead_letters, definitions, files, quota, tables, tasks, tokens};

/// Implements the conversion to each error's `Conflict`.
macro_rules! from_contention {
    ($($error:ty: $word:expr;)*) => {
        $(impl From<TxnContention> for $error {
            fn from(_: TxnContention) -> Self {
                $word
            }
        })*
    };
}

from_contention! {
    definitions::DefinitionError: Self::Conflict;
    files::FileError: Self::Conflict;
    dead_letters::DeadLetterResolveError: Self::File(files::FileError::Conflict);
    quota::QuotaError: Self::Conflict;
    tables::TableOwnerError: Self::Conflict;
    tasks::TaskError: Self::Conflict;
    tokens::TokenError: Self::Conflict;
}
