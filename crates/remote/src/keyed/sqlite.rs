//! Keyed rows in an SQLite file.
//!
//! One connection writes, a few read; each is used in threads that may block. Timestamps are texts
//! whose order is the order of moments, booleans are 0 and 1, as SQLite's own functions expect.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use crate::keyed::{Column, KeyedTable, Prepared, Row, Shape, Value, ValueType};
use crate::table::TableError;
use crate::table::shape::{quote, quoted};
use crate::table::sqlite::classify;

/// Connections that read.
const READERS: usize = 4;
/// How long to wait for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// When each table was made: another number after it was dropped and made again.
const INCARNATIONS: &str = "CREATE TABLE IF NOT EXISTS _forebay_tables (
    name TEXT PRIMARY KEY, incarnation TEXT NOT NULL)";

/// Keyed rows in an SQLite file.
#[derive(Debug)]
pub struct SqliteKeyed {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    writer: Mutex<Option<Connection>>,
    readers: [Mutex<Option<Connection>>; READERS],
    next_reader: AtomicUsize,
}

impl SqliteKeyed {
    /// In a file, which is made with the first table. Nothing is opened yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            inner: Arc::new(Inner {
                path: path.into(),
                writer: Mutex::new(None),
                readers: Default::default(),
                next_reader: AtomicUsize::new(0),
            }),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, TableError> + Send + 'static,
    ) -> Result<T, TableError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .unwrap_or_else(|e| Err(TableError::Retryable(format!("the work was ended: {e}"))))
    }
}

impl Inner {
    fn failed<'a>(&'a self, action: &'a str) -> impl Fn(rusqlite::Error) -> TableError + 'a {
        move |error| {
            let (retryable, cause) = classify(&error);
            let message = format!("can't {action} in {}: {cause}", self.path.display());
            if retryable {
                TableError::Retryable(message)
            } else {
                TableError::Terminal(message)
            }
        }
    }

    /// Works on a connection, which is given up after an error: the next work opens another.
    fn with<T>(
        &self,
        slot: &Mutex<Option<Connection>>,
        open: impl FnOnce() -> rusqlite::Result<Connection>,
        work: impl FnOnce(&mut Connection) -> Result<T, TableError>,
    ) -> Result<T, TableError> {
        let mut slot: MutexGuard<'_, _> = slot.lock().unwrap_or_else(|e| e.into_inner());
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => open().map_err(self.failed("open the database"))?,
        };
        let result = work(&mut connection);
        if result.is_ok() {
            *slot = Some(connection);
        }
        result
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, TableError>,
    ) -> Result<T, TableError> {
        self.with(&self.writer, || connect_writer(&self.path), work)
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, TableError>,
    ) -> Result<T, TableError> {
        let next = self.next_reader.fetch_add(1, Ordering::Relaxed) % READERS;
        let slot = self.readers.get(next).unwrap_or(&self.writer);
        self.with(slot, || connect_reader(&self.path), work)
    }
}

fn connect_writer(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // What is written is on disk when it counts as written: the job's checkpoint relies on it.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    Ok(connection)
}

fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

#[async_trait]
impl KeyedTable for SqliteKeyed {
    fn place(&self) -> String {
        format!("SQLite file {}", self.inner.path.display())
    }

    async fn prepare(&self, shape: &Shape) -> Result<Prepared, TableError> {
        let shape = shape.clone();
        self.blocking(move |inner| inner.write(|c| prepare(inner, c, &shape)))
            .await
    }

    async fn upsert(&self, shape: &Shape, rows: &[Row]) -> Result<(), TableError> {
        let (shape, rows) = (shape.clone(), rows.to_vec());
        self.blocking(move |inner| inner.write(|c| upsert(inner, c, &shape, &rows)))
            .await
    }

    async fn describe(&self, table: &str) -> Result<Option<Shape>, TableError> {
        let table = table.to_owned();
        self.blocking(move |inner| {
            if !inner.path.exists() {
                return Err(TableError::Terminal(format!(
                    "there is no SQLite file {}",
                    inner.path.display()
                )));
            }
            inner.read(|c| describe(inner, c, &table))
        })
        .await
    }

