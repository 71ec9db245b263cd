//! Keyed rows in an SQLite file.
//!
//! One connection writes, a few read, each in its own thread. Timestamps are stored as texts in
//! chronological order, booleans as 0 and 1, as SQLite's functions expect.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::keyed::{
    CellValue, ColumnSchema, KeyedBatch, KeyedRow, KeyedTable, PreparedTable, TableSchema,
};
use crate::table::TableError;
use crate::table::mapping_fit::{quote, quoted};

mod cell;
mod connection;
mod readers;
mod writer;

use cell::kind_of;
pub(crate) use cell::{bind, declared};
use readers::ReaderPool;
use writer::SqliteWriter;

use connection::failed;

/// Creation id of each table: it changes when the table is dropped and recreated.
const INCARNATIONS: &str = "CREATE TABLE IF NOT EXISTS _forebay_tables (
    name TEXT PRIMARY KEY, incarnation TEXT NOT NULL)";

#[derive(Debug)]
pub struct SqliteKeyed {
    path: PathBuf,
    writer: SqliteWriter,
    readers: ReaderPool,
}

impl SqliteKeyed {
    /// The file is created with the first table, and not opened yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            writer: SqliteWriter::default(),
            readers: ReaderPool::default(),
        }
    }
}

#[async_trait]
impl KeyedTable for SqliteKeyed {
    fn display_name(&self) -> String {
        format!("SQLite file {}", self.path.display())
    }

    async fn prepare(&self, schema: &TableSchema) -> Result<PreparedTable, TableError> {
        let schema = schema.clone();
        let work = move |path: &Path, c: &mut Connection| prepare(path, c, &schema);
        self.writer.write(&self.path, work).await
    }

    async fn upsert(&self, schema: &TableSchema, rows: &KeyedBatch) -> Result<(), TableError> {
        let (schema, rows) = (schema.clone(), rows.clone());
        let work = move |path: &Path, c: &mut Connection| upsert(path, c, &schema, &rows);
        self.writer.write(&self.path, work).await
    }

    async fn describe(&self, table: &str) -> Result<Option<TableSchema>, TableError> {
        let table = table.to_owned();
        let path = &self.path;
        if !path.exists() {
            let text = format!("there is no SQLite file {}", path.display());
            return Err(TableError::Terminal(text));
        }
        let work = move |reader: &mut readers::ReaderContext| {
            let path = reader.path.clone();
            describe(&path, reader.connection()?, &table)
        };
        self.readers.run(path, work).await
    }

    async fn get(
        &self,
        schema: &Arc<TableSchema>,
        key: &[CellValue],
    ) -> Result<Option<KeyedRow>, TableError> {
        let (schema, key) = (Arc::clone(schema), key.to_vec());
        let work = move |reader: &mut readers::ReaderContext| reader.get(&schema, &key);
        self.readers.run(&self.path, work).await
    }

    async fn check(&self) -> Result<(), TableError> {
        let work = |reader: &mut readers::ReaderContext| {
            let path = reader.path.clone();
            reader
                .connection()?
                .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
                .map_err(failed(&path, "read the schema"))
        };
        self.readers.run(&self.path, work).await
    }
}

