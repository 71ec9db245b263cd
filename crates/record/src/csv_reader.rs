//! Reads CSV as [`crate::csv`] writes it, and nothing else: a file that another program would have
//! to be guessed at is refused, with the byte at which it goes wrong.

use std::io::Read;

use crate::csv;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum CsvError {
    /// It can't be read.
    #[error("reading CSV failed after byte {offset}: {error}")]
    Io {
        /// Byte of the rows, from 0.
        offset: u64,
        /// What the reader said.
        error: std::io::Error,
    },
    /// It is not the format.
    #[error("not CSV as Forebay writes it: {problem} at byte {offset}")]
    Syntax {
        /// Byte of the rows, from 0.
        offset: u64,
        /// What was met.
        problem: &'static str,
    },
    /// A row larger than the reader takes.
    #[error("the row at byte {offset} is larger than {max} bytes")]
    TooLarge {
        /// Byte at which the row starts, from 0.
        offset: u64,
        /// The reader's limit.
        max: usize,
    },
}

/// One row: its cells as they were before they became CSV. To be kept and filled again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsvRecord {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl CsvRecord {
    /// Number of cells.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has no cell; no row is like that.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Cell number `i`, from 0.
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let end = *self.ends.get(i)?;
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        Some(&self.text[start..end])
    }

    /// All cells.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i).unwrap_or_default())
    }
}

/// Largest row by default: the 2 MB that the row size limit can be set to, its quotes doubled.
pub const ROW_MAX: usize = 4 << 20;

const BUFFER: usize = 64 << 10;

/// A streaming reader; memory is one row and a buffer.
#[derive(Debug)]
pub struct CsvReader<R> {
    reader: R,
    buffer: Vec<u8>,
    pos: usize,
    len: usize,
    /// Bytes before the buffer.
    before: u64,
    row_max: usize,
}

impl<R: Read> CsvReader<R> {
    /// Starts at a row.
    pub fn new(reader: R) -> Self {
        Self::with_row_max(reader, ROW_MAX)
    }

    /// The same with another bound on the bytes of a row's cells.
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

    /// Byte that is read next, from 0.
    pub fn offset(&self) -> u64 {
        self.before + self.pos as u64
    }

    /// Reads one row into `record`; `false` at the end of the file.
    ///
    /// # Errors
    /// If the file can't be read, is not of the format, ends within a row, or the row is too large.
    /// The reader is of no use afterwards.
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

    /// The rest of a value whose opening quote has been read, and the byte behind it.
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
                // A quote: that of the value's end, or the first of two at the end of the buffer.
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

    /// Makes sure that there is a byte; `false` at the end of the file.
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