    async fn get(&self, shape: &Shape, key: &[Value]) -> Result<Option<Row>, TableError> {
        let (shape, key) = (shape.clone(), key.to_vec());
        self.blocking(move |inner| inner.read(|c| get(inner, c, &shape, &key)))
            .await
    }

    async fn check(&self) -> Result<(), TableError> {
        self.blocking(|inner| {
            inner.read(|c| {
                c.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
                    .map_err(inner.failed("read the schema"))
            })
        })
        .await
    }
}

fn prepare(inner: &Inner, c: &mut Connection, shape: &Shape) -> Result<Prepared, TableError> {
    shape
        .check()
        .map_err(|e| TableError::Terminal(e.to_string()))?;
    let action = format!("prepare table \"{}\"", shape.table);
    let failed = || inner.failed(&action);
    // Under the lock from the beginning: another process may prepare the same table.
    let transaction = c
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed())?;
    transaction.execute_batch(INCARNATIONS).map_err(failed())?;
    let incarnation = |t: &rusqlite::Transaction<'_>| {
        t.query_row(
            "SELECT incarnation FROM _forebay_tables WHERE name = ?1",
            [&shape.table],
            |row| row.get::<_, String>(0),
        )
        .optional()
    };
    match describe(inner, &transaction, &shape.table)? {
        Some(there) => shape.fits(&there)?,
        None => {
            transaction
                .execute_batch(&create_sql(shape))
                .map_err(failed())?;
            transaction
                .execute(
                    "DELETE FROM _forebay_tables WHERE name = ?1",
                    [&shape.table],
                )
                .map_err(failed())?;
        }
    }
    let known = incarnation(&transaction).map_err(failed())?;
    if known.is_none() {
        transaction
            .execute(
                "INSERT INTO _forebay_tables VALUES (?1, lower(hex(randomblob(16))))",
                [&shape.table],
            )
            .map_err(failed())?;
    }
    let incarnation = incarnation(&transaction)
        .map_err(failed())?
        .unwrap_or_default();
    let is_empty = transaction
        .query_row(
            &format!("SELECT NOT EXISTS (SELECT 1 FROM {})", quote(&shape.table)),
            [],
            |row| row.get(0),
        )
        .map_err(failed())?;
    transaction.commit().map_err(failed())?;
    Ok(Prepared {
        incarnation,
        is_empty,
    })
}

fn create_sql(shape: &Shape) -> String {
    let mut parts: Vec<String> = shape
        .columns
        .iter()
        .map(|c| {
            let not_null = if c.is_key { " NOT NULL" } else { "" };
            format!("{} {}{not_null}", quote(&c.name), declared(c.kind))
        })
        .collect();
    let key = quoted(shape.key().map(|c| &c.name));
    parts.push(format!("PRIMARY KEY ({key})"));
    format!(
        "CREATE TABLE {} ({})",
        quote(&shape.table),
        parts.join(", ")
    )
}

fn upsert(
    inner: &Inner,
    c: &mut Connection,
    shape: &Shape,
    rows: &[Row],
) -> Result<(), TableError> {
    let action = format!("write into table \"{}\"", shape.table);
    let failed = || inner.failed(&action);
    let transaction = c
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed())?;
    {
        let mut statement = transaction
            .prepare_cached(&upsert_sql(shape))
            .map_err(failed())?;
        for row in rows {
            statement
                .execute(rusqlite::params_from_iter(row.0.iter().map(Cell)))
                .map_err(failed())?;
        }
    }
    transaction.commit().map_err(failed())
}

fn upsert_sql(shape: &Shape) -> String {
    let marks = vec!["?"; shape.columns.len()].join(", ");
    let updates: Vec<String> = shape
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
        quote(&shape.table),
        quoted(shape.columns.iter().map(|c| &c.name)),
        quoted(shape.key().map(|c| &c.name)),
    )
}

