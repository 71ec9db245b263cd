//! Keyed rows in a PostgreSQL server: `products`, or `schema.products`.
//!
//! A batch is one statement with an array parameter per column, however many rows there are. A
//! table that was empty is filled by plain inserts until a key exists already, as those cost the
//! server a third less than upserts.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use forebay_model::TimestampMicros;
use forebay_model::calendar::{self, DAY_SECONDS};
use parking_lot::{Mutex, MutexGuard};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::PostgresConfig;
use super::connect::{PostgresConnection, PostgresServer, text};
use super::pool::ConnectionPool;
use super::volatile::{VOLATILE, check_volatile};
use crate::keyed::value::widened;
use crate::keyed::{
    CellValue, ColumnSchema, DataType, KeyedBatch, KeyedRow, KeyedTable, PreparedTable,
    TableSchema, ValueRef,
};
use crate::table::TableError;
use crate::table::mapping_fit::{quote, quoted};

/// Microseconds from the Unix epoch to PostgreSQL's epoch, 2000-01-01.
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;

#[derive(Debug)]
pub struct PostgresKeyed {
    pool: ConnectionPool,
    /// The table that was empty when it was prepared, until a key to insert exists already.
    new: Mutex<Option<String>>,
}

impl PostgresKeyed {
    /// Parses the configuration; connections are opened on demand. Fails when the connection string
    /// or a certificate can't be read.
    pub fn open(config: &PostgresConfig) -> Result<Self, TableError> {
        let server = PostgresServer::new(config)?;
        Ok(Self {
            pool: ConnectionPool::new(Arc::new(server), config.pool_size),
            new: Mutex::new(None),
        })
    }

    fn new_table(&self) -> MutexGuard<'_, Option<String>> {
        self.new.lock()
    }
}

#[async_trait]
impl KeyedTable for PostgresKeyed {
    fn display_name(&self) -> String {
        self.pool.server().display_name().to_owned()
    }

    async fn prepare(&self, schema: &TableSchema) -> Result<PreparedTable, TableError> {
        schema
            .check()
            .map_err(|e| TableError::Terminal(e.to_string()))?;
        let action = format!("prepare table \"{}\"", schema.table);
        let connection = self.pool.acquire().await?;
        match describe(&connection, &schema.table).await? {
            Some(existing) => schema.fits(&existing)?,
            None => connection.execute(&action, &create_sql(schema)).await?,
        }
        let table = qualified(&schema.table);
        reject_volatile(&connection, &schema.table).await?;
        let sql = format!(
            "SELECT '{table}'::regclass::oid::int8, NOT EXISTS (SELECT 1 FROM {table}),
                    (SELECT oid::int8 FROM pg_database WHERE datname = current_database())"
        );
        let rows = connection.query(&action, &sql, &[]).await?;
        connection.release();
        let Some(row) = rows.first() else {
            return Err(TableError::Retryable(format!(
                "can't {action}: no response"
            )));
        };
        let (table, is_empty, database): (i64, bool, i64) = (row.get(0), row.get(1), row.get(2));
        *self.new_table() = is_empty.then(|| schema.table.clone());
        Ok(PreparedTable {
            incarnation: format!("{database}.{table}"),
            is_empty,
        })
    }

    async fn upsert(&self, schema: &TableSchema, rows: &KeyedBatch) -> Result<(), TableError> {
        // One statement can't write a row twice.
        let rows = rows.select(schema.last_of_each_key(rows));
        if rows.is_empty() {
            return Ok(());
        }
        let action = format!("write to table \"{}\"", schema.table);
        let arrays: Vec<Vec<ToSqlCell<'_>>> = (0..schema.columns.len())
            .map(|i| rows.iter().map(|row| ToSqlCell(row.get(i))).collect())
            .collect();
        let types = schema.columns.iter().map(|c| array_type(c.kind));
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> = arrays
            .iter()
            .map(|a| a as &(dyn ToSql + Sync))
            .zip(types)
            .collect();
        let connection = self.pool.acquire().await?;
        let is_new = self.new_table().as_ref() == Some(&schema.table);
        if is_new {
            let inserted = connection
                .query_durably(&action, &insert_sql(schema), &parameters)
                .await;
            match inserted {
                Ok(()) => {
                    connection.release();
                    return Ok(());
                }
                Err(e) if e.is_retryable() => return Err(e),
                // The key exists; or a row is invalid, which the upsert reports.
                Err(_) => *self.new_table() = None,
            }
        }
        let sql = format!("{}{}", insert_sql(schema), on_conflict(schema));
        connection.query_durably(&action, &sql, &parameters).await?;
        connection.release();
        Ok(())
    }

    async fn describe(&self, table: &str) -> Result<Option<TableSchema>, TableError> {
        let connection = self.pool.acquire().await?;
        let schema = describe(&connection, table).await?;
        connection.release();
        Ok(schema)
    }

