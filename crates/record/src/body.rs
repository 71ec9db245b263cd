//! Bodies: which formats are parsed, and batches.

use std::ops::Range;

use bytes::Bytes;

use crate::content_type::classify;
use crate::context::RecordContext;
use crate::form::{self, FormError};
use crate::json::{self, JsonDocument, JsonError, JsonErrorKind, JsonKind, JsonValues};
use crate::line::{self, BYTE_ORDER_MARK, text_of_line};

pub use crate::coding::{InflateError, inflate};

/// How one record is parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// A content type that names JSON.
    Json,
    /// `application/x-www-form-urlencoded`, or JSON that says so, as curl does by itself.
    Form,
    /// Another content type (kept as sent), or none (empty): parsed if it is JSON.
    Other(String),
}

impl BodyFormat {
    /// Reads a `Content-Type` header's value. Letter case and parameters don't matter.
    pub fn from_content_type(content_type: Option<&[u8]>) -> Self {
        let sent = content_type.unwrap_or_default();
        if sent == b"application/json" {
            return Self::Json;
        }
        classify(&String::from_utf8_lossy(sent)).0
    }
}

/// Why a body has no parts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyParseError {
    /// Neither JSON nor a form: 415.
    #[error(
        "unsupported content type \"{sent}\", supported types: application/json and application/x-www-form-urlencoded{}", seems(looks.as_ref())
    )]
    Unsupported {
        /// The content type.
        sent: String,
        /// The body begins as JSON does, but is none for this reason.
        looks: Option<JsonError>,
    },
    /// A form that is not one: 400.
    #[error("the body is not a valid form: {0}")]
    Form(#[from] FormError),
    /// A body without a byte: 400.
    #[error("the body is empty")]
    Empty,
    /// JSON that is not JSON: 400.
    #[error("the body is not valid JSON: {0}")]
    Json(#[from] JsonError),
    /// The same in a record of a batch: 400.
    #[error("{}", in_line(*line, *byte, error))]
    Line {
        /// Line of the batch at which the record starts, from 1.
        line: usize,
        /// Byte of that line at which it starts.
        byte: usize,
        /// What is wrong in it.
        error: JsonError,
    },
}

/// Said of what begins as JSON does and is none.
fn seems(error: Option<&JsonError>) -> String {
    let Some(error) = error else {
        return String::new();
    };
    format!(
        "; the body looks like JSON, but is not: {error}{}",
        several(error)
    )
}

fn several(error: &JsonError) -> &'static str {
    match error.kind {
        JsonErrorKind::Trailing => ", several values are application/x-ndjson",
        _ => "",
    }
}

fn in_line(line: usize, byte: usize, error: &JsonError) -> String {
    let (text, at) = (error.kind_text(), byte + error.offset);
    match (error.line, byte) {
        (1, 0) => {
            let character = error.column;
            format!(
                "line {line} is not valid JSON: {text} at character {character} (byte {at} of the line)"
            )
        }
        (1, _) => format!("line {line} is not valid JSON: {text} at byte {at} of the line"),
        (behind, _) => {
            let (line, character) = (line + behind - 1, error.column);
            format!("line {line} is not valid JSON: {text} at character {character}")
        }
    }
}

/// Whether a body begins as an object or an array does. Only those are taken for JSON that do not say
/// so: a number or a word may be any text.
fn looks_like_json(body: &[u8]) -> bool {
    let text = text_of_line(body);
    matches!(body.get(text.start), Some(b'{' | b'['))
}

/// Parses a body of format `format`; `place` is where it stood in a batch: line, and byte of it.
pub(crate) fn parse(
    format: &BodyFormat,
    body: &Bytes,
    position: Option<(usize, usize)>,
) -> Result<JsonDocument, BodyParseError> {
    let json = || JsonDocument::parse(body.clone());
    match format {
        BodyFormat::Json => json().map_err(|error| match position {
            Some((line, byte)) => in_batch(body, line, byte, error),
            None => BodyParseError::Json(error),
        }),
        BodyFormat::Form if body.is_empty() => Err(BodyParseError::Empty),
        BodyFormat::Form => match looks_like_json(body).then(json) {
            Some(Ok(document)) => Ok(document),
            _ => Ok(JsonDocument::parse(form::to_json(body)?.into())?),
        },
        BodyFormat::Other(sent) => {
            let looks = match looks_like_json(body).then(json) {
                Some(Ok(document)) => return Ok(document),
                Some(Err(error)) => Some(error),
                None => None,
            };
            let sent = sent.clone();
            Err(BodyParseError::Unsupported { sent, looks })
        }
    }
}

