//! Keyed rows in a Cassandra cluster: `keyspace.table`.
//!
//! Statements are prepared and sent to a replica of their row; the rows of a batch are written
//! concurrently, up to a limit. There are no transactions: a failed batch may be partly written,
//! and repeating it is idempotent. All key columns form the partition key.

use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use forebay_model::words::short;
use futures::{StreamExt, TryStreamExt};
use scylla::client::caching_session::CachingSession;
use scylla::errors::{BadQuery, DbError, ExecutionError, PrepareError, RequestAttemptError};
use scylla::response::query_result::QueryResult;
use scylla::statement::Statement;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, Row as CqlRow};
use tokio::sync::Mutex;

use crate::keyed::{
    CellValue, ColumnSchema, DataType, KeyedBatch, KeyedRow, KeyedTable, PreparedTable, RowRef,
    TableSchema,
};
use crate::table::TableError;
use crate::table::mapping_fit::{quote, quoted};

mod cell;
mod connect;
mod literal;

pub use connect::{CassandraConfig, CassandraTls};

use cell::{CqlCell, from_cql};

/// Maximum length of a key in bytes.
const KEY_BYTES_MAX: usize = 65_535;

pub struct CassandraKeyed {
    config: CassandraConfig,
    /// Created on first use, retried until it succeeds.
    session: Mutex<Option<Arc<CachingSession>>>,
}

impl CassandraKeyed {
    /// Doesn't connect.
    pub fn new(config: CassandraConfig) -> Self {
        Self {
            config,
            session: Mutex::new(None),
        }
    }

    async fn session(&self) -> Result<Arc<CachingSession>, TableError> {
        let mut session = self.session.lock().await;
        if let Some(session) = &*session {
            return Ok(Arc::clone(session));
        }
        let made = connect::connect(&self.config, &self.display_name()).await?;
        *session = Some(Arc::clone(&made));
        Ok(made)
    }

    async fn execute(
        &self,
        action: &str,
        statement: &str,
        values: Vec<&str>,
    ) -> Result<QueryResult, TableError> {
        let session = self.session().await?;
        let result = session.execute_unpaged(statement, values).await;
        result.map_err(|e| self.failed(action, &e))
    }

    /// A cached prepared statement; it is sent to a replica of its row.
    async fn prepared(
        &self,
        action: &str,
        sql: &str,
    ) -> Result<(Arc<CachingSession>, PreparedStatement), TableError> {
        let session = self.session().await?;
        let statement = session
            .add_prepared_statement(&Statement::new(sql))
            .await
            .map_err(|e| self.failed(action, &e.into()))?;
        Ok((session, statement))
    }

    async fn rows(
        &self,
        action: &str,
        statement: &str,
        values: Vec<&str>,
    ) -> Result<Vec<CqlRow>, TableError> {
        let result = self.execute(action, statement, values).await?;
        read_rows(action, result)
    }

    fn failed(&self, action: &str, error: &ExecutionError) -> TableError {
        let error_text = short(&error.to_string());
        let text = format!("{}: can't {action}: {error_text}", self.display_name());
        let attempt = match error {
            ExecutionError::BadQuery(_) => return TableError::Terminal(text),
            ExecutionError::LastAttemptError(e) => e,
            ExecutionError::PrepareError(PrepareError::AllAttemptsFailed { first_attempt }) => {
                first_attempt
            }
            _ => return TableError::Retryable(text),
        };
        let is_terminal = match attempt {
            RequestAttemptError::SerializationError(_) => true,
            RequestAttemptError::DbError(error, _) => matches!(
                error,
                DbError::SyntaxError
                    | DbError::Invalid
                    | DbError::Unauthorized
                    | DbError::ConfigError
                    | DbError::AuthenticationError
            ),
            _ => false,
        };
        if is_terminal {
            TableError::Terminal(text)
        } else {
            TableError::Retryable(text)
        }
    }

    /// Rejects a keyspace whose writes bypass the commit log: a crash of its nodes loses rows that
    /// they have confirmed, and the job's checkpoint is already past them.
    async fn reject_volatile(&self, table: &str) -> Result<(), TableError> {
        let action = format!("look up table \"{table}\"");
        let (keyspace, _) = parts(table)?;
        let sql = "SELECT durable_writes FROM system_schema.keyspaces WHERE keyspace_name = ?";
        let rows = self.rows(&action, sql, vec![keyspace]).await?;
        let durable = rows.first().and_then(|row| row.columns.first()?.clone());
        if durable == Some(CqlValue::Boolean(false)) {
            return Err(TableError::Terminal(format!(
                "table \"{table}\": keyspace \"{keyspace}\" has durable_writes = false: a crash of its nodes would lose rows; run ALTER KEYSPACE {} WITH durable_writes = true",
                quote(keyspace)
            )));
        }
        Ok(())
    }

