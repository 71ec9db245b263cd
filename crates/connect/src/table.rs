//! The table at the end of a sink: prepared from a mapping, and filled by imports that apply
//! exactly once.
//!
//! Each backend keeps a *ledger*: a table of the ids of imports, written in the same transaction as
//! the rows. So an import whose answer was lost is safe to repeat: either nothing is there, or the
//! ledger says that all of it is.

use async_trait::async_trait;
use forebay_model::{Mapping, TableBackend, TableId};

mod error;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "cassandra"))]
pub(crate) mod mapping_fit;
mod rows;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod text;

#[cfg(any(test, feature = "test-services"))]
pub mod conformance;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use error::TableError;
pub use rows::{RowBatch, RowError, RowStream};

/// A backend that keeps tables.
///
/// How ids, names and cells are mapped, and where the two backends differ, is in
/// `docs/reference/tables.md`; [`conformance`] holds them to it.
#[async_trait]
pub trait Table: Send + Sync {
    /// Which one it is.
    fn backend(&self) -> TableBackend;

    /// What the backend's rules for names refuse: lengths, and names that it keeps for itself. Asks
    /// nobody, so it holds while the backend can't be reached too.
    fn check_names(&self, table: &TableId, mapping: &Mapping) -> Vec<InspectionFinding>;

    /// Looks whether the mapping will go into the table, without changing anything: all that
    /// [`Self::check_names`] finds, a table that is there and does not fit, and what the backend's
    /// user may not do.
    ///
    /// # Errors
    /// When the backend can't be asked.
    async fn inspect(
        &self,
        table: &TableId,
        mapping: &Mapping,
    ) -> Result<TableInspection, TableError>;

    /// Makes the table when it is not there, adds columns that the mapping gained, and checks that
    /// the rest fits. Cheap when there is nothing to do: call it before each import, so that a
    /// table that was dropped comes back.
    ///
    /// # Errors
    /// Terminal when the table that is there does not fit the mapping: another primary key, a
    /// column that can't hold text, a column that needs a value and gets none.
    async fn prepare(&self, table: &TableId, mapping: &Mapping) -> Result<(), TableError>;

    /// Puts all rows and the ledger's entry into the table in one transaction, or nothing. An
    /// import that the ledger has is not applied again, and at most the first batches of its
    /// stream are read.
    ///
    /// Safe to repeat after any error, and safe to run twice at once. Dropping the future undoes
    /// what it did, unless the commit was already on its way.
    ///
    /// # Errors
    /// When the rows can't be read ([`RowError`]) or the table can't take them.
    async fn import(
        &self,
        import: &Import,
        rows: RowStream<'_>,
    ) -> Result<ImportSummary, TableError>;

    /// Deletes the table with its rows; one that is not there is deleted already. The ledger keeps
    /// its entries, so no import that was done is ever done again.
    ///
    /// # Errors
    /// When the table can't be deleted; a backend that never deletes says so.
    async fn delete(&self, table: &TableId) -> Result<(), TableError> {
        let backend = self.backend().name();
        Err(TableError::Terminal(format!(
            "table \"{table}\" can't be deleted: tables of type {backend} are deleted by hand"
        )))
    }

    /// Takes entries out of the ledger: of files whose metadata is gone, so that nobody will ever
    /// repeat their import. Ids that the ledger does not have are passed over.
    ///
    /// # Errors
    /// When the ledger can't be written; then none is forgotten.
    async fn forget(&self, imports: &[String]) -> Result<(), TableError>;

    /// The rows of an import that the ledger has.
    ///
    /// # Errors
    /// When the ledger can't be read.
    async fn imported(&self, import_id: &str) -> Result<Option<u64>, TableError>;

    /// As [`Self::imported`], once no transaction of that import can be under way any more: what
    /// this says of an import stays so unless someone imports it.
    ///
    /// # Errors
    /// When the ledger can't be read.
    async fn resolve_import(&self, import_id: &str) -> Result<Option<u64>, TableError> {
        self.imported(import_id).await
    }

    /// Those of the imports that the ledger does not have.
    ///
    /// # Errors
    /// When the ledger can't be read.
    async fn missing_imports(&self, imports: &[String]) -> Result<Vec<String>, TableError>;

    /// A page of the ids that the ledger has, after `after` (empty for the beginning), in an order
    /// of the backend's own; an empty one is the end.
    ///
    /// # Errors
    /// When the ledger can't be read.
    async fn ledger(&self, after: &str, limit: u32) -> Result<Vec<String>, TableError>;

    /// Whether the backend can be reached and written, for health checks.
    ///
    /// # Errors
    /// When it can't, saying why.
    async fn check(&self) -> Result<(), TableError>;
}

/// What [`Table::inspect`] has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableInspection {
    /// There is a table, or something else, of that name.
    pub exists: bool,
    /// Why the mapping does not go into it; nothing, when it does.
    pub findings: Vec<InspectionFinding>,
}

/// One reason why a mapping does not go into a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectionFinding {
    /// The column of the mapping that is the cause; the table itself without one.
    pub column: Option<usize>,
    /// What is wrong and what is allowed, with the table's id.
    pub message: String,
}

impl InspectionFinding {
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn for_table(message: String) -> Self {
        Self {
            column: None,
            message,
        }
    }

    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "cassandra"))]
    pub(crate) fn for_column(column: usize, message: String) -> Self {
        Self {
            column: Some(column),
            message,
        }
    }
}

/// One import: a file's rows into its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Of this import and no other, for ever: `<cluster id>/<file key>`. What the ledger knows it by.
    pub id: String,
    /// Where the rows go.
    pub table: TableId,
    /// The columns, as they were when the file was opened; a row has a cell for each, in order.
    pub mapping: Mapping,
}

/// What an import did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportSummary {
    /// Rows of the file, those that replaced others of the same key included. As noted in the
    /// ledger when the import was done before.
    pub rows: u64,
    /// The ledger had it: nothing was written.
    pub already_done: bool,
    /// Cells in which something was replaced by U+FFFD because no table can hold it: a NUL, or
    /// bytes that are not UTF-8.
    pub replaced_cells: u64,
}