fn in_batch(body: &[u8], line: usize, byte: usize, error: JsonError) -> BodyParseError {
    // It is no sequence of values either, or it would have been divided.
    let error = match error.kind {
        JsonErrorKind::Trailing => JsonValues::new(body).find_map(Result::err).unwrap_or(error),
        _ => error,
    };
    BodyParseError::Line { line, byte, error }
}

/// What the sender of a record should know whose part was not found: what the body was read as, if
/// that is not what it seems to be.
pub(crate) fn not_found_hint(record: &RecordContext) -> String {
    let Ok(document) = record.document() else {
        return String::new();
    };
    let body = record.body();
    let is_array = document.kind(document.root()) == JsonKind::Array && !record.is_of_batch();
    let as_array = match is_array {
        true => "; the body is an array and one record, with ?batch each of its elements is one",
        false => "",
    };
    match record.format() {
        BodyFormat::Json => as_array.to_owned(),
        BodyFormat::Form if document.is_of(body) => as_array.to_owned(),
        BodyFormat::Form => {
            let error = looks_like_json(body).then(|| JsonDocument::parse(body.clone()).err());
            let seems = match error.flatten() {
                Some(error) => format!(
                    "; it looks like JSON, but is not: {error}{}; JSON is sent with Content-Type: application/json",
                    several(&error)
                ),
                None => String::new(),
            };
            format!(", which was read as application/x-www-form-urlencoded{seems}")
        }
        BodyFormat::Other(sent) => {
            format!(", which was read as JSON (its content type is \"{sent}\"){as_array}")
        }
    }
}

/// How many records a body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyMode {
    /// One, whatever it is: an array too.
    #[default]
    Single,
    /// One for each value of a line; empty lines don't count.
    Ndjson,
    /// One for each value behind a record separator (RFC 7464), which may take several lines.
    JsonSequence,
    /// One an element of the JSON array that the body is.
    JsonArray,
}

/// One record's part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyPart {
    /// Its bytes, a part of the body's own buffer.
    pub body: Bytes,
    /// Line of the batch on which it starts, from 1; `None` of an array.
    pub line: Option<usize>,
    /// Byte of that line at which it starts.
    pub byte: usize,
}

/// Where the records of a body are. They are made one after the other when they are needed: a
/// million of them take [`PART_BYTES`] each, whatever they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyParts {
    body: Bytes,
    spans: Vec<PartSpan>,
}

/// Bytes that a record of a [`BodyParts`] takes besides its text.
pub const PART_BYTES: usize = size_of::<PartSpan>();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PartSpan {
    start: u32,
    end: u32,
    /// From 1; 0 is no line.
    line: u32,
    /// Byte of the line.
    byte: u32,
}

impl BodyParts {
    /// How many records.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Record number `index`, from 0.
    pub fn get(&self, index: usize) -> Option<BodyPart> {
        Some(self.part(*self.spans.get(index)?))
    }

    /// All records.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = BodyPart> + '_ {
        self.spans.iter().map(|span| self.part(*span))
    }

    fn part(&self, span: PartSpan) -> BodyPart {
        BodyPart {
            body: self.body.slice(span.start as usize..span.end as usize),
            line: (span.line > 0).then_some(span.line as usize),
            byte: span.byte as usize,
        }
    }
}

/// Why a body can't be divided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Too many records: 413.
    #[error("the batch has more than {0} records")]
    TooMany(usize),
    /// Not a JSON array: 400.
    #[error("the batch is not valid JSON: {0}")]
    Json(#[from] JsonError),
}

/// Divides a body into its records, at most `max`. The lines of NDJSON are not looked into unless
/// they may hold several values: a broken one is one record, with an error of its own. A broken array
/// has no records at all, because nobody knows where they end.
///
/// # Errors
/// If there are more than `max` records, or the body is not the array that it should be.
pub fn split(body: &Bytes, mode: BodyMode, max: usize) -> Result<BodyParts, SplitError> {
    let Ok(len) = u32::try_from(body.len()) else {
        return Err(JsonError::too_large().into());
    };
    let spans = match mode {
        BodyMode::Single => vec![PartSpan {
            start: 0,
            end: len,
            line: 0,
            byte: 0,
        }],
        BodyMode::Ndjson => split_lines(body, max)?,
        BodyMode::JsonSequence => split_sequence(body, max)?,
        BodyMode::JsonArray => split_array(body, max)?,
    };
    let body = body.clone();
    Ok(BodyParts { body, spans })
}