fn describe(inner: &Inner, c: &Connection, table: &str) -> Result<Option<Shape>, TableError> {
    let action = format!("look up table \"{table}\"");
    let failed = || inner.failed(&action);
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
    let columns = columns.into_iter().map(|(name, declared, pk)| Column {
        kind: kind_of(&declared),
        name,
        is_key: pk > 0,
    });
    Ok(Some(Shape {
        table: table.to_owned(),
        columns: columns.collect(),
    }))
}

fn get(
    inner: &Inner,
    c: &Connection,
    shape: &Shape,
    key: &[Value],
) -> Result<Option<Row>, TableError> {
    let action = format!("look up a row of table \"{}\"", shape.table);
    let failed = || inner.failed(&action);
    let conditions: Vec<String> = shape
        .key()
        .map(|c| format!("{} = ?", quote(&c.name)))
        .collect();
    let sql = format!(
        "SELECT {} FROM {} WHERE {}",
        quoted(shape.columns.iter().map(|c| &c.name)),
        quote(&shape.table),
        conditions.join(" AND ")
    );
    let mut statement = c.prepare_cached(&sql).map_err(failed())?;
    statement
        .query_row(rusqlite::params_from_iter(key.iter().map(Cell)), |row| {
            let cells = shape.columns.iter().enumerate();
            let cells = cells.map(|(i, column)| Ok(from_cell(row.get_ref(i)?, column.kind)));
            Ok(Row(cells.collect::<rusqlite::Result<_>>()?))
        })
        .optional()
        .map_err(failed())
}

/// The name of a type in `CREATE TABLE`; its affinity is right for the values.
fn declared(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Text => "TEXT",
        ValueType::Integer => "INTEGER",
        ValueType::Double => "REAL",
        ValueType::Boolean => "BOOLEAN",
        // SQLite takes any name that has TEXT in it for text.
        ValueType::Timestamp => "TIMESTAMP_TEXT",
        ValueType::Json => "JSON_TEXT",
    }
}

/// The type that a declared one stands for, by SQLite's own rules of affinity for those of others.
fn kind_of(declared: &str) -> ValueType {
    let declared = declared.to_ascii_uppercase();
    let has = |names: &[&str]| names.iter().any(|n| declared.contains(n));
    match declared.as_str() {
        "JSON" | "JSON_TEXT" => ValueType::Json,
        "TIMESTAMP_TEXT" => ValueType::Timestamp,
        _ if has(&["BOOL"]) => ValueType::Boolean,
        _ if has(&["INT"]) => ValueType::Integer,
        _ if has(&["REAL", "FLOA", "DOUB", "NUMERIC", "DECIMAL"]) => ValueType::Double,
        _ => ValueType::Text,
    }
}

struct Cell<'a>(&'a Value);

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            Value::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Value::Text(text) | Value::Json(text) => {
                ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()))
            }
            Value::Integer(n) => ToSqlOutput::Owned((*n).into()),
            Value::Double(n) => ToSqlOutput::Owned((*n).into()),
            Value::Boolean(b) => ToSqlOutput::Owned(i64::from(*b).into()),
            Value::Timestamp(t) => ToSqlOutput::Owned(t.to_string().into()),
        })
    }
}

/// A cell as the column's type; SQLite lets any column hold anything, so what does not fit is text.
fn from_cell(cell: ValueRef<'_>, kind: ValueType) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match (cell, kind) {
        (ValueRef::Null, _) => Value::Null,
        (ValueRef::Integer(n), ValueType::Boolean) => Value::Boolean(n != 0),
        (ValueRef::Integer(n), _) => Value::Integer(n),
        (ValueRef::Real(n), _) => Value::Double(n),
        (ValueRef::Text(t), ValueType::Json) => Value::Json(text(t)),
        (ValueRef::Text(t), ValueType::Timestamp) => {
            let text = text(t);
            text.parse().map_or(Value::Text(text), Value::Timestamp)
        }
        (ValueRef::Text(t) | ValueRef::Blob(t), _) => Value::Text(text(t)),
    }
}
