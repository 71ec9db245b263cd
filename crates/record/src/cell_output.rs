//! Outputs of cells, with size limits.

use crate::csv;

pub(crate) trait CellOutput {
    /// Appends any text.
    fn push(&mut self, text: &[u8]);
    /// Appends text without quotes.
    fn plain(&mut self, text: &[u8]);
}

impl CellOutput for Vec<u8> {
    fn push(&mut self, text: &[u8]) {
        self.extend_from_slice(text);
    }

    fn plain(&mut self, text: &[u8]) {
        self.extend_from_slice(text);
    }
}

/// A text of at most `max` bytes.
pub(crate) struct BoundedOutput {
    pub(crate) out: Vec<u8>,
    pub(crate) max: usize,
    /// Whether text was dropped.
    pub(crate) full: bool,
}

impl CellOutput for BoundedOutput {
    fn push(&mut self, text: &[u8]) {
        self.full |= self.out.len() + text.len() > self.max;
        if !self.full {
            self.out.extend_from_slice(text);
        }
    }

    fn plain(&mut self, text: &[u8]) {
        self.push(text);
    }
}

/// The inside of a quoted CSV value. Drops text past `end`, so that an oversized row is not built.
pub(crate) struct CsvOutput<'a> {
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) end: usize,
    pub(crate) full: bool,
}

impl CellOutput for CsvOutput<'_> {
    fn push(&mut self, text: &[u8]) {
        if self.full || self.out.len() + text.len() > self.end {
            self.full = true;
            return;
        }
        csv::push_escaped(text, self.out);
    }

    fn plain(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
    }
}
