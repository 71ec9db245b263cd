//! A backend under test, and the operations of all cases.

use async_trait::async_trait;
use forebay_model::{ColumnKind, DataType, Mapping, MappingColumn, TableId};
use futures::stream::{self, StreamExt};

use crate::keyed::CellValue;
use crate::table::{Import, ImportSummary, RowBatch, RowError, RowStream, Table, TableError};

/// A backend under test.
#[async_trait]
pub trait Bench: Send + Sync {
    fn table(&self) -> &dyn Table;
    /// A table id that no other case or earlier run uses.
    fn fresh_table(&self) -> TableId;
    /// The table's quoted name in the backend's SQL.
    fn sql_name(&self, table: &TableId) -> String;
    async fn execute(&self, sql: &str);
    /// The first column of a query as text; null is `None`.
    async fn column(&self, sql: &str) -> Vec<Option<String>>;
    /// The values of a typed column in the order of another, as a client of the backend reads them.
    async fn values(
        &self,
        table: &TableId,
        column: &str,
        order: &str,
        data_type: DataType,
    ) -> Vec<CellValue>;
    /// Statements that create the schema of a table that a test creates by SQL.
    fn before_create(&self, table: &TableId) -> String;
}

/// A mapping with these columns; a trailing `*` adds a column to the primary key.
pub fn mapping(names: &[&str]) -> Mapping {
    let column = |name: &&str| MappingColumn {
        primary_key: name.ends_with('*'),
        ..MappingColumn::new(name.trim_end_matches('*'), ColumnKind::Body)
    };
    Mapping {
        columns: names.iter().map(column).collect(),
    }
}

/// An import with an id from the table's and `number`.
pub fn import(table: &TableId, number: u32, mapping: &Mapping) -> Import {
    Import {
        id: format!("conformance/{table}/{number}"),
        table: table.clone(),
        mapping: mapping.clone(),
    }
}

/// Rows as a stream of small batches.
pub fn rows<C: AsRef<[u8]>>(rows: &[Vec<C>]) -> RowStream<'static> {
    let batches: Vec<_> = rows
        .chunks(3)
        .map(|chunk| {
            let mut batch = RowBatch::new(chunk.first().map_or(0, Vec::len));
            for row in chunk {
                batch.push_row(row);
            }
            Ok(batch)
        })
        .collect();
    stream::iter(batches).boxed()
}

/// Rows followed by a failure.
pub(super) fn rows_then_failure(good: &[Vec<&str>], retryable: bool) -> RowStream<'static> {
    let failure = RowError {
        retryable,
        message: "staging object x can't be read".to_owned(),
    };
    rows(good)
        .chain(stream::once(async { Err(failure) }))
        .boxed()
}

/// Prepares and imports, as the importer does.
pub(super) async fn load(
    bench: &dyn Bench,
    import: &Import,
    rows: RowStream<'_>,
) -> Result<ImportSummary, TableError> {
    let table = bench.table();
    table.prepare(&import.table, &import.mapping).await?;
    table.import(import, rows).await
}

/// Number of rows in a table.
pub(super) async fn count(bench: &dyn Bench, table: &TableId) -> u64 {
    let sql = format!(
        "SELECT CAST(count(*) AS TEXT) FROM {}",
        bench.sql_name(table)
    );
    let count = bench.column(&sql).await;
    count.first().cloned().flatten().unwrap().parse().unwrap()
}

/// The cells of a column, in the order of another.
pub(super) async fn cells(
    bench: &dyn Bench,
    table: &TableId,
    column: &str,
    order: &str,
) -> Vec<Option<String>> {
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let sql = format!(
        "SELECT {} FROM {} ORDER BY {}",
        quote(column),
        bench.sql_name(table),
        quote(order)
    );
    bench.column(&sql).await
}

pub(super) fn some(texts: &[&str]) -> Vec<Option<String>> {
    texts.iter().map(|t| Some((*t).to_owned())).collect()
}

pub(super) fn import_summary(rows: u64) -> ImportSummary {
    ImportSummary {
        rows,
        already_done: false,
        replaced_cells: 0,
    }
}

pub(super) fn assert_terminal<T: std::fmt::Debug>(result: Result<T, TableError>, words: &[&str]) {
    match result {
        Err(TableError::Terminal(message)) => {
            for word in words {
                assert!(message.contains(word), "no {word:?} in: {message}");
            }
        }
        other => panic!("expected a terminal error with {words:?}, got {other:?}"),
    }
}
