//! Strict reader of the CSV that [`crate::csv`] writes. Any deviation is an error with its offset.

use std::io::Read;

use crate::csv;

#[derive(Debug, thiserror::Error)]
pub enum CsvError {
    #[error("reading CSV failed after byte {offset}: {error}")]
    Io {
        /// Byte of the rows, from 0.
        offset: u64,
        error: std::io::Error,
    },
    #[error("not CSV as Forebay writes it: {problem} at byte {offset}")]
    Syntax {
        /// Byte of the rows, from 0.
        offset: u64,
        problem: &'static str,
    },
    #[error("the row at byte {offset} is larger than {max} bytes")]
    TooLarge {
        /// Byte at which the row starts, from 0.
        offset: u64,
        max: usize,
    },
}

/// The unescaped cells of one row. Reusable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsvRecord {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl CsvRecord {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let end = *self.ends.get(i)?;
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        Some(&self.text[start..end])
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i).unwrap_or_default())
    }
}

/// Default limit of a row: the maximum row size limit of 2 MB, with all quotes doubled.
pub(crate) const ROW_MAX: usize = 4 << 20;

const BUFFER: usize = 64 << 10;

/// A streaming reader; uses the memory of one row and a buffer.
#[derive(Debug)]
pub struct CsvReader<R> {
    reader: R,
    buffer: Vec<u8>,
    pos: usize,
    len: usize,
    /// Offset of the buffer in the input.
    before: u64,
    row_max: usize,
}

impl<R: Read> CsvReader<R> {
    /// `reader` is at the start of a row.
    pub fn new(reader: R) -> Self {
        Self::with_row_max(reader, ROW_MAX)
    }

    /// As [`Self::new`], with a limit on the bytes of a row's cells.
    pub fn with_row_max(reader: R, row_max: usize) -> Self {
        Self {
            reader,
            buffer: vec![0; BUFFER],
            pos: 0,
            len: 0,
            before: 0,
            row_max,
        }
    }

    /// Offset of the next byte.
    pub fn offset(&self) -> u64 {
        self.before + self.pos as u64
    }

    /// Reads one row into `record`; `false` at the end of the file.
    /// After an error the reader is unusable.
    pub fn read(&mut self, record: &mut CsvRecord) -> Result<bool, CsvError> {
        record.text.clear();
        record.ends.clear();
        let start = self.offset();
        let Some(first) = self.next()? else {
            return Ok(false);
        };
        if first != b'"' {
            return Err(self.syntax(1, "a value that is not in double quotes"));
        }
        loop {
            let behind = self.value(record, start)?;
            record.ends.push(record.text.len());
            match behind {
                Some(b'\n') => return Ok(true),
                Some(b',') => match self.next()? {
                    Some(b'"') => {}
                    Some(_) => return Err(self.syntax(1, "a value that is not in double quotes")),
                    None => return Err(self.syntax(0, "the end of the file within a row")),
                },
                Some(_) => return Err(self.syntax(1, "neither ',' nor a line end after a value")),
                None => return Err(self.syntax(0, "the end of the file within a row")),
            }
        }
    }

    /// Reads the rest of a value after its opening quote, and the byte after its closing quote.
    fn value(&mut self, record: &mut CsvRecord, start: u64) -> Result<Option<u8>, CsvError> {
        loop {
            if !self.fill()? {
                return Err(self.syntax(0, "the end of the file within a value"));
            }
            let text = &self.buffer[self.pos..self.len];
            self.pos += csv::push_unescaped(text, &mut record.text);
            if record.text.len() > self.row_max {
                return Err(CsvError::TooLarge {
                    offset: start,
                    max: self.row_max,
                });
            }
            if self.pos < self.len {
                // A closing quote, or the first of two quotes at the end of the buffer.
                self.pos += 1;
                match self.next()? {
                    Some(b'"') => record.text.push(b'"'),
                    behind => return Ok(behind),
                }
            }
        }
    }

    fn next(&mut self) -> Result<Option<u8>, CsvError> {
        if !self.fill()? {
            return Ok(None);
        }
        self.pos += 1;
        Ok(Some(self.buffer[self.pos - 1]))
    }

    /// Makes a byte available; `false` at the end of the file.
    fn fill(&mut self) -> Result<bool, CsvError> {
        while self.pos == self.len {
            match self.reader.read(&mut self.buffer) {
                Ok(0) => return Ok(false),
                Ok(n) => {
                    self.before += self.len as u64;
                    self.pos = 0;
                    self.len = n;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let offset = self.offset();
                    return Err(CsvError::Io { offset, error });
                }
            }
        }
        Ok(true)
    }

    fn syntax(&self, back: u64, problem: &'static str) -> CsvError {
        CsvError::Syntax {
            offset: self.offset().saturating_sub(back),
            problem,
        }
    }
}
