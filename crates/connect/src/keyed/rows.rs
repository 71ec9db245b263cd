//! Rows in shared buffers: a row in a batch needs no allocation.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use forebay_model::{TimestampMicros, TypedValue};

use crate::keyed::{CellValue, KeyedRow};

/// A borrowed cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    /// Null; not in a key.
    Null,
    /// Without NUL, which the supported stores reject.
    Text(&'a str),
    Integer(i64),
    /// Finite.
    Double(f64),
    Boolean(bool),
    Timestamp(TimestampMicros),
    /// JSON text.
    Json(&'a str),
}

impl From<TypedValue> for ValueRef<'_> {
    fn from(value: TypedValue) -> Self {
        match value {
            TypedValue::Integer(n) => Self::Integer(n),
            TypedValue::Double(n) => Self::Double(n),
            TypedValue::Boolean(b) => Self::Boolean(b),
            TypedValue::Timestamp(t) => Self::Timestamp(t),
        }
    }
}

impl ValueRef<'_> {
    /// Appends an injective encoding of the value, for hashing.
    pub fn write_canonical(self, out: &mut Vec<u8>) {
        let mut text = |tag: u8, text: &str| {
            out.push(tag);
            out.extend_from_slice(&(text.len() as u64).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        };
        match self {
            Self::Null => out.push(0),
            Self::Text(t) => text(1, t),
            Self::Json(t) => text(2, t),
            Self::Integer(n) => {
                out.push(3);
                out.extend_from_slice(&n.to_le_bytes());
            }
            Self::Double(n) => {
                out.push(4);
                out.extend_from_slice(&n.to_bits().to_le_bytes());
            }
            Self::Boolean(b) => out.extend_from_slice(&[5, u8::from(b)]),
            Self::Timestamp(t) => {
                out.push(6);
                out.extend_from_slice(&t.as_micros().to_le_bytes());
            }
        }
    }
}

impl fmt::Display for ValueRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Text(text) | Self::Json(text) => f.write_str(text),
            Self::Integer(n) => write!(f, "{n}"),
            Self::Double(n) => write!(f, "{n}"),
            Self::Boolean(b) => write!(f, "{b}"),
            Self::Timestamp(t) => write!(f, "{t}"),
        }
    }
}

impl CellValue {
    /// The borrowed cell.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Text(t) => ValueRef::Text(t),
            Self::Integer(n) => ValueRef::Integer(*n),
            Self::Double(n) => ValueRef::Double(*n),
            Self::Boolean(b) => ValueRef::Boolean(*b),
            Self::Timestamp(t) => ValueRef::Timestamp(*t),
            Self::Json(t) => ValueRef::Json(t),
        }
    }
}

/// A cell; texts are ranges of the shared buffer.
#[derive(Clone, Copy, Debug)]
enum BufferedCell {
    Null,
    Text(usize, usize),
    Integer(i64),
    Double(f64),
    Boolean(bool),
    Timestamp(TimestampMicros),
    Json(usize, usize),
}

/// Rows with the same columns.
#[derive(Clone, Debug, Default)]
pub struct RowBuffer {
    /// Cells per row.
    width: usize,
    /// Cells of all rows; rows are always complete.
    cells: Vec<BufferedCell>,
    texts: String,
}

impl RowBuffer {
    /// An empty buffer for rows of `width` cells.
    pub fn new(width: usize) -> Self {
        Self {
            width,
            cells: Vec::new(),
            texts: String::new(),
        }
    }

    /// Reserves space for rows, with `texts` bytes of text in total.
    pub fn reserve(&mut self, rows: usize, texts: usize) {
        self.cells.reserve(rows.saturating_mul(self.width));
        self.texts.reserve(texts);
    }

    pub fn len(&self) -> usize {
        self.cells.len() / self.width.max(1)
    }

    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Adds a row whose cells `write` pushes in column order. If it fails, nothing is added.
    ///
    /// # Panics
    /// When the number of cells differs from the number of columns: all later rows would be
    /// shifted.
    pub fn add<E>(
        &mut self,
        write: impl FnOnce(&mut RowWriter<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (cells, texts) = (self.cells.len(), self.texts.len());
        let written = write(&mut RowWriter { rows: self });
        if written.is_err() {
            self.cells.truncate(cells);
            self.texts.truncate(texts);
        }
        let whole = cells + if written.is_ok() { self.width } else { 0 };
        assert_eq!(self.cells.len(), whole, "a row has a cell per column");
        written
    }

    pub fn get(&self, index: usize) -> Option<RowRef<'_>> {
        let from = index.checked_mul(self.width)?;
        let cells = self.cells.get(from..from.checked_add(self.width)?)?;
        let texts = &self.texts;
        Some(RowRef { cells, texts })
    }
}

/// Adds cells to a row.
#[derive(Debug)]
pub struct RowWriter<'a> {
    rows: &'a mut RowBuffer,
}

impl RowWriter<'_> {
    pub fn push(&mut self, value: ValueRef<'_>) {
        let cell = match value {
            ValueRef::Null => BufferedCell::Null,
            ValueRef::Text(text) => return self.text(|out| out.push_str(text)),
            ValueRef::Json(text) => return self.json(|out| out.push_str(text)),
            ValueRef::Integer(n) => BufferedCell::Integer(n),
            ValueRef::Double(n) => BufferedCell::Double(n),
            ValueRef::Boolean(b) => BufferedCell::Boolean(b),
            ValueRef::Timestamp(t) => BufferedCell::Timestamp(t),
        };
        self.rows.cells.push(cell);
    }

    /// Adds a text that `write` appends.
    pub fn text(&mut self, write: impl FnOnce(&mut String)) {
        let (from, to) = self.append(write);
        self.rows.cells.push(BufferedCell::Text(from, to));
    }

    /// Adds JSON that `write` appends.
    pub fn json(&mut self, write: impl FnOnce(&mut String)) {
        let (from, to) = self.append(write);
        self.rows.cells.push(BufferedCell::Json(from, to));
    }

    fn append(&mut self, write: impl FnOnce(&mut String)) -> (usize, usize) {
        let from = self.rows.texts.len();
        write(&mut self.rows.texts);
        (from, self.rows.texts.len())
    }
}