    async fn get(
        &self,
        schema: &Arc<TableSchema>,
        key: &[CellValue],
    ) -> Result<Option<KeyedRow>, TableError> {
        let action = format!("look up a row of table \"{}\"", schema.table);
        let conditions: Vec<String> = schema
            .key()
            .zip(1..)
            .map(|(c, n)| match &c.foreign {
                None => format!("{} = ${n}", quote(&c.name)),
                // Cast the key to the column's type instead of the column to text, which has no
                // index.
                Some(declared) => format!("{} = ${n}::text::{}", quote(&c.name), whole(declared)),
            })
            .collect();
        let columns: Vec<String> = schema.columns.iter().map(as_read).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE {}",
            columns.join(", "),
            qualified(&schema.table),
            conditions.join(" AND ")
        );
        let cells: Vec<ToSqlCell<'_>> = key.iter().map(CellValue::as_ref).map(ToSqlCell).collect();
        let types = schema.key().map(|c| scalar_type(c.kind));
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> = cells
            .iter()
            .map(|c| c as &(dyn ToSql + Sync))
            .zip(types)
            .collect();
        let connection = self.pool.acquire().await?;
        let rows = connection
            .query_unless_invalid(&action, &sql, &parameters)
            .await?;
        connection.release();
        let Some(row) = rows.as_deref().and_then(<[_]>::first) else {
            return Ok(None);
        };
        let values =
            (0..schema.columns.len()).map(|i| match row.try_get::<_, Option<FromSqlCell>>(i) {
                Ok(value) => Ok(value.map_or(CellValue::Null, |v| v.0)),
                Err(e) => Err(TableError::Terminal(format!("can't {action}: {e}"))),
            });
        Ok(Some(KeyedRow(values.collect::<Result<_, _>>()?)))
    }

    async fn check(&self) -> Result<(), TableError> {
        let connection = self.pool.acquire().await?;
        connection.execute("check the server", "SELECT 1").await?;
        connection.release();
        Ok(())
    }
}

/// A table's name, quoted by parts.
fn qualified(table: &str) -> String {
    let parts: Vec<String> = table.split('.').map(quote).collect();
    parts.join(".")
}

/// Rejects a table that is emptied by a crash of the server.
async fn reject_volatile(connection: &PostgresConnection, table: &str) -> Result<(), TableError> {
    let action = format!("look up table \"{table}\"");
    let sql = format!(
        "SELECT {VOLATILE} FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1)"
    );
    let name = qualified(table);
    let rows = connection.query(&action, &sql, &[text(&name)]).await?;
    let kind = rows.first().and_then(|row| row.get::<_, Option<&str>>(0));
    check_volatile(&table, kind)
}

async fn describe(
    connection: &PostgresConnection,
    table: &str,
) -> Result<Option<TableSchema>, TableError> {
    let action = format!("look up table \"{table}\"");
    let name = qualified(table);
    let sql = "
        SELECT a.attname::text, format_type(a.atttypid, NULL)::text,
               coalesce(a.attnum = ANY (i.indkey), false)
        FROM pg_attribute a
        LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
        WHERE a.attrelid = to_regclass($1)::oid AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum";
    let rows = connection.query(&action, sql, &[text(&name)]).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let columns = rows.iter().map(|row| {
        let (name, declared, is_key): (String, String, bool) = (row.get(0), row.get(1), row.get(2));
        let kind = kind_of(&declared);
        ColumnSchema {
            name,
            kind: kind.unwrap_or(DataType::Text),
            is_key,
            foreign: kind.is_none().then_some(declared),
        }
    });
    Ok(Some(TableSchema {
        table: table.to_owned(),
        columns: columns.collect(),
    }))
}

/// Select expression of a column: the server has a text form of every type.
fn as_read(column: &ColumnSchema) -> String {
    let name = quote(&column.name);
    match column.foreign {
        None => name,
        Some(_) => format!("{name}::text"),
    }
}

/// A type name without a length limit: these two have length 1 by default.
fn whole(declared: &str) -> &str {
    match declared {
        "character" => "bpchar",
        "bit" => "bit varying",
        other => other,
    }
}

fn kind_of(declared: &str) -> Option<DataType> {
    match declared {
        "text" | "character varying" => Some(DataType::Text),
        "bigint" | "integer" | "smallint" => Some(DataType::Integer),
        "double precision" | "real" => Some(DataType::Double),
        "boolean" => Some(DataType::Boolean),
        "timestamp with time zone" | "timestamp without time zone" => Some(DataType::Timestamp),
        "json" | "jsonb" => Some(DataType::Json),
        _ => None,
    }
}

pub(super) fn declared(kind: DataType) -> &'static str {
    match kind {
        DataType::Text => "text",
        DataType::Integer => "bigint",
        DataType::Double => "double precision",
        DataType::Boolean => "boolean",
        DataType::Timestamp => "timestamptz",
        // Stores the text as written; jsonb would change the order of keys.
        DataType::Json => "json",
    }
}

fn scalar_type(kind: DataType) -> Type {
    match kind {
        DataType::Text => Type::TEXT,
        DataType::Integer => Type::INT8,
        DataType::Double => Type::FLOAT8,
        DataType::Boolean => Type::BOOL,
        DataType::Timestamp => Type::TIMESTAMPTZ,
        DataType::Json => Type::JSON,
    }
}

