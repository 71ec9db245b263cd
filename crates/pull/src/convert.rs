//! From a record to a row of the table.

use std::sync::Arc;

use bytes::Bytes;
use forebay_model::Timestamp;
use forebay_record::json::{Document, Kind, NodeId, unescape};
use forebay_record::path::PathSet;
use forebay_remote::keyed::{Row, Value, ValueType};

use crate::definition::{Definition, Destination, TableDestination};

/// Characters of a value that an error quotes.
const QUOTED: usize = 40;

/// Makes rows of records.
#[derive(Debug)]
pub(crate) struct Converter {
    paths: PathSet,
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    name: String,
    path: String,
    kind: ValueType,
    is_required: bool,
}

impl Converter {
    pub(crate) fn new(table: &TableDestination) -> Self {
        let columns: Vec<Column> = table
            .columns
            .iter()
            .map(|c| Column {
                path: c.path.clone().unwrap_or_else(|| c.name.clone()),
                name: c.name.clone(),
                kind: c.kind.into(),
                is_required: c.required || c.key,
            })
            .collect();
        Self {
            paths: PathSet::compile(columns.iter().map(|c| c.path.as_str())),
            columns,
        }
    }

    /// The row of a record.
    ///
    /// # Errors
    /// When it is not JSON, or a value is missing or of another type than its column; names the
    /// column, the value and what it has to be.
    pub(crate) fn row(&self, body: Bytes) -> Result<Row, String> {
        let document = Document::parse(body).map_err(|e| not_json(&e))?;
        let found = self.paths.find(&document);
        let values = self.columns.iter().enumerate().map(|(i, column)| {
            let node = self.paths.get(&found, i);
            let node = node.filter(|n| document.kind(*n) != Kind::Null);
            match node {
                Some(node) => value(&document, node, column),
                None if column.is_required => Err(format!(
                    "column \"{}\": the record has no value at `{}`",
                    column.name, column.path
                )),
                None => Ok(Value::Null),
            }
        });
        values.collect::<Result<_, _>>().map(Row)
    }
}

/// Reads lines of files: rows where they go straight into a table, else any JSON.
#[derive(Clone, Debug)]
pub(crate) struct Reader(Option<Arc<Converter>>);

impl Reader {
    pub(crate) fn new(definition: &Definition) -> Self {
        Self(match &definition.destination {
            Destination::Table(table) if definition.processing.is_none() => {
                Some(Arc::new(Converter::new(table)))
            }
            Destination::Table(_) | Destination::Http(_) => None,
        })
    }

    /// The row of a line, where it is one.
    ///
    /// # Errors
    /// When it is not JSON or no row; says why.
    pub(crate) fn read(&self, line: Bytes) -> Result<Option<Row>, String> {
        match &self.0 {
            Some(converter) => converter.row(line).map(Some),
            None => match Document::parse(line) {
                Ok(_) => Ok(None),
                Err(e) => Err(not_json(&e)),
            },
        }
    }
}

/// What is wrong with a text that is not JSON.
pub(crate) fn not_json(error: &forebay_record::json::JsonError) -> String {
    let what = error.problem_text().replace("the body", "the text");
    format!("not JSON: {what} (byte {})", error.offset + 1)
}

fn value(document: &Document, node: NodeId, column: &Column) -> Result<Value, String> {
    let kind = document.kind(node);
    let text = || String::from_utf8_lossy(document.text(node));
    let converted = match (column.kind, kind) {
        (ValueType::Text, Kind::String) => Some(Value::Text(string(document, node))),
        (ValueType::Text, Kind::Number | Kind::Bool) => Some(Value::Text(text().into_owned())),
        (ValueType::Integer, Kind::Number) => text().parse().ok().map(Value::Integer),
        (ValueType::Double, Kind::Number) => {
            let number = text().parse::<f64>().ok().filter(|n| n.is_finite());
            number.map(Value::Double)
        }
        (ValueType::Boolean, Kind::Bool) => Some(Value::Boolean(document.text(node) == b"true")),
        (ValueType::Timestamp, Kind::String) => {
            let text = string(document, node);
            text.parse().ok().map(Value::Timestamp)
        }
        (ValueType::Timestamp, Kind::Number) => {
            let millis = text().parse().ok();
            millis.map(|m| Value::Timestamp(Timestamp::from_millis(m)))
        }
        (ValueType::Json, _) => {
            let mut out = Vec::new();
            document.compact(node, |part| out.extend_from_slice(part));
            Some(Value::Json(String::from_utf8_lossy(&out).into_owned()))
        }
        _ => None,
    };
    converted.ok_or_else(|| {
        let shown: String = text().chars().take(QUOTED).collect();
        let wanted = match column.kind {
            ValueType::Text => "a text, a number or a boolean",
            ValueType::Integer => "a whole number of 64 bits",
            ValueType::Double => "a number",
            ValueType::Boolean => "true or false",
            ValueType::Timestamp => "a time like 2006-01-02T15:04:05Z or milliseconds since 1970",
            ValueType::Json => "JSON",
        };
        format!(
            "column \"{}\": `{}` is {shown}, it has to be {wanted}",
            column.name, column.path
        )
    })
}