/// Gathers the records of a text in which they have lines.
struct PartSpanCollector<'a> {
    text: &'a [u8],
    max: usize,
    spans: Vec<PartSpan>,
    /// Number of the line at which `line_start` is.
    line: u32,
    line_start: usize,
    /// Up to here line ends were counted: a line may have as many records as it has bytes.
    counted: usize,
}

impl<'a> PartSpanCollector<'a> {
    fn new(text: &'a [u8], max: usize) -> Self {
        Self {
            text,
            max,
            spans: Vec::new(),
            line: 1,
            line_start: 0,
            counted: 0,
        }
    }

    /// The values of a piece of the text, or the piece as a whole when it is no sequence of values.
    fn add(&mut self, piece: Range<usize>) -> Result<(), SplitError> {
        let text = &self.text[piece.clone()];
        if text_of_line(text).is_empty() {
            return Ok(());
        }
        if !line::may_hold_several(text) {
            return self.push(piece.start, piece.end);
        }
        let remaining = self.max - self.spans.len();
        let mut values = Vec::new();
        for value in JsonValues::new(text) {
            match value {
                Ok(_) if values.len() == remaining => return Err(SplitError::TooMany(self.max)),
                Ok(value) => values.push(value),
                // The whole is one record, which its reader refuses.
                Err(_) => return self.push(piece.start, piece.end),
            }
        }
        if values.len() == 1 {
            return self.push(piece.start, piece.end);
        }
        for value in values {
            self.push(piece.start + value.start, piece.start + value.end)?;
        }
        Ok(())
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the body is shorter than 4 GiB"
    )]
    fn push(&mut self, start: usize, end: usize) -> Result<(), SplitError> {
        if self.spans.len() == self.max {
            return Err(SplitError::TooMany(self.max));
        }
        let before = &self.text[self.counted..start];
        if let Some(last) = memchr::memrchr(b'\n', before) {
            self.line += memchr::memchr_iter(b'\n', before).count() as u32;
            self.line_start = self.counted + last + 1;
        }
        self.counted = start;
        self.spans.push(PartSpan {
            start: start as u32,
            end: end as u32,
            line: self.line,
            byte: (start - self.line_start) as u32,
        });
        Ok(())
    }
}

fn split_lines(body: &[u8], max: usize) -> Result<Vec<PartSpan>, SplitError> {
    let mut spans = PartSpanCollector::new(body, max);
    let mut start = 0;
    while let Some(rest) = body.get(start..).filter(|r| !r.is_empty()) {
        let len = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..len];
        // The mark of the text belongs to no line.
        let mark = match start {
            0 if line.starts_with(BYTE_ORDER_MARK) => BYTE_ORDER_MARK.len(),
            _ => 0,
        };
        let end = len - usize::from(line.ends_with(b"\r"));
        spans.add(start + mark..start + end.max(mark))?;
        start += len + 1;
    }
    Ok(spans.spans)
}

fn split_sequence(body: &[u8], max: usize) -> Result<Vec<PartSpan>, SplitError> {
    const SEPARATOR: u8 = 0x1E;
    let mut spans = PartSpanCollector::new(body, max);
    let mut start = 0;
    for piece in body.split(|b| *b == SEPARATOR) {
        let text = text_of_line(piece);
        spans.add(start + text.start..start + text.end)?;
        start += piece.len() + 1;
    }
    Ok(spans.spans)
}

fn split_array(body: &[u8], max: usize) -> Result<Vec<PartSpan>, SplitError> {
    let mut spans = Vec::new();
    let whole = json::elements(body, |start, end| {
        let fits = spans.len() < max;
        if fits {
            spans.push(PartSpan {
                start,
                end,
                line: 0,
                byte: 0,
            });
        }
        fits
    })?;
    if whole {
        Ok(spans)
    } else {
        Err(SplitError::TooMany(max))
    }
}
