//! From records to rows of the table.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use forebay_model::decimal::scaled;
use forebay_model::{EpochUnit, InvalidTime, ReadTime, TimestampMicros};
use forebay_record::json::{Document, Kind, NodeId, unescape};
use forebay_record::path::{self, Path, PathSet, Selection};
use forebay_remote::cache::Hash;
use forebay_remote::keyed::{RowRef, RowWriter, Rows, ValueRef, ValueType};
use sha2::{Digest, Sha256};

use crate::definition::{Cache, Definition, Destination, TableDestination};
use crate::engine::outcome::{ColumnPath, Progress};
use crate::record::Typed;

/// Characters of a value that an error quotes.
const QUOTED: usize = 40;

/// Makes rows of records.
#[derive(Debug)]
pub(crate) struct Converter {
    paths: PathSet,
    columns: Vec<Column>,
    /// A path that is none, so that no record has a row; the check of a definition refuses it before.
    invalid: Option<String>,
    /// For each column whether its path can select many values.
    are_lists: Vec<bool>,
    /// A cache asks for the hashes of rows.
    is_hashed: bool,
    /// Where it is noted which paths are found.
    progress: Arc<Progress>,
}

#[derive(Debug)]
struct Column {
    name: String,
    path: String,
    kind: ValueType,
    /// Of a timestamp that is a number.
    unit: Option<EpochUnit>,
    is_key: bool,
    is_required: bool,
}

/// Rows that are being made.
#[derive(Debug)]
pub(crate) struct Typing<'a> {
    converter: &'a Converter,
    rows: Rows,
    hashes: Vec<(Hash, Hash)>,
    scratch: Vec<u8>,
    seen: Seen,
}

/// What was seen of the columns' paths.
#[derive(Debug)]
struct Seen {
    records: u64,
    not_found: Vec<usize>,
}

impl Converter {
    pub(crate) fn new(table: &TableDestination, progress: &Arc<Progress>) -> Self {
        let columns: Vec<Column> = table
            .columns
            .iter()
            .map(|c| Column {
                path: c.path.clone().unwrap_or_else(|| c.name.clone()),
                name: c.name.clone(),
                kind: c.kind.into(),
                unit: c.unit,
                is_key: c.key,
                is_required: c.required || c.key,
            })
            .collect();
        let compiled = columns.iter().map(|c| {
            Path::compile(&c.path)
                .map_err(|e| format!("column \"{}\": `{}` is no path: {e}", c.name, c.path))
        });
        let (paths, invalid): (Vec<Path>, _) = match compiled.collect::<Result<_, _>>() {
            Ok(paths) => (paths, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        progress.set_columns(columns.iter().map(|c| ColumnPath {
            column: c.name.clone(),
            path: c.path.clone(),
        }));
        Self {
            progress: Arc::clone(progress),
            invalid,
            paths: PathSet::new(&paths),
            are_lists: paths.iter().map(|p| !p.is_singular()).collect(),
            columns,
            is_hashed: !matches!(table.cache, Cache::None),
        }
    }

    /// No rows yet.
    pub(crate) fn begin(&self) -> Typing<'_> {
        Typing {
            converter: self,
            rows: Rows::new(self.columns.len()),
            hashes: Vec::new(),
            scratch: Vec::new(),
            seen: Seen {
                records: 0,
                not_found: self.progress.columns_not_found(),
            },
        }
    }

    /// Writes the row of a record.
    fn write(&self, body: Bytes, seen: &mut Seen, out: &mut RowWriter<'_>) -> Result<(), String> {
        if let Some(error) = &self.invalid {
            return Err(error.clone());
        }
        let document = Document::parse(body).map_err(|e| not_json(&e))?;
        let found = self.paths.find(&document);
        seen.records += 1;
        seen.not_found
            .retain(|i| matches!(self.paths.get(&found, *i), Ok(Selection::Nothing)));
        for (i, column) in self.columns.iter().enumerate() {
            let selection = self.paths.get(&found, i).map_err(|error| {
                format!(
                    "column \"{}\": the path `{}` {error}",
                    column.name, column.path
                )
            })?;
            match selection {
                Selection::One(node) if document.kind(node) != Kind::Null => {
                    value(&document, node, column, out)?;
                }
                Selection::Many(nodes) => write_list(&document, nodes, out),
                // A list always is one, if only an empty one.
                Selection::Nothing if self.are_lists[i] => write_list(&document, &[], out),
                Selection::One(_) | Selection::Nothing if column.is_required => {
                    return Err(format!(
                        "column \"{}\": the record has no value at `{}`",
                        column.name, column.path
                    ));
                }
                Selection::One(_) | Selection::Nothing => out.push(ValueRef::Null),
            }
        }
        Ok(())
    }

    /// The hashes of the key of a row, and of all of it.
    fn hashes(&self, row: RowRef<'_>, scratch: &mut Vec<u8>) -> (Hash, Hash) {
        let mut hash_of = |all: bool| {
            scratch.clear();
            let cells = row.cells().zip(&self.columns);
            let cells = cells.filter(|(_, column)| all || column.is_key);
            cells.for_each(|(cell, _)| cell.write_canonical(scratch));
            hash(scratch)
        };
        (hash_of(false), hash_of(true))
    }
}

impl Typing<'_> {
    /// Makes room for so many more rows, with texts of so many bytes in all.
    pub(crate) fn reserve(&mut self, rows: usize, texts: usize) {
        self.rows.reserve(rows, texts);
        if self.converter.is_hashed {
            self.hashes.reserve(rows);
        }
    }