/// A string's text. No store keeps a NUL, so it is replaced, as everywhere in Forebay's tables.
fn string(document: &Document, node: NodeId) -> String {
    let (inner, has_escapes) = document.string(node);
    if !has_escapes {
        return String::from_utf8_lossy(inner).into_owned();
    }
    let mut out = Vec::with_capacity(inner.len());
    unescape(inner, |part| out.extend_from_slice(part));
    let text = String::from_utf8_lossy(&out);
    if text.contains('\0') {
        return text.replace('\0', "\u{fffd}");
    }
    text.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converter() -> Converter {
        let table = serde_json::json!({
            "store": { "type": "sqlite", "path": "x.db" },
            "table": "products",
            "columns": [
                { "name": "id", "type": "integer", "key": true },
                { "name": "name" },
                { "name": "price", "type": "double", "path": "price.amount" },
                { "name": "ok", "type": "boolean", "required": true },
                { "name": "at", "type": "timestamp" },
                { "name": "tags", "type": "json" },
                { "name": "whole", "type": "json", "path": "" }
            ]
        });
        Converter::new(&serde_json::from_value(table).unwrap())
    }

    fn row(text: &str) -> Result<Row, String> {
        converter().row(Bytes::from(text.to_owned()))
    }

    #[test]
    fn values_take_the_types_of_their_columns() {
        let text = r#"{"id":7,"name":"a\u0000\u00e9","price":{"amount":1.50},"ok":false,"at":"2026-11-21T08:00:00Z","tags":[1, "x y"]}"#;
        let row = row(text).unwrap();
        assert_eq!(
            row.0[..6],
            [
                Value::Integer(7),
                Value::Text("a\u{fffd}é".to_owned()),
                Value::Double(1.5),
                Value::Boolean(false),
                Value::Timestamp("2026-11-21T08:00:00.000Z".parse().unwrap()),
                Value::Json(r#"[1,"x y"]"#.to_owned()),
            ]
        );
        let Value::Json(whole) = &row.0[6] else {
            panic!("{row:?}")
        };
        assert!(whole.starts_with(r#"{"id":7,"#), "{whole}");
    }

    #[test]
    fn what_is_missing_is_null_or_bad() {
        let row = |text| row(text).map(|r| r.0[1].clone());
        assert_eq!(row(r#"{"id":1,"ok":true}"#), Ok(Value::Null));
        assert_eq!(row(r#"{"id":1,"ok":true,"name":null}"#), Ok(Value::Null));
        assert_eq!(
            row(r#"{"id":1,"ok":true,"name":12.0}"#),
            Ok(Value::Text("12.0".to_owned()))
        );
        for (text, said) in [
            (
                r#"{"ok":true}"#,
                "column \"id\": the record has no value at `id`",
            ),
            (r#"{"id":null,"ok":true}"#, "no value at `id`"),
            (
                r#"{"id":"7","ok":true}"#,
                "`id` is \"7\", it has to be a whole number",
            ),
            (r#"{"id":7.5,"ok":true}"#, "is 7.5"),
            (r#"{"id":99999999999999999999,"ok":true}"#, "64 bits"),
            (r#"{"id":1}"#, "no value at `ok`"),
            (r#"{"id":1,"ok":1}"#, "true or false"),
            (r#"{"id":1,"ok":true,"name":{}}"#, "`name` is {}"),
            (r#"{"id":1,"ok":true,"at":"soon"}"#, "a time like"),
            (r#"{"id":1,"ok":true,"price":{"amount":1e999}}"#, "a number"),
            (r#"[]"#, "no value at `id`"),
            (r#"{"id":1"#, "not JSON: unexpected end of the text"),
            ("", "not JSON"),
        ] {
            let error = row(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
