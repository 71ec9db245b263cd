//! Target table of a sink: created from a mapping, and filled by imports that apply exactly once.
//!
//! Each backend has a *ledger*: a table of import ids, written in the transaction of the rows. So
//! an import whose response was lost is safe to repeat: the ledger has either nothing or all of it.

use async_trait::async_trait;
use forebay_model::{Mapping, TableBackend, TableId};

mod error;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "cassandra"))]
pub(crate) mod mapping_fit;
mod rows;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod text;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod query;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use error::TableError;
pub use rows::{RowBatch, RowError, RowStream};

/// A backend of tables.
///
/// The mapping of ids, names and cells, and the differences of the backends, are described in
/// `docs/reference/tables.md` and tested by [`conformance`].
#[async_trait]
pub trait Table: Send + Sync {
    fn backend(&self) -> TableBackend;

    /// Violations of the backend's naming rules: lengths and reserved names. Doesn't contact the
    /// backend, so it works while the backend is unavailable.
    fn check_names(&self, table: &TableId, mapping: &Mapping) -> Vec<InspectionFinding>;

    /// Checks without any change whether the mapping fits the table: all findings of
    /// [`Self::check_names`], a mismatch with an existing table, and missing privileges.
    async fn inspect(
        &self,
        table: &TableId,
        mapping: &Mapping,
    ) -> Result<TableInspection, TableError>;

    /// Creates the table if missing, adds new columns of the mapping, and checks that the rest
    /// fits. Cheap when there is nothing to do: call it before each import, so that a dropped table
    /// is recreated.
    ///
    /// # Errors
    /// Terminal when the existing table does not fit the mapping: another primary key, a column
    /// that can't hold text, a required column that the mapping lacks.
    async fn prepare(&self, table: &TableId, mapping: &Mapping) -> Result<(), TableError>;

    /// Writes all rows and the ledger entry in one transaction. An import that is in the ledger is
    /// not applied again; at most the first batches of its stream are read.
    ///
    /// Safe to repeat after any error, and safe to run twice concurrently. Dropping the future
    /// rolls back, unless the commit was already sent.
    ///
    /// # Errors
    /// When the rows can't be read ([`RowError`]) or the table rejects them.
    async fn import(
        &self,
        import: &Import,
        rows: RowStream<'_>,
    ) -> Result<ImportSummary, TableError>;

    /// Deletes the table with its rows. A missing table is no error. The ledger keeps its entries,
    /// so no completed import is repeated. Fails for a backend that never deletes tables.
    async fn delete(&self, table: &TableId) -> Result<(), TableError> {
        let backend = self.backend().name();
        Err(TableError::Terminal(format!(
            "table \"{table}\" can't be deleted: tables of type {backend} must be deleted manually"
        )))
    }

    /// Removes ledger entries of files whose metadata was removed, so that their import can't be
    /// repeated. Unknown ids are ignored. After an error no entry is removed.
    async fn forget(&self, imports: &[String]) -> Result<(), TableError>;

    /// Number of rows of an import in the ledger.
    async fn imported(&self, import_id: &str) -> Result<Option<u64>, TableError>;

    /// Like [`Self::imported`], but waits until no transaction of that import can be in progress:
    /// the result is final unless the import is started again.
    async fn resolve_import(&self, import_id: &str) -> Result<Option<u64>, TableError> {
        self.imported(import_id).await
    }

    /// The ids that the ledger does not have.
    async fn missing_imports(&self, imports: &[String]) -> Result<Vec<String>, TableError>;

    /// A page of the ledger's ids after `after` (empty for the beginning), in an order of the
    /// backend; an empty page is the end.
    async fn ledger(&self, after: &str, limit: u32) -> Result<Vec<String>, TableError>;

    /// Health check: fails when the backend is unreachable or read-only.
    async fn check(&self) -> Result<(), TableError>;
}

/// Result of [`Table::inspect`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableInspection {
    /// A table, or another object, of that name exists.
    pub exists: bool,
    /// Reasons why the mapping doesn't fit; empty if it does.
    pub findings: Vec<InspectionFinding>,
}

/// A reason why a mapping doesn't fit a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectionFinding {
    /// Index of the mapping's column; `None` for the table itself.
    pub column: Option<usize>,
    /// Problem and what is allowed, with the table's id.
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

/// One import: the rows of a file into its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Unique id and key of the ledger: `<cluster id>/<file key>`.
    pub id: String,
    pub table: TableId,
    /// The columns when the file was opened; a row has a cell for each, in order.
    pub mapping: Mapping,
}

/// Result of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportSummary {
    /// Rows of the file, including those that replaced others of the same key. From the ledger if
    /// the import was completed before.
    pub rows: u64,
    /// The import was in the ledger: nothing was written.
    pub already_done: bool,
    /// Cells with a replacement by U+FFFD, for a NUL or bytes that are not UTF-8.
    pub replaced_cells: u64,
}