    /// Adds the row of a record.
    ///
    /// # Errors
    /// When it is not JSON, or a value is missing or of another type than its column; names the
    /// column, the value and what it has to be. Nothing is added then.
    pub(crate) fn add(&mut self, body: Bytes) -> Result<(), String> {
        let converter = self.converter;
        let seen = &mut self.seen;
        self.rows.add(|out| converter.write(body, seen, out))?;
        if converter.is_hashed
            && let Some(row) = self.rows.get(self.rows.len().saturating_sub(1))
        {
            let hashes = converter.hashes(row, &mut self.scratch);
            self.hashes.push(hashes);
        }
        Ok(())
    }

    /// All rows.
    pub(crate) fn end(self) -> Typed {
        let Seen { records, not_found } = &self.seen;
        self.converter.progress.note_columns(*records, not_found);
        Typed {
            rows: Arc::new(self.rows),
            hashes: self.hashes,
        }
    }
}

fn hash(bytes: &[u8]) -> Hash {
    let digest = Sha256::digest(bytes);
    let mut hash = Hash::default();
    hash.iter_mut()
        .zip(digest)
        .for_each(|(to, from)| *to = from);
    hash
}

/// Reads lines of files: rows where they go straight into a table, else any JSON.
#[derive(Clone, Debug)]
pub(crate) struct Reader(Option<Arc<Converter>>);

impl Reader {
    pub(crate) fn new(definition: &Definition, progress: &Arc<Progress>) -> Self {
        Self(match &definition.destination {
            Destination::Table(table) if definition.processing.is_none() => {
                Some(Arc::new(Converter::new(table, progress)))
            }
            Destination::Table(_) | Destination::Http(_) => None,
        })
    }

    /// Rows that are being made, where lines become such.
    pub(crate) fn begin(&self) -> Option<Typing<'_>> {
        self.0.as_ref().map(|converter| converter.begin())
    }

    /// Whether a line is what it should be.
    ///
    /// # Errors
    /// When it is not JSON or no row; says why.
    pub(crate) fn check(&self, line: Bytes) -> Result<(), String> {
        match self.begin() {
            Some(mut typing) => {
                let added = typing.add(line);
                typing.end();
                added
            }
            None => json(line),
        }
    }
}

/// Checks that a text is JSON.
///
/// # Errors
/// When it is not; says why.
pub(crate) fn json(text: Bytes) -> Result<(), String> {
    Document::parse(text).map(drop).map_err(|e| not_json(&e))
}

/// What is wrong with a text that is not JSON.
pub(crate) fn not_json(error: &forebay_record::json::JsonError) -> String {
    let what = error.problem_text().replace("the body", "the text");
    format!("not JSON: {what} (byte {})", error.offset + 1)
}

