//! Types and values in SQLite.

use std::fmt::Write as _;

use forebay_model::TimestampMicros;
use rusqlite::Statement;
use rusqlite::types::{Null, ValueRef as Raw};

use crate::keyed::{CellValue, DataType, ValueRef};

/// Type name in `CREATE TABLE`; its affinity suits the values.
pub(crate) fn declared(kind: DataType) -> &'static str {
    match kind {
        DataType::Text => "TEXT",
        DataType::Integer => "INTEGER",
        DataType::Double => "REAL",
        DataType::Boolean => "BOOLEAN",
        // SQLite gives any type name that contains TEXT text affinity.
        DataType::Timestamp => "TIMESTAMP_TEXT",
        DataType::Json => "JSON_TEXT",
    }
}

/// The type of a declared type name; for foreign names, by SQLite's affinity rules.
pub(super) fn kind_of(declared: &str) -> DataType {
    let declared = declared.to_ascii_uppercase();
    let has = |names: &[&str]| names.iter().any(|n| declared.contains(n));
    match declared.as_str() {
        "JSON" | "JSON_TEXT" => DataType::Json,
        "TIMESTAMP_TEXT" => DataType::Timestamp,
        _ if has(&["BOOL"]) => DataType::Boolean,
        _ if has(&["INT"]) => DataType::Integer,
        _ if has(&["REAL", "FLOA", "DOUB", "NUMERIC", "DECIMAL"]) => DataType::Double,
        _ => DataType::Text,
    }
}

/// Binds a value to a parameter, counted from 1.
pub(crate) fn bind(
    statement: &mut Statement<'_>,
    index: usize,
    value: ValueRef<'_>,
) -> rusqlite::Result<()> {
    match value {
        ValueRef::Null => statement.raw_bind_parameter(index, Null),
        ValueRef::Text(text) | ValueRef::Json(text) => statement.raw_bind_parameter(index, text),
        ValueRef::Integer(n) => statement.raw_bind_parameter(index, n),
        ValueRef::Double(n) => statement.raw_bind_parameter(index, n),
        ValueRef::Boolean(b) => statement.raw_bind_parameter(index, b),
        ValueRef::Timestamp(t) => statement.raw_bind_parameter(index, t.sortable().as_str()),
    }
}

/// A cell in the column's type; SQLite lets any column hold anything, so a value that doesn't fit
/// becomes text.
pub(super) fn from_cell(cell: Raw<'_>, kind: DataType) -> CellValue {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match (cell, kind) {
        (Raw::Null, _) => CellValue::Null,
        (Raw::Integer(n), DataType::Boolean) => CellValue::Boolean(n != 0),
        (Raw::Integer(n), _) => CellValue::Integer(n),
        (Raw::Real(n), _) => CellValue::Double(n),
        (Raw::Text(t), DataType::Json) => CellValue::Json(text(t)),
        (Raw::Text(t), DataType::Timestamp) => {
            let text = text(t);
            match TimestampMicros::parse(&text) {
                Ok(read) if !read.is_cut => CellValue::Timestamp(read.time),
                _ => CellValue::Text(text),
            }
        }
        (Raw::Text(t), _) => CellValue::Text(text(t)),
        // Other bytes are written as by SQLite's `quote`.
        (Raw::Blob(bytes), _) => match std::str::from_utf8(bytes) {
            Ok(text) => CellValue::Text(text.to_owned()),
            Err(_) => CellValue::Text(
                bytes.iter().fold("X'".to_owned(), |mut out, byte| {
                    // Writing to a String can't fail.
                    _ = write!(out, "{byte:02X}");
                    out
                }) + "'",
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_exactly_or_as_stored_text() {
        let read = |text: &str| from_cell(Raw::Text(text.as_bytes()), DataType::Timestamp);
        for text in [
            "infinity",
            "+010000-01-01T00:00:00Z",
            "2026-01-01T00:00:00.1234567Z",
        ] {
            assert_eq!(read(text), CellValue::Text(text.to_owned()));
        }
        let CellValue::Timestamp(time) = read("9999-12-31T23:59:59.999999Z") else {
            panic!("expected a timestamp")
        };
        assert_eq!(time, TimestampMicros::MAX);
    }

    #[test]
    fn bytes_that_are_not_utf8_become_hex() {
        let read = |bytes| from_cell(Raw::Blob(bytes), DataType::Text);
        assert_eq!(read("é".as_bytes()), CellValue::Text("é".to_owned()));
        assert_eq!(read(b"a\xff\0"), CellValue::Text("X'61FF00'".to_owned()));
    }
}
