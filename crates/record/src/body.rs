//! Bodies: which formats are parsed, gzip, and batches.

use std::io::Read;

use bytes::Bytes;

use crate::form::{self, FormError};
use crate::json::{self, Document, JsonError};
use crate::line::text_of_line;

/// What a body is, from its content type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// `application/json` or `application/<x>+json`.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `application/x-ndjson`, `application/ndjson` or `application/jsonl`: a batch; as one record
    /// it is not parsed.
    Ndjson,
    /// Another content type (kept as sent), or none (empty): the body is not parsed.
    Other(String),
}

impl BodyFormat {
    /// Reads a `Content-Type` header's value. Letter case and parameters don't matter.
    #[must_use]
    pub fn of(content_type: Option<&[u8]>) -> Self {
        let Some(sent) = content_type else {
            return Self::Other(String::new());
        };
        if sent == b"application/json" {
            return Self::Json;
        }
        let text = String::from_utf8_lossy(sent);
        let essence = text.split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        let Some(subtype) = essence.strip_prefix("application/") else {
            return Self::Other(text.into_owned());
        };
        match subtype {
            "json" => Self::Json,
            "x-www-form-urlencoded" => Self::Form,
            "x-ndjson" | "ndjson" | "jsonl" => Self::Ndjson,
            _ => {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
                match subtype.strip_suffix("+json") {
                    Some(x) if !x.is_empty() && x.bytes().all(plain) => Self::Json,
                    _ => Self::Other(text.into_owned()),
                }
            }
        }
    }
}

/// Why a body has no parts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Neither JSON nor a form: 415.
    #[error(
        "unsupported content type \"{0}\", supported types: application/json and application/x-www-form-urlencoded"
    )]
    Unsupported(String),
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
    #[error("line {line} is not valid JSON: {} at character {} (byte {} of the line)", error.problem_text(), error.column, error.offset)]
    Line {
        /// Line of the batch, from 1.
        line: usize,
        /// What is wrong in it.
        error: JsonError,
    },
}

/// Parses a body of format `format`; `line` is where it stood in a batch.
pub(crate) fn parse(
    format: &BodyFormat,
    body: &Bytes,
    line: Option<usize>,
) -> Result<Document, BodyError> {
    match format {
        BodyFormat::Json => Document::parse(body.clone()).map_err(|error| match line {
            Some(line) => BodyError::Line { line, error },
            None => BodyError::Json(error),
        }),
        BodyFormat::Form if body.is_empty() => Err(BodyError::Empty),
        BodyFormat::Form => Ok(Document::parse(form::to_json(body)?.into())?),
        BodyFormat::Ndjson => Err(BodyError::Unsupported("application/x-ndjson".to_owned())),
        BodyFormat::Other(sent) => Err(BodyError::Unsupported(sent.clone())),
    }
}

/// How many records a body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyMode {
    /// One, whatever it is: an array too.
    #[default]
    Single,
    /// One a line; empty lines don't count.
    Ndjson,
    /// One an element of the JSON array that the body is.
    JsonArray,
}

/// One record's part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its bytes, a part of the body's own buffer.
    pub body: Bytes,
    /// Line of the batch on which it starts, from 1; `None` outside NDJSON.
    pub line: Option<usize>,
}

/// Where the records of a body are. They are made one after the other when they are needed: a
/// million of them take [`PART_BYTES`] each, whatever they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    body: Bytes,
    spans: Vec<Span>,
}

/// Bytes that a record of a [`Parts`] takes besides its text.
pub const PART_BYTES: usize = size_of::<Span>();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
    /// From 1; 0 is no line.
    line: u32,
}

impl Parts {
    /// How many records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Record number `index`, from 0.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Part> {
        Some(self.part(*self.spans.get(index)?))
    }

    /// All records.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Part> + '_ {
        self.spans.iter().map(|span| self.part(*span))
    }

    fn part(&self, span: Span) -> Part {
        Part {
            body: self.body.slice(span.start as usize..span.end as usize),
            line: (span.line > 0).then_some(span.line as usize),
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

/// Divides a body into its records, at most `max`. The lines of NDJSON are not looked into: a
/// broken one is that record's own error. A broken array has no records at all, because nobody
/// knows where they end.
///
/// # Errors
/// If there are more than `max` records, or the body is not the array that it should be.
pub fn split(body: &Bytes, mode: BodyMode, max: usize) -> Result<Parts, SplitError> {
    let Ok(len) = u32::try_from(body.len()) else {
        return Err(JsonError::too_large().into());
    };
    let spans = match mode {
        BodyMode::Single => vec![Span {
            start: 0,
            end: len,
            line: 0,
        }],
        BodyMode::Ndjson => split_lines(body, max)?,
        BodyMode::JsonArray => split_array(body, max)?,
    };
    let body = body.clone();
    Ok(Parts { body, spans })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the body is shorter than 4 GiB"
)]
fn split_lines(body: &[u8], max: usize) -> Result<Vec<Span>, SplitError> {
    let mut spans = Vec::new();
    let mut start = if body.starts_with(b"\xEF\xBB\xBF") {
        3
    } else {
        0
    };
    for number in 1.. {
        let Some(rest) = body.get(start..).filter(|r| !r.is_empty()) else {
            break;
        };
        let len = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let mut line = &rest[..len];
        if let Some(without) = line.strip_suffix(b"\r") {
            line = without;
        }
        if !text_of_line(line).is_empty() {
            if spans.len() == max {
                return Err(SplitError::TooMany(max));
            }
            spans.push(Span {
                start: start as u32,
                end: (start + line.len()) as u32,
                line: number,
            });
        }
        start += len + 1;
    }
    Ok(spans)
}

fn split_array(body: &[u8], max: usize) -> Result<Vec<Span>, SplitError> {
    let mut spans = Vec::new();
    let whole = json::elements(body, |start, end| {
        let room = spans.len() < max;
        if room {
            let line = 0;
            spans.push(Span { start, end, line });
        }
        room
    })?;
    if whole {
        Ok(spans)
    } else {
        Err(SplitError::TooMany(max))
    }
}

/// Why a compressed body can't be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// More than the limit after inflation: 413.
    #[error("the body is larger than {0} bytes after decompression")]
    TooLarge(usize),
    /// Not gzip, cut short, or with something behind it: 400.
    #[error("the body is not valid gzip: {0}")]
    Broken(String),
}

/// Inflates a gzip body of one or more members. Never holds more than `max` bytes and a small
/// buffer, whatever the body promises.
///
/// # Errors
/// If more than `max` bytes come out, or the body is not gzip to its last byte.
pub fn inflate(body: &[u8], max: usize) -> Result<Bytes, InflateError> {
    let mut decoder = flate2::bufread::MultiGzDecoder::new(body);
    let mut out = Vec::with_capacity(body.len().saturating_mul(4).min(max));
    let mut buffer = [0; 8192];
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => return Ok(out.into()),
            Ok(n) if out.len() + n > max => return Err(InflateError::TooLarge(max)),
            Ok(n) => out.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(InflateError::Broken(e.to_string())),
        }
    }
}
