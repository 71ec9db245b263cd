//! Converts records to table rows.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use forebay_connect::cache::RowHash;
use forebay_connect::keyed::{DataType, RowBuffer, RowRef, RowWriter, ValueRef};
use forebay_model::decimal::scale_number;
use forebay_model::{EpochUnit, InvalidTime, ParsedTime, TimestampMicros};
use forebay_record::json::{JsonDocument, JsonKind, JsonNodeId, unescape};
use forebay_record::path::{self, CompiledPath, PathSelection, PathSet};
use sha2::{Digest, Sha256};

use crate::definition::{JobDefinition, JobDestination, RowHashCacheConfig, TableDestination};
use crate::engine::outcome::{ColumnPath, JobProgress};
use crate::record::TypedRows;

/// Characters of a value that an error quotes.
const QUOTED: usize = 40;

/// Converts records to rows.
#[derive(Debug)]
pub(crate) struct RowConverter {
    paths: PathSet,
    columns: Vec<ColumnConversion>,
    /// The error of an invalid path: every record is rejected. The check of a definition finds it first.
    invalid: Option<String>,
    /// Per column: its path can select many values.
    are_lists: Vec<bool>,
    /// A cache needs the hashes of rows.
    is_hashed: bool,
    /// Counts the paths that were found.
    progress: Arc<JobProgress>,
}

#[derive(Debug)]
struct ColumnConversion {
    name: String,
    path: String,
    kind: DataType,
    /// For a timestamp that is a number.
    unit: Option<EpochUnit>,
    is_key: bool,
    is_required: bool,
}

/// Rows under construction.
#[derive(Debug)]
pub(crate) struct RowBuilder<'a> {
    converter: &'a RowConverter,
    rows: RowBuffer,
    hashes: Vec<(RowHash, RowHash)>,
    scratch: Vec<u8>,
    seen: PathCoverage,
}

/// Paths of columns that no record had so far.
#[derive(Debug)]
struct PathCoverage {
    records: u64,
    not_found: Vec<usize>,
}

impl RowConverter {
    pub(crate) fn new(table: &TableDestination, progress: &Arc<JobProgress>) -> Self {
        let columns: Vec<ColumnConversion> = table
            .columns
            .iter()
            .map(|c| ColumnConversion {
                path: c.path.clone().unwrap_or_else(|| c.name.clone()),
                name: c.name.clone(),
                kind: c.kind,
                unit: c.unit,
                is_key: c.key,
                is_required: c.required || c.key,
            })
            .collect();
        let compiled = columns.iter().map(|c| {
            CompiledPath::compile(&c.path)
                .map_err(|e| format!("column \"{}\": `{}` is not a path: {e}", c.name, c.path))
        });
        let (paths, invalid): (Vec<CompiledPath>, _) = match compiled.collect::<Result<_, _>>() {
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
            is_hashed: !matches!(table.cache, RowHashCacheConfig::None),
        }
    }

    pub(crate) fn row_builder(&self) -> RowBuilder<'_> {
        RowBuilder {
            converter: self,
            rows: RowBuffer::new(self.columns.len()),
            hashes: Vec::new(),
            scratch: Vec::new(),
            seen: PathCoverage {
                records: 0,
                not_found: self.progress.columns_not_found(),
            },
        }
    }

    fn write(
        &self,
        body: Bytes,
        seen: &mut PathCoverage,
        out: &mut RowWriter<'_>,
    ) -> Result<(), String> {
        if let Some(error) = &self.invalid {
            return Err(error.clone());
        }
        let document = JsonDocument::parse(body).map_err(|e| not_json(&e))?;
        let found = self.paths.find(&document);
        seen.records += 1;
        seen.not_found
            .retain(|i| matches!(self.paths.get(&found, *i), Ok(PathSelection::Nothing)));
        for (i, column) in self.columns.iter().enumerate() {
            let selection = self.paths.get(&found, i).map_err(|error| {
                format!(
                    "column \"{}\": the path `{}` {error}",
                    column.name, column.path
                )
            })?;
            match selection {
                PathSelection::One(node) if document.kind(node) != JsonKind::Null => {
                    write_value(&document, node, column, out)?;
                }
                PathSelection::Many(nodes) => write_list(&document, nodes, out),
                // A path that can select many values yields a list, even if empty.
                PathSelection::Nothing if self.are_lists[i] => write_list(&document, &[], out),
                PathSelection::One(_) | PathSelection::Nothing if column.is_required => {
                    return Err(format!(
                        "column \"{}\": the record has no value at `{}`",
                        column.name, column.path
                    ));
                }
                PathSelection::One(_) | PathSelection::Nothing => out.push(ValueRef::Null),
            }
        }
        Ok(())
    }

    /// The hashes of a row's key and of the whole row.
    fn hashes(&self, row: RowRef<'_>, scratch: &mut Vec<u8>) -> (RowHash, RowHash) {
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

impl RowBuilder<'_> {
    /// Reserves memory for `rows` more rows with `texts` bytes of text in total.
    pub(crate) fn reserve(&mut self, rows: usize, texts: usize) {
        self.rows.reserve(rows, texts);
        if self.converter.is_hashed {
            self.hashes.reserve(rows);
        }
    }

    /// Adds the row of a record.
    ///
    /// # Errors
    /// The record is not JSON, or a value is missing or has the wrong type. The error has the column, the
    /// value and what is allowed; nothing is added.
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

    pub(crate) fn finish(self) -> TypedRows {
        let PathCoverage { records, not_found } = &self.seen;
        self.converter.progress.record_columns(*records, not_found);
        TypedRows {
            rows: Arc::new(self.rows),
            hashes: self.hashes,
        }
    }
}

