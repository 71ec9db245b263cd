//! Types and values as SQLite has them.

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};

use crate::keyed::{Value, ValueType};

/// The name of a type in `CREATE TABLE`; its affinity is right for the values.
pub(super) fn declared(kind: ValueType) -> &'static str {
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
pub(super) fn kind_of(declared: &str) -> ValueType {
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

/// A value on its way into the file.
#[derive(Debug)]
pub(super) struct Cell<'a>(pub(super) &'a Value);

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
pub(super) fn from_cell(cell: ValueRef<'_>, kind: ValueType) -> Value {
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
