//! Parses chunks: lines become records, and rows if they go directly into a table.

use std::ops::Range;

use bytes::Bytes;
use forebay_record::line::{text_of_line, values};

use super::chunk::{ChunkContent, FileChunk, LONG_LINE_PREFIX};
use crate::convert::{self, LineReader, RowBuilder};
use crate::record::{LineRange, TypedRows};

pub(super) struct ParsedChunk {
    pub(super) chunk: FileChunk,
    pub(super) lines: u64,
    pub(super) good: Vec<LineRange>,
    /// The rows of the good lines, if they go directly into a table.
    pub(super) table: Option<TypedRows>,
    pub(super) bad: Vec<BadLine>,
}

/// A line that is not a record.
pub(super) struct BadLine {
    /// Line number in the chunk, from 0.
    pub(super) number: u64,
    /// Index of the value in its line, from 0.
    pub(super) value: u32,
    pub(super) body: Bytes,
    pub(super) error: String,
}

pub(super) fn parse_chunk(chunk: FileChunk, reader: &LineReader, line_max: usize) -> ParsedChunk {
    let mut parsing = ChunkParser {
        builder: reader.row_builder(),
        good: Vec::new(),
        bad: Vec::new(),
    };
    let mut lines = 0;
    match &chunk.kind {
        ChunkContent::Lines(bytes) => lines = parsing.lines(bytes, line_max),
        ChunkContent::LongLine(start, length, _) => {
            lines = 1;
            let text = start.slice(text_of_line(start));
            let error = too_long(*length, line_max, text.len());
            parsing.reject(0, text, error);
        }
        ChunkContent::Damage(text) => parsing.reject(0, Bytes::new(), text.clone()),
        ChunkContent::Encoding(_) => {}
    }
    ParsedChunk {
        chunk,
        lines,
        good: parsing.good,
        table: parsing.builder.map(RowBuilder::finish),
        bad: parsing.bad,
    }
}

/// The error of a line that is too long, with the number of lost bytes.
fn too_long(length: u64, max: usize, kept: usize) -> String {
    let lost = length.saturating_sub(kept as u64);
    format!(
        "the line has {length} bytes, allowed are {max} (maxLineSize): the first {kept} are kept, {lost} are lost"
    )
}

/// Results of parsing a chunk so far.
struct ChunkParser<'a> {
    builder: Option<RowBuilder<'a>>,
    good: Vec<LineRange>,
    bad: Vec<BadLine>,
}

impl ChunkParser<'_> {
    /// Parses all lines and returns their number.
    fn lines(&mut self, bytes: &Bytes, line_max: usize) -> u64 {
        let mut lines = 0;
        let count = memchr::memchr_iter(b'\n', bytes).count() + 1;
        self.good.reserve(count);
        if let Some(builder) = &mut self.builder {
            builder.reserve(count, bytes.len());
        }
        let mut from = 0;
        while from < bytes.len() {
            let rest = bytes.get(from..).unwrap_or_default();
            let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = rest.get(..length).unwrap_or(rest);
            let range = text_of_line(line);
            let range = from + range.start..from + range.end;
            from += length + 1;
            // Blank lines only count as lines.
            if line.len() > line_max {
                let kept = line.get(..LONG_LINE_PREFIX).unwrap_or(line);
                let error = too_long(line.len() as u64, line_max, kept.len());
                self.reject(lines, bytes.slice_ref(kept), error);
            } else if !range.is_empty() {
                self.line(lines, bytes, range);
            }
            lines += 1;
        }
        lines
    }

    /// Parses a line: one value, or several concatenated ones, each of which is a record.
    fn line(&mut self, number: u64, bytes: &Bytes, range: Range<usize>) {
        let line = |value, range| LineRange {
            number,
            value,
            range,
        };
        let Err(error) = self.add(bytes.slice(range.clone())) else {
            return self.good.push(line(0, range));
        };
        let text = bytes.get(range.clone()).unwrap_or_default();
        // Firehose and others concatenate values. A line that is not values to its end is one bad record.
        let values = match values(text) {
            Ok(values) if values.len() > 1 => values,
            _ => return self.reject(number, bytes.slice(range), error),
        };
        for (value, part) in (0..).zip(values) {
            let part = range.start + part.start..range.start + part.end;
            let body = bytes.slice(part.clone());
            match self.add(body.clone()) {
                Ok(()) => self.good.push(line(value, part)),
                Err(error) => self.bad.push(BadLine {
                    number,
                    value,
                    body,
                    error,
                }),
            }
        }
    }

    fn add(&mut self, body: Bytes) -> Result<(), String> {
        match &mut self.builder {
            Some(builder) => builder.add(body),
            None => convert::check_json(body),
        }
    }

    fn reject(&mut self, number: u64, body: Bytes, error: String) {
        self.bad.push(BadLine {
            number,
            value: 0,
            body,
            error,
        });
    }
}