    async fn create_table(&self, schema: &TableSchema) -> Result<(), TableError> {
        let action = format!("create table \"{}\"", schema.table);
        let (keyspace, _) = parts(&schema.table)?;
        let sql = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
        let keyspaces = self.rows(&action, sql, vec![keyspace]).await?;
        if keyspaces.is_empty() {
            let sql = format!(
                "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': {}}}",
                quote(keyspace),
                self.config.replication
            );
            self.execute(&action, &sql, Vec::new()).await?;
        }
        let mut columns = String::new();
        for column in &schema.columns {
            // Writing to a String can't fail.
            _ = write!(
                columns,
                "{} {}, ",
                quote(&column.name),
                declared(column.kind)
            );
        }
        let key = quoted(schema.key().map(|c| &c.name));
        let table = qualified(&schema.table)?;
        let sql = format!("CREATE TABLE IF NOT EXISTS {table} ({columns}PRIMARY KEY (({key})))");
        self.execute(&action, &sql, Vec::new()).await.map(drop)
    }
}

#[async_trait]
impl KeyedTable for CassandraKeyed {
    fn display_name(&self) -> String {
        format!("Cassandra at {}", self.config.nodes.join(", "))
    }

    async fn prepare(&self, schema: &TableSchema) -> Result<PreparedTable, TableError> {
        schema
            .check()
            .map_err(|e| TableError::Terminal(e.to_string()))?;
        match self.describe(&schema.table).await? {
            Some(existing) => as_stored(schema).fits(&existing)?,
            None => self.create_table(schema).await?,
        }
        self.reject_volatile(&schema.table).await?;
        let action = format!("prepare table \"{}\"", schema.table);
        let (keyspace, table) = parts(&schema.table)?;
        let sql = "SELECT id FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
        let ids = self.rows(&action, sql, vec![keyspace, table]).await?;
        let id = ids.first().and_then(|row| row.columns.first()?.clone());
        let Some(CqlValue::Uuid(id)) = id else {
            return Err(TableError::Retryable(format!(
                "can't {action}: it is not visible in the cluster yet"
            )));
        };
        let key = quoted(schema.key().map(|c| &c.name));
        let sql = format!("SELECT {key} FROM {} LIMIT 1", qualified(&schema.table)?);
        let some = self.rows(&action, &sql, Vec::new()).await?;
        Ok(PreparedTable {
            incarnation: id.to_string(),
            is_empty: some.is_empty(),
        })
    }

