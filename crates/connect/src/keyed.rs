//! Tables with typed rows that are written and read by key: the target of pull jobs and the source
//! of lookups.
//!
//! The [`Table`](crate::table::Table) of a sink imports whole files of text with a ledger, so that
//! rows without a key arrive exactly once. Here each row has a key and writes are idempotent: so a
//! job that is killed and resumed is exact, even on stores without transactions.

use std::sync::Arc;

use async_trait::async_trait;

use crate::table::TableError;

mod rows;
mod schema;
pub(crate) mod value;

#[cfg(feature = "cassandra")]
pub mod cassandra;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use forebay_model::DataType;
pub use rows::{KeyedBatch, RowBuffer, RowRef, RowWriter, ValueRef};
pub use schema::{ColumnSchema, InvalidSchema, TableSchema};
pub use value::{CellValue, KeyedRow};

/// A store of tables with keyed rows.
#[async_trait]
pub trait KeyedTable: Send + Sync {
    /// Location of the store, without passwords.
    fn display_name(&self) -> String;

    /// Creates the table if it doesn't exist; otherwise checks that it fits the schema: each column
    /// with its type, and the key. Further columns of the table are ignored.
    ///
    /// # Errors
    /// Terminal when the existing table has another key, lacks a column or has one of another type;
    /// the text states both sides.
    async fn prepare(&self, schema: &TableSchema) -> Result<PreparedTable, TableError>;

    /// Writes rows; each replaces the row of the same key. Of two rows with the same key the later
    /// one of the batch wins. Atomic if the store has transactions; otherwise an error may leave
    /// some rows written. Safe to repeat.
    ///
    /// # Errors
    /// Terminal when the store rejects a row for good.
    async fn upsert(&self, schema: &TableSchema, rows: &KeyedBatch) -> Result<(), TableError>;

    /// Schema of an existing table. A column whose type is not a [`DataType`] is a text column
    /// with [`ColumnSchema::foreign`] set.
    async fn describe(&self, table: &str) -> Result<Option<TableSchema>, TableError>;

    /// Row of a key; values are in the order of the schema's columns, foreign ones as the store's
    /// text. A key that its column can't hold has no row.
    async fn get(
        &self,
        schema: &Arc<TableSchema>,
        key: &[CellValue],
    ) -> Result<Option<KeyedRow>, TableError>;

    /// Health check: fails when the store is unreachable.
    async fn check(&self) -> Result<(), TableError>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedTable {
    /// Changes when the table is dropped and recreated, so that cached knowledge of the old table
    /// is not applied to the new one.
    pub incarnation: String,
    /// The table has no rows.
    pub is_empty: bool,
}