fn hash(bytes: &[u8]) -> RowHash {
    let digest = Sha256::digest(bytes);
    let mut hash = RowHash::default();
    hash.iter_mut()
        .zip(digest)
        .for_each(|(to, from)| *to = from);
    hash
}

/// Reads lines of files: as rows if they go directly into a table, otherwise as any JSON.
#[derive(Clone, Debug)]
pub(crate) struct LineReader(Option<Arc<RowConverter>>);

impl LineReader {
    pub(crate) fn new(definition: &JobDefinition, progress: &Arc<JobProgress>) -> Self {
        Self(match &definition.destination {
            JobDestination::Table(table) if definition.processing.is_none() => {
                Some(Arc::new(RowConverter::new(table, progress)))
            }
            JobDestination::Table(_) | JobDestination::Http(_) => None,
        })
    }

    pub(crate) fn row_builder(&self) -> Option<RowBuilder<'_>> {
        self.0.as_ref().map(|converter| converter.row_builder())
    }

    /// Checks that a line is JSON, and a valid row if lines become rows.
    pub(crate) fn check(&self, line: Bytes) -> Result<(), String> {
        match self.row_builder() {
            Some(mut builder) => {
                let added = builder.add(line);
                builder.finish();
                added
            }
            None => check_json(line),
        }
    }
}

pub(crate) fn check_json(text: Bytes) -> Result<(), String> {
    JsonDocument::parse(text)
        .map(drop)
        .map_err(|e| not_json(&e))
}

pub(crate) fn not_json(error: &forebay_record::json::JsonError) -> String {
    let what = error.kind_text().replace("the body", "the text");
    format!("not JSON: {what} (byte {})", error.offset + 1)
}

fn write_list(document: &JsonDocument, nodes: &[JsonNodeId], out: &mut RowWriter<'_>) {
    out.json(|out| path::list(document, nodes, |part| out.push_str(&lossy(part))));
}

/// Writes a value as the type of its column.
fn write_value(
    document: &JsonDocument,
    node: JsonNodeId,
    column: &ColumnConversion,
    out: &mut RowWriter<'_>,
) -> Result<(), String> {
    let kind = document.kind(node);
    let text = || lossy(document.text(node));
    let converted = match (column.kind, kind) {
        (DataType::Text, JsonKind::String) => {
            out.text(|out| out.push_str(&string(document, node)));
            return Ok(());
        }
        (DataType::Text, JsonKind::Number | JsonKind::Bool) => {
            out.push(ValueRef::Text(&text()));
            return Ok(());
        }
        (DataType::Json, _) => {
            out.json(|out| document.compact(node, |part| out.push_str(&lossy(part))));
            return Ok(());
        }
        (DataType::Integer, JsonKind::Number) => whole(&text()).map(ValueRef::Integer),
        (DataType::Double, JsonKind::Number) => {
            let number = text().parse::<f64>().ok().filter(|n| n.is_finite());
            number.map(ValueRef::Double)
        }
        (DataType::Boolean, JsonKind::Bool) => {
            Some(ValueRef::Boolean(document.text(node) == b"true"))
        }
        (DataType::Timestamp, JsonKind::String | JsonKind::Number) => {
            let read = if kind == JsonKind::String {
                TimestampMicros::parse(&string(document, node))
            } else {
                TimestampMicros::parse_number(&text(), column.unit)
            };
            let time =
                read.map_err(|e| invalid_value(column, &text(), &wanted_time(e, column.unit)))?;
            Some(ValueRef::Timestamp(checked_time(time, column, &text())?))
        }
        _ => None,
    };
    let wanted = match column.kind {
        DataType::Text => "a string, a number or a boolean".to_owned(),
        DataType::Integer => format!("a whole number from {} to {}", i64::MIN, i64::MAX),
        DataType::Double => "a number".to_owned(),
        DataType::Boolean => "true or false".to_owned(),
        DataType::Timestamp => wanted_time(InvalidTime::Form, column.unit),
        DataType::Json => "JSON".to_owned(),
    };
    out.push(converted.ok_or_else(|| invalid_value(column, &text(), &wanted))?);
    Ok(())
}

fn invalid_value(column: &ColumnConversion, text: &str, wanted: &str) -> String {
    let mut shown: String = text.chars().take(QUOTED).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!(
        "column \"{}\": `{}` is {shown}, it has to be {wanted}",
        column.name, column.path
    )
}

/// The expected form of a time.
fn wanted_time(error: InvalidTime, unit: Option<EpochUnit>) -> String {
    match unit {
        Some(unit) if error == InvalidTime::Year => {
            format!("{error} (a number is in the unit {})", unit.name())
        }
        _ => error.to_string(),
    }
}

/// Truncates a time to the microsecond, but rejects a key that would lose digits: two keys must not become one.
fn checked_time(
    read: ParsedTime,
    column: &ColumnConversion,
    text: &str,
) -> Result<TimestampMicros, String> {
    if read.is_cut && column.is_key {
        return Err(invalid_value(
            column,
            text,
            "a time to the microsecond, as it is a key",
        ));
    }
    Ok(read.time)
}

/// Parses a whole number in any notation: `7.0`, `1e3`, `-0`.
fn whole(text: &str) -> Option<i64> {
    let scaled = scale_number(text, 0).filter(|s| s.is_exact)?;
    i64::try_from(scaled.whole).ok()
}

/// Part of a document's text. The whole is valid UTF-8, so checking is faster than replacing.
fn lossy(text: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(text).map_or_else(|_| String::from_utf8_lossy(text), Cow::Borrowed)
}

/// A string's text. No store accepts NUL, so it is replaced, as in all tables of Forebay.
fn string(document: &JsonDocument, node: JsonNodeId) -> Cow<'_, str> {
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
