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

/// A value that is not written.
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
mod tests;