fn write_list(document: &Document, nodes: &[NodeId], out: &mut RowWriter<'_>) {
    out.json(|out| path::list(document, nodes, |part| out.push_str(&lossy(part))));
}

/// Writes a value with the type of its column.
fn value(
    document: &Document,
    node: NodeId,
    column: &Column,
    out: &mut RowWriter<'_>,
) -> Result<(), String> {
    let kind = document.kind(node);
    let text = || lossy(document.text(node));
    let converted = match (column.kind, kind) {
        (ValueType::Text, Kind::String) => {
            out.text(|out| out.push_str(&string(document, node)));
            return Ok(());
        }
        (ValueType::Text, Kind::Number | Kind::Bool) => {
            out.push(ValueRef::Text(&text()));
            return Ok(());
        }
        (ValueType::Json, _) => {
            out.json(|out| document.compact(node, |part| out.push_str(&lossy(part))));
            return Ok(());
        }
        (ValueType::Integer, Kind::Number) => whole(&text()).map(ValueRef::Integer),
        (ValueType::Double, Kind::Number) => {
            let number = text().parse::<f64>().ok().filter(|n| n.is_finite());
            number.map(ValueRef::Double)
        }
        (ValueType::Boolean, Kind::Bool) => Some(ValueRef::Boolean(document.text(node) == b"true")),
        (ValueType::Timestamp, Kind::String | Kind::Number) => {
            let read = if kind == Kind::String {
                TimestampMicros::read(&string(document, node))
            } else {
                TimestampMicros::read_number(&text(), column.unit)
            };
            let time = read.map_err(|e| refused(column, &text(), &wanted_time(e, column.unit)))?;
            Some(ValueRef::Timestamp(kept(time, column, &text())?))
        }
        _ => None,
    };
    let wanted = match column.kind {
        ValueType::Text => "a text, a number or a boolean".to_owned(),
        ValueType::Integer => format!("a whole number from {} to {}", i64::MIN, i64::MAX),
        ValueType::Double => "a number".to_owned(),
        ValueType::Boolean => "true or false".to_owned(),
        ValueType::Timestamp => wanted_time(InvalidTime::Form, column.unit),
        ValueType::Json => "JSON".to_owned(),
    };
    out.push(converted.ok_or_else(|| refused(column, &text(), &wanted))?);
    Ok(())
}

/// Why a value is not written.
fn refused(column: &Column, text: &str, wanted: &str) -> String {
    let mut shown: String = text.chars().take(QUOTED).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!(
        "column \"{}\": `{}` is {shown}, it has to be {wanted}",
        column.name, column.path
    )
}

/// What a time has to be.
fn wanted_time(error: InvalidTime, unit: Option<EpochUnit>) -> String {
    match unit {
        Some(unit) if error == InvalidTime::Year => {
            format!("{error} (a number is in the unit {})", unit.name())
        }
        _ => error.to_string(),
    }
}

/// A time, cut to the microsecond unless it is a key: two keys must not become one.
fn kept(read: ReadTime, column: &Column, text: &str) -> Result<TimestampMicros, String> {
    if read.is_cut && column.is_key {
        return Err(refused(
            column,
            text,
            "a time to the microsecond, as it is a key",
        ));
    }
    Ok(read.time)
}

/// A whole number, in whatever way it is written: `7.0`, `1e3`, `-0`.
fn whole(text: &str) -> Option<i64> {
    let scaled = scaled(text, 0).filter(|s| s.is_exact)?;
    i64::try_from(scaled.whole).ok()
}

/// A part of a document's text, which is UTF-8 as a whole: checking that is faster than mending.
fn lossy(text: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(text).map_or_else(|_| String::from_utf8_lossy(text), Cow::Borrowed)
}

