//! Parts of files, parsed: lines become records, and rows where they go straight into a table.

use std::ops::Range;

use bytes::Bytes;
use forebay_record::line::{text_of_line, values};

use super::chunk::{Chunk, Kind, LONG_KEPT};
use crate::convert::{self, Reader, Typing};
use crate::record::{Line, Typed};

/// A part, parsed.
pub(super) struct Parsed {
    pub(super) chunk: Chunk,
    pub(super) lines: u64,
    pub(super) good: Vec<Line>,
    /// The rows of the good ones, where they go straight into a table.
    pub(super) table: Option<Typed>,
    pub(super) bad: Vec<Bad>,
}

/// A line that is no record.
pub(super) struct Bad {
    /// In the part, from 0.
    pub(super) number: u64,
    /// Of the values of its line, from 0.
    pub(super) value: u32,
    pub(super) body: Bytes,
    pub(super) error: String,
}

/// Parses a part.
pub(super) fn parsed(chunk: Chunk, reader: &Reader, line_max: usize) -> Parsed {
    let mut parsing = Parsing {
        typing: reader.begin(),
        good: Vec::new(),
        bad: Vec::new(),
    };
    let mut lines = 0;
    match &chunk.kind {
        Kind::Lines(bytes) => lines = parsing.lines(bytes, line_max),
        Kind::LongLine(start, length, _) => {
            lines = 1;
            let text = start.slice(text_of_line(start));
            let error = too_long(*length, line_max, text.len());
            parsing.refuse(0, text, error);
        }
        Kind::Damage(text) => parsing.refuse(0, Bytes::new(), text.clone()),
        Kind::Encoding(_) => {}
    }
    Parsed {
        chunk,
        lines,
        good: parsing.good,
        table: parsing.typing.map(Typing::end),
        bad: parsing.bad,
    }
}

/// What is wrong with a line that is too long, and what is lost of it.
fn too_long(length: u64, max: usize, kept: usize) -> String {
    let lost = length.saturating_sub(kept as u64);
    format!(
        "the line has {length} bytes, allowed are {max} (maxLineSize): the first {kept} are kept, {lost} are lost"
    )
}

/// Lines of a part that are being read.
struct Parsing<'a> {
    typing: Option<Typing<'a>>,
    good: Vec<Line>,
    bad: Vec<Bad>,
}

impl Parsing<'_> {
    /// Reads all lines. Answers how many there are.
    fn lines(&mut self, bytes: &Bytes, line_max: usize) -> u64 {
        let mut lines = 0;
        let count = memchr::memchr_iter(b'\n', bytes).count() + 1;
        self.good.reserve(count);
        if let Some(typing) = &mut self.typing {
            typing.reserve(count, bytes.len());
        }
        let mut from = 0;
        while from < bytes.len() {
            let rest = bytes.get(from..).unwrap_or_default();
            let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = rest.get(..length).unwrap_or(rest);
            let range = text_of_line(line);
            let range = from + range.start..from + range.end;
            from += length + 1;
            // Blank lines are counted and nothing else.
            if line.len() > line_max {
                let kept = line.get(..LONG_KEPT).unwrap_or(line);
                let error = too_long(line.len() as u64, line_max, kept.len());
                self.refuse(lines, bytes.slice_ref(kept), error);
            } else if !range.is_empty() {
                self.line(lines, bytes, range);
            }
            lines += 1;
        }
        lines
    }

    /// Reads a line: one value, or several that run together, of which each is a record.
    fn line(&mut self, number: u64, bytes: &Bytes, range: Range<usize>) {
        let line = |value, range| Line {
            number,
            value,
            range,
        };
        let Err(error) = self.add(bytes.slice(range.clone())) else {
            return self.good.push(line(0, range));
        };
        let text = bytes.get(range.clone()).unwrap_or_default();
        // As Firehose and others write. A line that is not values to its end is one bad record.
        let values = match values(text) {
            Ok(values) if values.len() > 1 => values,
            _ => return self.refuse(number, bytes.slice(range), error),
        };
        for (value, part) in (0..).zip(values) {
            let part = range.start + part.start..range.start + part.end;
            let body = bytes.slice(part.clone());
            match self.add(body.clone()) {
                Ok(()) => self.good.push(line(value, part)),
                Err(error) => self.bad.push(Bad {
                    number,
                    value,
                    body,
                    error,
                }),
            }
        }
    }

    fn add(&mut self, body: Bytes) -> Result<(), String> {
        match &mut self.typing {
            Some(typing) => typing.add(body),
            None => convert::json(body),
        }
    }

    fn refuse(&mut self, number: u64, body: Bytes, error: String) {
        self.bad.push(Bad {
            number,
            value: 0,
            body,
            error,
        });
    }
}