fn prepare(
    path: &Path,
    c: &mut Connection,
    schema: &TableSchema,
) -> Result<PreparedTable, TableError> {
    schema
        .check()
        .map_err(|e| TableError::Terminal(e.to_string()))?;
    let action = format!("prepare table \"{}\"", schema.table);
    let failed = || failed(path, &action);
    // Lock from the beginning: another process may prepare the same table.
    let transaction = c
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed())?;
    transaction.execute_batch(INCARNATIONS).map_err(failed())?;
    let incarnation = |t: &rusqlite::Transaction<'_>| {
        t.query_row(
            "SELECT incarnation FROM _forebay_tables WHERE name = ?1",
            [&schema.table],
            |row| row.get::<_, String>(0),
        )
        .optional()
    };
    match describe(path, &transaction, &schema.table)? {
        Some(existing) => schema.fits(&existing)?,
        None => {
            transaction
                .execute_batch(&create_sql(schema))
                .map_err(failed())?;
            transaction
                .execute(
                    "DELETE FROM _forebay_tables WHERE name = ?1",
                    [&schema.table],
                )
                .map_err(failed())?;
        }
    }
    let recorded = incarnation(&transaction).map_err(failed())?;
    if recorded.is_none() {
        transaction
            .execute(
                "INSERT INTO _forebay_tables VALUES (?1, lower(hex(randomblob(16))))",
                [&schema.table],
            )
            .map_err(failed())?;
    }
    let incarnation = incarnation(&transaction)
        .map_err(failed())?
        .unwrap_or_default();
    let is_empty = transaction
        .query_row(
            &format!("SELECT NOT EXISTS (SELECT 1 FROM {})", quote(&schema.table)),
            [],
            |row| row.get(0),
        )
        .map_err(failed())?;
    transaction.commit().map_err(failed())?;
    Ok(PreparedTable {
        incarnation,
        is_empty,
    })
}

fn create_sql(schema: &TableSchema) -> String {
    let mut parts: Vec<String> = schema
        .columns
        .iter()
        .map(|c| {
            let not_null = if c.is_key { " NOT NULL" } else { "" };
            format!("{} {}{not_null}", quote(&c.name), declared(c.kind))
        })
        .collect();
    let key = quoted(schema.key().map(|c| &c.name));
    parts.push(format!("PRIMARY KEY ({key})"));
    format!(
        "CREATE TABLE {} ({})",
        quote(&schema.table),
        parts.join(", ")
    )
}

fn upsert(
    path: &Path,
    c: &mut Connection,
    schema: &TableSchema,
    rows: &KeyedBatch,
) -> Result<(), TableError> {
    let action = format!("write to table \"{}\"", schema.table);
    let failed = || failed(path, &action);
    let transaction = c
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed())?;
    {
        let mut statement = transaction
            .prepare_cached(&upsert_sql(schema))
            .map_err(failed())?;
        for row in rows.iter() {
            for (index, cell) in (1..).zip(row.cells()) {
                bind(&mut statement, index, cell).map_err(failed())?;
            }
            statement.raw_execute().map_err(failed())?;
        }
    }
    transaction.commit().map_err(failed())
}

fn upsert_sql(schema: &TableSchema) -> String {
    let marks = vec!["?"; schema.columns.len()].join(", ");
    let updates: Vec<String> = schema
        .columns
        .iter()
        .filter(|c| !c.is_key)
        .map(|c| format!("{0} = excluded.{0}", quote(&c.name)))
        .collect();
    let conflict = if updates.is_empty() {
        "NOTHING".to_owned()
    } else {
        format!("UPDATE SET {}", updates.join(", "))
    };
    format!(
        "INSERT INTO {} ({}) VALUES ({marks}) ON CONFLICT ({}) DO {conflict}",
        quote(&schema.table),
        quoted(schema.columns.iter().map(|c| &c.name)),
        quoted(schema.key().map(|c| &c.name)),
    )
}

fn describe(path: &Path, c: &Connection, table: &str) -> Result<Option<TableSchema>, TableError> {
    let action = format!("look up table \"{table}\"");
    let failed = || failed(path, &action);
    let mut statement = c
        .prepare("SELECT name, type, pk FROM pragma_table_info(?1)")
        .map_err(failed())?;
    let columns = statement
        .query_map([table], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, i64>(2)?,
            ))
        })
        .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
        .map_err(failed())?;
    if columns.is_empty() {
        return Ok(None);
    }
    let columns = columns
        .into_iter()
        .map(|(name, declared, pk)| ColumnSchema {
            kind: kind_of(&declared),
            name,
            is_key: pk > 0,
            // SQLite has five storage classes and accepts any type name.
            foreign: None,
        });
    Ok(Some(TableSchema {
        table: table.to_owned(),
        columns: columns.collect(),
    }))
}