/// A string's text. No store keeps a NUL, so it is replaced, as everywhere in Forebay's tables.
fn string(document: &Document, node: NodeId) -> Cow<'_, str> {
    let (inner, has_escapes) = document.string(node);
    if !has_escapes {
        return lossy(inner);
    }
    let mut out = Vec::with_capacity(inner.len());
    unescape(inner, |part| out.extend_from_slice(part));
    let text = lossy(&out);
    Cow::Owned(text.replace('\0', "\u{fffd}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converter() -> Converter {
        let table = serde_json::json!({
            "store": { "type": "sqlite", "path": "x.db" },
            "table": "products",
            "cache": { "type": "embedded" },
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
        Converter::new(&serde_json::from_value(table).unwrap(), &Arc::default())
    }

    /// The row of a text.
    fn row(text: &str) -> Result<Typed, String> {
        let converter = converter();
        let mut typing = converter.begin();
        typing.add(Bytes::from(text.to_owned()))?;
        Ok(typing.end())
    }

    fn cells(table: &Typed) -> Vec<ValueRef<'_>> {
        table.rows.get(0).unwrap().cells().collect()
    }

    #[test]
    fn values_take_the_types_of_their_columns() {
        let text = r#"{"id":7,"name":"a\u0000\u00e9","price":{"amount":1.50},"ok":false,"at":"2026-11-21T08:00:00.123456Z","tags":[1, "x y"]}"#;
        let table = row(text).unwrap();
        let cells = cells(&table);
        assert_eq!(
            cells[..6],
            [
                ValueRef::Integer(7),
                ValueRef::Text("a\u{fffd}é"),
                ValueRef::Double(1.5),
                ValueRef::Boolean(false),
                ValueRef::Timestamp("2026-11-21T08:00:00.123456Z".parse().unwrap()),
                ValueRef::Json(r#"[1,"x y"]"#),
            ]
        );
        let ValueRef::Json(whole) = cells[6] else {
            panic!("{cells:?}")
        };
        assert!(whole.starts_with(r#"{"id":7,"#), "{whole}");
    }

    #[test]
    fn whole_numbers_may_be_written_in_any_way() {
        for (text, id) in [
            ("7.0", 7),
            ("1e3", 1000),
            ("-0", 0),
            ("-9223372036854775808", i64::MIN),
        ] {
            let table = row(&format!(r#"{{"id":{text},"ok":true}}"#)).unwrap();
            assert_eq!(cells(&table)[0], ValueRef::Integer(id), "{text}");
        }
    }

    #[test]
    fn a_key_is_never_cut() {
        let table = serde_json::json!({
            "store": { "type": "sqlite", "path": "x.db" },
            "table": "t",
            "columns": [{ "name": "at", "type": "timestamp", "key": true, "unit": "ns" }]
        });
        let table = serde_json::from_value(table).unwrap();
        let converter = Converter::new(&table, &Arc::default());
        let add = |text: &'static str| {
            let mut typing = converter.begin();
            let added = typing.add(Bytes::from_static(text.as_bytes()));
            typing.end();
            added
        };
        assert_eq!(add(r#"{"at":1704067200123456000}"#), Ok(()));
        assert_eq!(add(r#"{"at":"2024-01-01T00:00:00.123456Z"}"#), Ok(()));
        for text in [
            r#"{"at":1704067200123456789}"#,
            r#"{"at":"2024-01-01T00:00:00.1234567Z"}"#,
        ] {
            let said = add(text).unwrap_err();
            assert!(
                said.ends_with("a time to the microsecond, as it is a key"),
                "{said}"
            );
        }
    }

    #[test]
    fn paths_of_all_forms_have_values() {
        let table = serde_json::json!({
            "store": { "type": "sqlite", "path": "x.db" },
            "table": "t",
            "columns": [
                { "name": "host", "path": "['host.name']" },
                { "name": "last", "type": "integer", "path": "$.l[-1].n" },
                { "name": "all", "type": "json", "path": "$.l[*].n", "required": true },
                { "name": "none", "type": "json", "path": "$..none" }
            ]
        });
        let progress = Arc::default();
        let converter = Converter::new(&serde_json::from_value(table).unwrap(), &progress);
        let mut typing = converter.begin();
        for text in [
            r#"{"host.name":"web-1","l":[{"n":1},{"n":12345678901234567890},{"n": 3}]}"#,
            "{}",
        ] {
            typing.add(Bytes::from_static(text.as_bytes())).unwrap();
        }
        let typed = typing.end();
        assert_eq!(
            cells(&typed),
            [
                ValueRef::Text("web-1"),
                ValueRef::Integer(3),
                ValueRef::Json("[1,12345678901234567890,3]"),
                ValueRef::Json("[]"),
            ]
        );
        let second: Vec<_> = typed.rows.get(1).unwrap().cells().collect();
        let empty = || ValueRef::Json("[]");
        assert_eq!(second, [ValueRef::Null, ValueRef::Null, empty(), empty()]);
        let summary = progress.summary(std::time::Duration::from_secs(1));
        let never = summary.never_found.iter();
        let never: Vec<_> = never.map(|c| (c.column.as_str(), c.records)).collect();
        assert_eq!(never, [("none", 2)]);
    }

    #[test]
    fn hashes_are_those_of_the_key_and_of_all() {
        let hashes = |text: &str| row(text).unwrap().hashes;
        let first = hashes(r#"{"id":1,"ok":true,"name":"a"}"#);
        assert_eq!(hashes(r#"{"id":1, "ok": true,"name":"a" }"#), first);
        let other = hashes(r#"{"id":1,"ok":true,"name":"b"}"#);
        assert_eq!(other[0].0, first[0].0, "the same key");
        assert_ne!(other[0].1, first[0].1);
        assert_ne!(hashes(r#"{"id":2,"ok":true,"name":"a"}"#)[0].0, first[0].0);
    }

    #[test]
    fn paths_that_no_record_has_are_counted() {
        let converter = converter();
        let not_found = || {
            let summary = converter
                .progress
                .summary(std::time::Duration::from_secs(1));
            let paths = summary.never_found.into_iter().map(|c| c.path);
            paths.collect::<Vec<_>>()
        };
        assert!(not_found().is_empty(), "nothing was looked for");
        let read = |text: &'static str| {
            let mut typing = converter.begin();
            drop(typing.add(Bytes::from(text)));
            typing.end();
        };
        read(r#"{"id":1,"ok":true,"name":null}"#);
        assert_eq!(
            not_found(),
            ["price.amount", "at", "tags"],
            "null is a value"
        );
        // One that is no row has its paths too.
        read(r#"{"at":1,"price":{"amount":"x"}}"#);
        read("no JSON");
        assert_eq!(not_found(), ["tags"]);
    }

    #[test]
    fn what_is_missing_is_null_or_bad() {
        let name = |text, name: Option<&str>| {
            let table = row(text).unwrap();
            let expected = name.map_or(ValueRef::Null, ValueRef::Text);
            assert_eq!(cells(&table)[1], expected, "{text}");
        };
        name(r#"{"id":1,"ok":true}"#, None);
        name(r#"{"id":1,"ok":true,"name":null}"#, None);
        name(r#"{"id":1,"ok":true,"name":12.0}"#, Some("12.0"));
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
            (
                r#"{"id":99999999999999999999,"ok":true}"#,
                "from -9223372036854775808 to 9223372036854775807",
            ),
            (r#"{"id":9.3e18,"ok":true}"#, "is 9.3e18"),
            (r#"{"id":1e-1,"ok":true}"#, "is 1e-1"),
            (r#"{"id":1}"#, "no value at `ok`"),
            (r#"{"id":1,"ok":1}"#, "true or false"),
            (r#"{"id":1,"ok":true,"name":{}}"#, "`name` is {}"),
            (
                r#"{"id":1,"ok":true,"at":"soon"}"#,
                "like 2006-01-02T15:04:05Z",
            ),
            (
                r#"{"id":1,"ok":true,"at":"1704067200"}"#,
                "is \"1704067200\", it",
            ),
            (r#"{"id":1,"ok":true,"at":true}"#, "a number of seconds"),
            (r#"{"id":1,"ok":true,"at":1e30}"#, "years 0001 to 9999"),
            (
                r#"{"id":1,"ok":true,"at":157766400000}"#,
                "one of s or of ms",
            ),
            (
                r#"{"id":1,"ok":true,"at":"+010000-01-01T00:00:00Z"}"#,
                "years 0001",
            ),
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