/// A row of a [`RowBuffer`].
#[derive(Clone, Copy, Debug)]
pub struct RowRef<'a> {
    cells: &'a [BufferedCell],
    texts: &'a str,
}

impl<'a> RowRef<'a> {
    /// The cell of a column; null if there is none.
    pub fn get(self, column: usize) -> ValueRef<'a> {
        let text = |from, to| self.texts.get(from..to).unwrap_or_default();
        match self.cells.get(column).copied() {
            None | Some(BufferedCell::Null) => ValueRef::Null,
            Some(BufferedCell::Text(from, to)) => ValueRef::Text(text(from, to)),
            Some(BufferedCell::Json(from, to)) => ValueRef::Json(text(from, to)),
            Some(BufferedCell::Integer(n)) => ValueRef::Integer(n),
            Some(BufferedCell::Double(n)) => ValueRef::Double(n),
            Some(BufferedCell::Boolean(b)) => ValueRef::Boolean(b),
            Some(BufferedCell::Timestamp(t)) => ValueRef::Timestamp(t),
        }
    }

    pub fn cells(self) -> impl ExactSizeIterator<Item = ValueRef<'a>> {
        (0..self.cells.len()).map(move |column| self.get(column))
    }
}

/// A selection of rows from several buffers in any order, written together. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct KeyedBatch {
    parts: Arc<[Arc<RowBuffer>]>,
    /// Buffer and row index of each row.
    positions: Arc<[(usize, usize)]>,
}

impl KeyedBatch {
    /// Rows by buffer and row index; indices without a row are skipped.
    pub fn new(
        parts: impl Into<Arc<[Arc<RowBuffer>]>>,
        positions: impl IntoIterator<Item = (usize, usize)>,
    ) -> Self {
        let parts = parts.into();
        let is_there = |(part, index): &(usize, usize)| {
            parts.get(*part).is_some_and(|rows| *index < rows.len())
        };
        let positions = positions.into_iter().filter(is_there).collect();
        Self { parts, positions }
    }

    pub fn len(&self) -> usize {
        self.positions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = RowRef<'_>> {
        let row = |(part, index): &(usize, usize)| self.parts.get(*part)?.get(*index);
        self.positions.iter().filter_map(row)
    }

    /// The rows at these indices of this batch, in that order.
    pub fn select(&self, indices: impl IntoIterator<Item = usize>) -> Self {
        let chosen = indices.into_iter().filter_map(|p| self.positions.get(p));
        Self {
            parts: Arc::clone(&self.parts),
            positions: chosen.copied().collect(),
        }
    }
}

impl<R: AsRef<[KeyedRow]>> From<R> for KeyedBatch {
    /// Rows with the same columns.
    fn from(rows: R) -> Self {
        let rows = rows.as_ref();
        let width = rows.first().map_or(0, |row| row.0.len());
        let mut all = RowBuffer::new(width);
        for row in rows {
            let Ok(()) = all.add(|out| {
                row.0.iter().for_each(|value| out.push(value.as_ref()));
                Ok::<(), Infallible>(())
            });
        }
        let count = all.len();
        Self::new([Arc::new(all)], (0..count).map(|index| (0, index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_row_is_not_added() {
        let mut rows = RowBuffer::new(2);
        let add = |rows: &mut RowBuffer, name: &str, is_bad: bool| {
            rows.add(|out| {
                out.push(ValueRef::Text(name));
                if is_bad {
                    return Err("bad");
                }
                out.push(ValueRef::Integer(1));
                Ok(())
            })
        };
        assert_eq!(add(&mut rows, "a", false), Ok(()));
        assert_eq!(add(&mut rows, "bad", true), Err("bad"));
        assert_eq!(add(&mut rows, "c", false), Ok(()));
        assert_eq!((rows.len(), rows.texts.as_str()), (2, "ac"));
        let cells: Vec<_> = rows.get(1).unwrap().cells().collect();
        assert_eq!(cells, [ValueRef::Text("c"), ValueRef::Integer(1)]);
        assert!(rows.get(2).is_none());
    }

    #[test]
    fn a_batch_keeps_its_order() {
        let row = |n| KeyedRow(vec![CellValue::Integer(n)]);
        let batch = KeyedBatch::from([row(0), row(1), row(2)]);
        let numbers = |batch: &KeyedBatch| -> Vec<ValueRef<'static>> {
            let number = |row: RowRef<'_>| match row.get(0) {
                ValueRef::Integer(n) => ValueRef::Integer(n),
                _ => ValueRef::Null,
            };
            batch.iter().map(number).collect()
        };
        let chosen = batch.select([2, 0, 9]);
        assert_eq!(
            numbers(&chosen),
            [ValueRef::Integer(2), ValueRef::Integer(0)]
        );
        assert_eq!(numbers(&chosen.select([1])), [ValueRef::Integer(0)]);
        assert!(batch.select([]).is_empty());
    }
}