fn array_type(kind: DataType) -> Type {
    match kind {
        DataType::Text => Type::TEXT_ARRAY,
        DataType::Integer => Type::INT8_ARRAY,
        DataType::Double => Type::FLOAT8_ARRAY,
        DataType::Boolean => Type::BOOL_ARRAY,
        DataType::Timestamp => Type::TIMESTAMPTZ_ARRAY,
        DataType::Json => Type::JSON_ARRAY,
    }
}

fn create_sql(table_schema: &TableSchema) -> String {
    let mut parts: Vec<String> = table_schema
        .columns
        .iter()
        .map(|c| format!("{} {}", quote(&c.name), declared(c.kind)))
        .collect();
    let key = quoted(table_schema.key().map(|c| &c.name));
    parts.push(format!("PRIMARY KEY ({key})"));
    let schema = match table_schema.table.rsplit_once('.') {
        Some((schema, _)) => format!("CREATE SCHEMA IF NOT EXISTS {}; ", qualified(schema)),
        None => String::new(),
    };
    format!(
        "{schema}CREATE TABLE IF NOT EXISTS {} ({})",
        qualified(&table_schema.table),
        parts.join(", ")
    )
}

fn insert_sql(schema: &TableSchema) -> String {
    let names = quoted(schema.columns.iter().map(|c| &c.name));
    // One `unnest` per array in the select list; a single one in FROM would materialize the rows
    // first.
    let arrays: Vec<String> = schema
        .columns
        .iter()
        .zip(1..)
        .map(|(c, n)| format!("unnest(${n}::{}[])", declared(c.kind)))
        .collect();
    format!(
        "INSERT INTO {} ({names}) SELECT {}",
        qualified(&schema.table),
        arrays.join(", "),
    )
}

fn on_conflict(schema: &TableSchema) -> String {
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
        " ON CONFLICT ({}) DO {conflict}",
        quoted(schema.key().map(|c| &c.name)),
    )
}

/// A value to send to the server.
#[derive(Debug)]
struct ToSqlCell<'a>(ValueRef<'a>);

type ConversionError = Box<dyn Error + Sync + Send>;

impl ToSql for ToSqlCell<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, ConversionError> {
        match self.0 {
            ValueRef::Null => Ok(IsNull::Yes),
            ValueRef::Text(text) | ValueRef::Json(text) => text.to_sql(&Type::TEXT, out),
            ValueRef::Integer(n) => n.to_sql(kind, out),
            ValueRef::Double(n) => n.to_sql(kind, out),
            ValueRef::Boolean(b) => b.to_sql(kind, out),
            ValueRef::Timestamp(t) => (t.as_micros() - EPOCH_MICROS).to_sql(&Type::INT8, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A timestamp in microseconds since the server's epoch; one out of range is returned as text.
fn time(micros: i64, has_zone: bool) -> CellValue {
    match micros {
        i64::MAX => return CellValue::Text("infinity".to_owned()),
        i64::MIN => return CellValue::Text("-infinity".to_owned()),
        _ => {}
    }
    let ours = micros.checked_add(EPOCH_MICROS);
    if let Some(time) = ours.and_then(TimestampMicros::from_micros) {
        return CellValue::Timestamp(time);
    }
    let seconds = micros.div_euclid(1_000_000) + EPOCH_MICROS / 1_000_000;
    let micros = micros.rem_euclid(1_000_000);
    let (year, month, day) = calendar::date(seconds.div_euclid(DAY_SECONDS));
    // The year before 1 is 1 BC.
    let (year, era) = if year > 0 {
        (year, "")
    } else {
        (1 - year, " BC")
    };
    let second = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
    if micros != 0 {
        text.push_str(format!(".{micros:06}").trim_end_matches('0'));
    }
    text.push_str(if has_zone { "+00" } else { "" });
    text.push_str(era);
    CellValue::Text(text)
}

/// A value received from the server.
struct FromSqlCell(CellValue);

impl<'a> FromSql<'a> for FromSqlCell {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, ConversionError> {
        let value = match *kind {
            Type::INT2 => CellValue::Integer(i16::from_sql(kind, raw)?.into()),
            Type::INT4 => CellValue::Integer(i32::from_sql(kind, raw)?.into()),
            Type::INT8 => CellValue::Integer(i64::from_sql(kind, raw)?),
            Type::FLOAT4 => CellValue::Double(widened(f32::from_sql(kind, raw)?)),
            Type::FLOAT8 => CellValue::Double(f64::from_sql(kind, raw)?),
            Type::BOOL => CellValue::Boolean(bool::from_sql(kind, raw)?),
            Type::TIMESTAMP | Type::TIMESTAMPTZ => {
                time(i64::from_sql(&Type::INT8, raw)?, *kind == Type::TIMESTAMPTZ)
            }
            Type::JSON => CellValue::Json(String::from_sql(&Type::TEXT, raw)?),
            // Preceded by a version number.
            Type::JSONB => CellValue::Json(String::from_sql(
                &Type::TEXT,
                raw.get(1..).unwrap_or_default(),
            )?),
            _ => CellValue::Text(String::from_sql(&Type::TEXT, raw)?),
        };
        Ok(Self(value))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