    async fn upsert(&self, schema: &TableSchema, rows: &KeyedBatch) -> Result<(), TableError> {
        let action = format!("write to table \"{}\"", schema.table);
        let marks = vec!["?"; schema.columns.len()].join(", ");
        let sql = format!(
            "INSERT INTO {} ({}) VALUES ({marks})",
            qualified(&schema.table)?,
            quoted(schema.columns.iter().map(|c| &c.name)),
        );
        let (session, insert) = self.prepared(&action, &sql).await?;
        // Concurrent writes have no order: write each key once.
        let rows = rows.select(schema.last_of_each_key(rows));
        let (session, insert) = (session.get_session(), &insert);
        let write = async |row: RowRef<'_>| {
            let cells = row.cells().zip(&schema.columns);
            let cells: Vec<CqlCell<'_>> = cells.map(|(v, c)| CqlCell::new(v, c.is_key)).collect();
            session.execute_unpaged(insert, cells).await.map(drop)
        };
        futures::stream::iter(rows.iter())
            .map(write)
            .buffer_unordered(self.config.in_flight.max(1))
            .try_collect::<()>()
            .await
            .map_err(|e| self.failed(&action, &e))
    }

    async fn describe(&self, table: &str) -> Result<Option<TableSchema>, TableError> {
        let action = format!("look up table \"{table}\"");
        let (keyspace, name) = parts(table)?;
        let sql = "SELECT column_name, type, kind, position FROM system_schema.columns
                   WHERE keyspace_name = ? AND table_name = ?";
        let rows = self.rows(&action, sql, vec![keyspace, name]).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut columns = Vec::new();
        for row in rows {
            let mut cells = row.columns.into_iter();
            let mut next = || match cells.next().flatten() {
                Some(CqlValue::Text(text) | CqlValue::Ascii(text)) => text,
                _ => String::new(),
            };
            let (name, declared, part) = (next(), next(), next());
            let kind = kind_of(&declared);
            columns.push(ColumnSchema {
                name,
                kind: kind.unwrap_or(DataType::Text),
                is_key: part == "partition_key" || part == "clustering",
                foreign: kind.is_none().then_some(declared),
            });
        }
        // The cluster has no column order; the key first reads best.
        columns.sort_by_key(|c| !c.is_key);
        Ok(Some(TableSchema {
            table: table.to_owned(),
            columns,
        }))
    }

    async fn get(
        &self,
        schema: &Arc<TableSchema>,
        key: &[CellValue],
    ) -> Result<Option<KeyedRow>, TableError> {
        let action = format!("look up a row of table \"{}\"", schema.table);
        let conditions: Vec<String> = schema
            .key()
            .map(|c| format!("{} = ?", quote(&c.name)))
            .collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE {}",
            quoted(schema.columns.iter().map(|c| &c.name)),
            qualified(&schema.table)?,
            conditions.join(" AND ")
        );
        if key.iter().any(is_too_long) {
            return Ok(None);
        }
        let (session, select) = self.prepared(&action, &sql).await?;
        let cells = key.iter().map(CellValue::as_ref);
        let cells: Vec<CqlCell<'_>> = cells.map(|value| CqlCell::new(value, true)).collect();
        let result = match session.get_session().execute_unpaged(&select, cells).await {
            Ok(result) => result,
            // A key that its column can't hold has no row.
            Err(ExecutionError::BadQuery(BadQuery::SerializationError(_))) => return Ok(None),
            Err(e) => return Err(self.failed(&action, &e)),
        };
        let rows = read_rows(&action, result)?;
        let row = rows.into_iter().next().map(|row| {
            let cells = row.columns.into_iter().zip(&schema.columns);
            KeyedRow(cells.map(|(cell, c)| from_cql(cell, c.kind)).collect())
        });
        Ok(row)
    }

    async fn check(&self) -> Result<(), TableError> {
        let sql = "SELECT release_version FROM system.local";
        self.rows("check the cluster", sql, Vec::new())
            .await
            .map(drop)
    }
}

/// Whether a key exceeds the server's limit, so that no row can have it.
fn is_too_long(key: &CellValue) -> bool {
    matches!(key, CellValue::Text(text) if text.len() > KEY_BYTES_MAX)
}

fn read_rows(action: &str, result: QueryResult) -> Result<Vec<CqlRow>, TableError> {
    let unreadable =
        |e: &dyn std::fmt::Display| TableError::Terminal(format!("can't {action}: {e}"));
    let result = result.into_rows_result().map_err(|e| unreadable(&e))?;
    let rows = result.rows::<CqlRow>().map_err(|e| unreadable(&e))?;
    rows.collect::<Result<_, _>>().map_err(|e| unreadable(&e))
}

/// The schema as the cluster describes it: JSON is stored as text.
fn as_stored(schema: &TableSchema) -> TableSchema {
    let mut stored = schema.clone();
    for column in &mut stored.columns {
        if column.kind == DataType::Json {
            column.kind = DataType::Text;
        }
    }
    stored
}

fn parts(table: &str) -> Result<(&str, &str), TableError> {
    table
        .split_once('.')
        .ok_or_else(|| TableError::Terminal(format!("table \"{table}\" must be KEYSPACE.TABLE")))
}

fn qualified(table: &str) -> Result<String, TableError> {
    let (keyspace, name) = parts(table)?;
    Ok(format!("{}.{}", quote(keyspace), quote(name)))
}

fn declared(kind: DataType) -> &'static str {
    match kind {
        DataType::Text | DataType::Json => "text",
        DataType::Integer => "bigint",
        DataType::Double => "double",
        DataType::Boolean => "boolean",
        DataType::Timestamp => "timestamp",
    }
}

fn kind_of(declared: &str) -> Option<DataType> {
    match declared {
        "text" | "varchar" | "ascii" => Some(DataType::Text),
        "bigint" | "int" | "smallint" | "tinyint" => Some(DataType::Integer),
        "double" | "float" => Some(DataType::Double),
        "boolean" => Some(DataType::Boolean),
        "timestamp" => Some(DataType::Timestamp),
        _ => None,
    }
}
