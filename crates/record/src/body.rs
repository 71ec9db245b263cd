//! Parsing of bodies, and splitting of batches into records.

use std::ops::Range;

use bytes::Bytes;

use crate::form::{self, FormError};
use crate::json::{self, BYTE_ORDER_MARK, JsonDocument, JsonError, JsonErrorKind, JsonValues};
use crate::line::{self, text_of_line};

pub use crate::coding::{InflateError, inflate};
pub use crate::content_type::{BodyFormat, BodyMode};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyParseError {
    /// Neither JSON nor a form: 415.
    #[error(
        "unsupported content type \"{sent}\", supported types: application/json and application/x-www-form-urlencoded{}", json_hint(looks.as_ref())
    )]
    Unsupported {
        sent: String,
        /// The JSON error, if the body begins like JSON.
        looks: Option<JsonError>,
    },
    /// An invalid form: 400.
    #[error("the body is not a valid form: {0}")]
    Form(#[from] FormError),
    /// An empty body: 400.
    #[error("the body is empty")]
    Empty,
    /// Invalid JSON: 400.
    #[error("the body is not valid JSON: {0}")]
    Json(#[from] JsonError),
    /// Invalid JSON in a record of a batch: 400.
    #[error("{}", in_line(*line, *byte, error))]
    Line {
        /// Line of the batch at which the record starts, from 1.
        line: usize,
        /// Byte of that line at which it starts.
        byte: usize,
        error: JsonError,
    },
}

fn json_hint(error: Option<&JsonError>) -> String {
    let Some(error) = error else {
        return String::new();
    };
    format!(
        "; the body looks like JSON, but is not: {error}{}",
        ndjson_hint(error)
    )
}

pub(crate) fn ndjson_hint(error: &JsonError) -> &'static str {
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

/// Whether a body begins like an object or an array. Without a JSON content type only these are
/// read as JSON: a number or a word may be any text.
pub(crate) fn looks_like_json(body: &[u8]) -> bool {
    let text = text_of_line(body);
    matches!(body.get(text.start), Some(b'{' | b'['))
}

/// Parses a body; `position` is its line and byte in a batch.
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
    // Not a sequence of values either, or it would have been split.
    let error = match error.kind {
        JsonErrorKind::Trailing => JsonValues::new(body).find_map(Result::err).unwrap_or(error),
        _ => error,
    };
    BodyParseError::Line { line, byte, error }
}

/// One record's part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyPart {
    /// Shares the buffer of the whole body.
    pub body: Bytes,
    /// Line of the batch on which it starts, from 1; `None` in an array.
    pub line: Option<usize>,
    /// Byte of that line at which it starts.
    pub byte: usize,
}

/// Positions of the records of a body: [`PART_BYTES`] each, whatever the size of the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyParts {
    body: Bytes,
    spans: Vec<PartSpan>,
}

/// Memory of a record of a [`BodyParts`] beside its text.
pub const PART_BYTES: usize = size_of::<PartSpan>();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PartSpan {
    start: u32,
    end: u32,
    /// From 1; 0: none.
    line: u32,
    /// Byte of the line.
    byte: u32,
}

impl BodyParts {
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub fn get(&self, index: usize) -> Option<BodyPart> {
        Some(self.part(*self.spans.get(index)?))
    }

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

/// Error of splitting a body into records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Too many records: 413.
    #[error("the batch has more than {0} records")]
    TooMany(usize),
    /// Not a JSON array: 400.
    #[error("the batch is not valid JSON: {0}")]
    Json(#[from] JsonError),
}

/// Splits a body into at most `max` records. NDJSON lines are scanned only if they may have several
/// values; an invalid line is one record with its own error. An invalid array fails as a whole,
/// because the ends of its records are unknown.
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

/// Collects the records of a text with lines.
struct PartSpanCollector<'a> {
    text: &'a [u8],
    max: usize,
    spans: Vec<PartSpan>,
    /// Number of the line that starts at `line_start`.
    line: u32,
    line_start: usize,
    /// Line ends are counted up to here, so that a line with many records is scanned once.
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

    /// Adds the values of a piece of the text, or the whole piece if it is not a sequence of
    /// values.
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
                // The whole piece is one record, which fails when it is parsed.
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
        // The byte order mark of the text belongs to no line.
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
