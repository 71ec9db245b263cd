//! Tables with typed rows that are written and read by key: the end of a pull job, and what the
//! lookup service reads.
//!
//! The [`Table`](crate::table::Table) of a sink takes whole files of text with a ledger, so that
//! rows without a key arrive once. Here each row has a key, and writing it again changes nothing:
//! that is what makes a job that is killed and goes on exact, and what stores without transactions
//! can do.

use std::sync::Arc;

use async_trait::async_trait;

use crate::table::TableError;

mod rows;
mod schema;
pub(crate) mod value;

#[cfg(feature = "cassandra")]
pub mod cassandra;
#[cfg(any(test, feature = "test-services"))]
pub mod conformance;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use rows::{KeyedBatch, RowBuffer, RowRef, RowWriter, ValueRef};
pub use schema::{ColumnSchema, InvalidSchema, TableSchema};
pub use value::{CellValue, KeyedRow, ValueType};

/// A store that keeps tables of keyed rows.
#[async_trait]
pub trait KeyedTable: Send + Sync {
    /// Where it is, for people: without passwords.
    fn display_name(&self) -> String;

    /// Makes the table when it is not there, and checks that the shape fits when it is: each column
    /// with its type, and the key. Columns of the table that the shape does not have are left
    /// alone.
    ///
    /// # Errors
    /// Terminal when the table that is there has another key, lacks a column or has one of another
    /// type; the text names both sides.
    async fn prepare(&self, schema: &TableSchema) -> Result<PreparedTable, TableError>;

    /// Writes rows; each replaces what its key had. Of two rows with the same key the later one of
    /// the batch stays. All or nothing where the store has transactions; else some may be written
    /// when it fails. Safe to repeat.
    ///
    /// # Errors
    /// Terminal when the store refuses a row, and will again.
    async fn upsert(&self, schema: &TableSchema, rows: &KeyedBatch) -> Result<(), TableError>;

    /// The shape of a table that is there. A column whose type is not one of [`ValueType`] is one of
    /// text that is [`ColumnSchema::foreign`].
    ///
    /// # Errors
    /// When the store can't be asked.
    async fn describe(&self, table: &str) -> Result<Option<TableSchema>, TableError>;

    /// The row of a key; its values are in the order of the shape's columns, foreign ones as the text
    /// that the store has for them. A key that its column can't hold has no row.
    ///
    /// # Errors
    /// When the store can't be asked.
    async fn get(
        &self,
        schema: &Arc<TableSchema>,
        key: &[CellValue],
    ) -> Result<Option<KeyedRow>, TableError>;

    /// Whether the store can be reached, for health checks.
    ///
    /// # Errors
    /// When it can't, saying why.
    async fn check(&self) -> Result<(), TableError>;
}

/// A table that is ready for rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedTable {
    /// Another one after the table was dropped and made again, so that nobody takes what is known
    /// of the old one for true of the new.
    pub incarnation: String,
    /// It has no rows.
    pub is_empty: bool,
}
