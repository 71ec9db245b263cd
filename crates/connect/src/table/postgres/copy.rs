//! Encoder of the binary `COPY` format, in which a text cell is its bytes without escapes.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use forebay_model::{DataType, TypedValue};

use super::keyed::EPOCH_MICROS;
use crate::table::mapping_fit::{CellForm, DamagedCell};
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
    /// Of the cells of a row.
    forms: Vec<CellForm>,
    /// Rows so far.
    pub(super) rows: u64,
    /// Cells with replaced characters.
    pub(super) replaced_cells: u64,
}

impl CopyEncoder {
    pub(super) fn new(with_position: bool, forms: Vec<CellForm>) -> Self {
        Self {
            buffer: BytesMut::from(HEADER),
            with_position,
            forms,
            rows: 0,
            replaced_cells: 0,
        }
    }

    /// Encodes the rows of a batch, until a message is full or the batch ends.
    pub(super) fn encode<'a>(
        &mut self,
        cells: &mut impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<Bytes>, DamagedCell> {
        while let Some(first) = cells.next() {
            self.begin_row();
            let rest = cells.by_ref().take(self.forms.len().saturating_sub(1));
            for (column, cell) in std::iter::once(first).chain(rest).enumerate() {
                self.cell(column, cell)?;
            }
            if self.buffer.len() >= MESSAGE {
                return Ok(Some(self.buffer.split().freeze()));
            }
        }
        Ok(None)
    }

    /// The last message.
    pub(super) fn finish(&mut self) -> Bytes {
        self.buffer.put_i16(-1);
        self.buffer.split().freeze()
    }

    fn begin_row(&mut self) {
        self.rows += 1;
        let fields = self.forms.len() + usize::from(self.with_position);
        // A mapping was checked to have at most a hundred columns.
        self.buffer
            .put_i16(i16::try_from(fields).unwrap_or(i16::MAX));
        if self.with_position {
            self.buffer.put_i32(8);
            self.buffer.put_u64(self.rows);
        }
    }

    fn cell(&mut self, column: usize, cell: &[u8]) -> Result<(), DamagedCell> {
        let text = clean(cell);
        if matches!(text, Cow::Owned(_)) {
            self.replaced_cells += 1;
        }
        let form = self.forms.get(column).copied().unwrap_or(CellForm::Text);
        let data_type = match form {
            CellForm::Text => {
                self.text(&text);
                return Ok(());
            }
            _ if text.is_empty() => {
                self.buffer.put_i32(-1);
                return Ok(());
            }
            CellForm::Canonical | CellForm::Typed(DataType::Text | DataType::Json) => {
                self.text(&text);
                return Ok(());
            }
            CellForm::Typed(data_type) => data_type,
            CellForm::Numeric => DataType::Integer,
        };
        let value = TypedValue::from_text(data_type, &text);
        match value.ok_or_else(|| DamagedCell::new(column, cell))? {
            TypedValue::Integer(n) if form == CellForm::Numeric => self.numeric(n),
            TypedValue::Integer(n) => self.eight_bytes(n.to_be_bytes()),
            TypedValue::Double(n) => self.eight_bytes(n.to_be_bytes()),
            TypedValue::Timestamp(time) => {
                self.eight_bytes((time.as_micros() - EPOCH_MICROS).to_be_bytes());
            }
            TypedValue::Boolean(b) => {
                self.buffer.put_i32(1);
                self.buffer.put_u8(u8::from(b));
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        // The server rejects cells of a gigabyte and more, so it rejects longer ones too.
        self.buffer
            .put_i32(i32::try_from(text.len()).unwrap_or(i32::MAX));
        self.buffer.put_slice(text.as_bytes());
    }

    fn eight_bytes(&mut self, bytes: [u8; 8]) {
        self.buffer.put_i32(8);
        self.buffer.put_slice(&bytes);
    }

    /// A whole number of the type `numeric`: count, weight of the first, sign and scale, then groups of
    /// four decimal digits without zeros at the ends.
    fn numeric(&mut self, number: i64) {
        let mut groups = [0_u16; 5];
        let mut rest = number.unsigned_abs();
        for group in groups.iter_mut().rev() {
            // A remainder of 10,000 fits.
            *group = u16::try_from(rest % 10_000).unwrap_or_default();
            rest /= 10_000;
        }
        let lead = groups.iter().take_while(|g| **g == 0).count();
        let tail = groups.iter().rev().take_while(|g| **g == 0).count();
        let groups = groups.get(lead..groups.len() - tail).unwrap_or_default();
        let count = u16::try_from(groups.len()).unwrap_or_default();
        let weight = 4_u16.saturating_sub(u16::try_from(lead).unwrap_or_default());
        self.buffer.put_i32(8 + 2 * i32::from(count));
        self.buffer.put_u16(count);
        self.buffer.put_u16(weight);
        self.buffer.put_u16(if number < 0 { 0x4000 } else { 0 });
        self.buffer.put_u16(0);
        groups.iter().for_each(|group| self.buffer.put_u16(*group));
    }
}
