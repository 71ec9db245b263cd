//! Encoder of the binary `COPY` format, in which a text cell is its bytes without escapes.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use crate::table::RowBatch;
use crate::table::text::clean;

/// Message size in bytes.
const MESSAGE: usize = 256 << 10;
/// Signature, flags, length of the header extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Encodes batches as messages.
#[derive(Debug)]
pub(super) struct CopyEncoder {
    buffer: BytesMut,
    /// Whether rows begin with their position in the file, as an eight-byte integer.
    with_position: bool,
    /// Rows so far.
    pub(super) rows: u64,
    /// Cells with replaced characters.
    pub(super) replaced_cells: u64,
}

impl CopyEncoder {
    pub(super) fn new(with_position: bool) -> Self {
        Self {
            buffer: BytesMut::from(HEADER),
            with_position,
            rows: 0,
            replaced_cells: 0,
        }
    }

    /// Encodes rows of a batch from cell `done` on, until a message is full or the batch ends.
    /// Returns the index of the next cell.
    pub(super) fn encode<'a>(
        &mut self,
        cells: &mut impl Iterator<Item = &'a [u8]>,
        batch: &RowBatch,
    ) -> Option<Bytes> {
        let columns = batch.columns();
        while let Some(first) = cells.next() {
            self.begin_row(columns);
            self.cell(first);
            for cell in cells.by_ref().take(columns - 1) {
                self.cell(cell);
            }
            if self.buffer.len() >= MESSAGE {
                return Some(self.buffer.split().freeze());
            }
        }
        None
    }

    /// The last message.
    pub(super) fn finish(&mut self) -> Bytes {
        self.buffer.put_i16(-1);
        self.buffer.split().freeze()
    }

    fn begin_row(&mut self, columns: usize) {
        self.rows += 1;
        let fields = columns + usize::from(self.with_position);
        // A mapping was checked to have at most a hundred columns.
        self.buffer
            .put_i16(i16::try_from(fields).unwrap_or(i16::MAX));
        if self.with_position {
            self.buffer.put_i32(8);
            self.buffer.put_u64(self.rows);
        }
    }

    fn cell(&mut self, cell: &[u8]) {
        let text = clean(cell);
        if matches!(text, Cow::Owned(_)) {
            self.replaced_cells += 1;
        }
        // The server rejects cells of a gigabyte and more, so it rejects longer ones too.
        self.buffer
            .put_i32(i32::try_from(text.len()).unwrap_or(i32::MAX));
        self.buffer.put_slice(text.as_bytes());
    }
}
