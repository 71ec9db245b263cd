//! Where the texts of cells go, and how much of them.

use crate::csv;

/// Where a cell's text goes.
pub(crate) trait CellOutput {
    /// Takes any text.
    fn push(&mut self, text: &[u8]);
    /// Takes text without quotes.
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

/// A text that takes nothing past its end.
pub(crate) struct BoundedOutput {
    pub(crate) out: Vec<u8>,
    pub(crate) max: usize,
    /// More was pushed than it takes.
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

/// The inside of a quoted CSV value; takes nothing past its end, so that a row that is far too
/// large is not built first.
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
