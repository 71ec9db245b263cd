//! Rows to import: batches of cells as bytes.

use futures::stream::BoxStream;

/// The rows of an import. The producer limits the size of batches (about a megabyte): a backend
/// holds only a few of them at a time.
pub type RowStream<'a> = BoxStream<'a, Result<RowBatch, RowError>>;

/// Error of reading rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RowError {
    /// Whether reading them again may succeed.
    pub retryable: bool,
    /// Names the object and the cause.
    pub message: String,
}

/// A batch of rows: the bytes of all cells, and the end of each cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowBatch {
    data: Vec<u8>,
    ends: Vec<usize>,
    columns: usize,
}

impl RowBatch {
    /// An empty batch for rows of `columns` cells.
    pub fn new(columns: usize) -> Self {
        Self {
            data: Vec::new(),
            ends: Vec::new(),
            columns,
        }
    }

    /// Adds the next cell; the last cell of a row completes it.
    pub(crate) fn push_cell(&mut self, cell: &[u8]) {
        self.data.extend_from_slice(cell);
        self.ends.push(self.data.len());
    }

    pub fn push_row<C: AsRef<[u8]>>(&mut self, cells: impl IntoIterator<Item = C>) {
        for cell in cells {
            self.push_cell(cell.as_ref());
        }
    }

    /// Cells per row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of complete rows.
    pub fn len(&self) -> usize {
        self.ends.len().checked_div(self.columns).unwrap_or(0)
    }

    /// Whether there is no complete row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Approximate memory use, to decide when a batch is full.
    pub fn bytes(&self) -> usize {
        self.data.len() + self.ends.len() * size_of::<usize>()
    }

    /// Whether the last row lacks cells. A backend rejects such a batch: its rows would be shifted.
    pub fn has_partial_row(&self) -> bool {
        self.columns == 0 || !self.ends.len().is_multiple_of(self.columns)
    }

    /// All cells, row by row.
    pub fn cells(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            // Ends are ascending and the last one is the length of the data, so this is never out
            // of range.
            let cell = self.data.get(start..end).unwrap_or_default();
            start = end;
            cell
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_returned_unchanged() {
        let mut batch = RowBatch::new(3);
        batch.push_row(["a", "", "ccc"]);
        batch.push_row([b"\xff\0".as_slice(), b"", b""]);
        assert_eq!((batch.len(), batch.is_empty()), (2, false));
        assert!(!batch.has_partial_row());
        let cells: Vec<&[u8]> = batch.cells().collect();
        let expected: [&[u8]; 6] = [b"a", b"", b"ccc", b"\xff\0", b"", b""];
        assert_eq!(cells, expected);
    }

    #[test]
    fn a_partial_row_is_detected() {
        let mut batch = RowBatch::new(2);
        batch.push_cell(b"a");
        assert_eq!((batch.len(), batch.has_partial_row()), (0, true));
        assert!(RowBatch::new(0).has_partial_row());
        assert_eq!(RowBatch::new(0).len(), 0);
    }
}
