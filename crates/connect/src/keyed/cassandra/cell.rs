//! Conversion of values to and from CQL.
//!
//! A table that was created elsewhere may have narrower numbers (`int`, `float`): a value is
//! written in the column's type, and rejected with value and type in the error if it doesn't fit.

use forebay_model::TimestampMicros;
use forebay_model::micros::format_millis;
use scylla::cluster::metadata::{ColumnType, NativeType};
use scylla::serialize::SerializationError;
use scylla::serialize::value::SerializeValue;
use scylla::serialize::writers::{CellWriter, WrittenCellProof};
use scylla::value::{CqlTimestamp, CqlValue};

use super::literal;
use crate::keyed::value::widened;
use crate::keyed::{CellValue, DataType, ValueRef};

/// A value to write to a column.
#[derive(Debug)]
pub(super) struct CqlCell<'a> {
    value: ValueRef<'a>,
    is_key: bool,
}

impl<'a> CqlCell<'a> {
    pub(super) fn new(value: ValueRef<'a>, is_key: bool) -> Self {
        Self { value, is_key }
    }
}

/// A value that the column can't hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value} does not fit a column of type {column}")]
struct TypeMismatch {
    value: String,
    column: String,
}

/// A key that would lose precision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} can't be a key: a column of type timestamp stores milliseconds")]
struct SubMillisecondKey(TimestampMicros);

impl SerializeValue for CqlCell<'_> {
    fn serialize<'b>(
        &self,
        typ: &ColumnType<'_>,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        let mismatch = || {
            SerializationError::new(TypeMismatch {
                value: self.value.to_string().chars().take(40).collect(),
                column: name(typ),
            })
        };
        match (self.value, typ) {
            (ValueRef::Null, _) => Ok(writer.set_null()),
            (
                ValueRef::Text(text) | ValueRef::Json(text),
                ColumnType::Native(NativeType::Ascii),
            ) if !text.is_ascii() => Err(mismatch()),
            (
                ValueRef::Text(text) | ValueRef::Json(text),
                ColumnType::Native(NativeType::Ascii | NativeType::Text),
            ) => text.serialize(typ, writer),
            // A key of a foreign type, as text from a lookup.
            (ValueRef::Text(text) | ValueRef::Json(text), _) => {
                let value = literal::parse(text, typ).ok_or_else(mismatch)?;
                value.serialize(typ, writer)
            }
            (ValueRef::Integer(n), ColumnType::Native(NativeType::Int)) => {
                let n = i32::try_from(n).map_err(|_| mismatch())?;
                n.serialize(typ, writer)
            }
            (ValueRef::Integer(n), ColumnType::Native(NativeType::SmallInt)) => {
                let n = i16::try_from(n).map_err(|_| mismatch())?;
                n.serialize(typ, writer)
            }
            (ValueRef::Integer(n), ColumnType::Native(NativeType::TinyInt)) => {
                let n = i8::try_from(n).map_err(|_| mismatch())?;
                n.serialize(typ, writer)
            }
            (ValueRef::Integer(n), _) => n.serialize(typ, writer),
            (ValueRef::Double(n), ColumnType::Native(NativeType::Float)) => {
                let narrow = narrowed(n).ok_or_else(mismatch)?;
                narrow.serialize(typ, writer)
            }
            (ValueRef::Double(n), _) => n.serialize(typ, writer),
            (ValueRef::Boolean(b), _) => b.serialize(typ, writer),
            // Two keys must not become one; other columns lose the excess precision.
            (ValueRef::Timestamp(t), _) if self.is_key && t.as_micros() % 1000 != 0 => {
                Err(SerializationError::new(SubMillisecondKey(t)))
            }
            (ValueRef::Timestamp(t), _) => {
                CqlTimestamp(t.as_micros().div_euclid(1000)).serialize(typ, writer)
            }
        }
    }
}

/// The nearest 32-bit number; `None` on overflow.
fn narrowed(number: f64) -> Option<f32> {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "rounding is intended; a number that is too large becomes infinite and is rejected"
    )]
    let narrow = number as f32;
    narrow.is_finite().then_some(narrow)
}

/// Name of a type in `CREATE TABLE`.
fn name(typ: &ColumnType<'_>) -> String {
    match typ {
        ColumnType::Native(native) => format!("{native:?}").to_ascii_lowercase(),
        other => format!("{other:?}"),
    }
}

pub(super) fn from_cql(value: Option<CqlValue>, kind: DataType) -> CellValue {
    match value {
        None => CellValue::Null,
        Some(CqlValue::Text(text) | CqlValue::Ascii(text)) if kind == DataType::Json => {
            CellValue::Json(text)
        }
        Some(CqlValue::Text(text) | CqlValue::Ascii(text)) => CellValue::Text(text),
        Some(CqlValue::BigInt(n)) => CellValue::Integer(n),
        Some(CqlValue::Int(n)) => CellValue::Integer(n.into()),
        Some(CqlValue::SmallInt(n)) => CellValue::Integer(n.into()),
        Some(CqlValue::TinyInt(n)) => CellValue::Integer(n.into()),
        Some(CqlValue::Double(n)) => CellValue::Double(n),
        Some(CqlValue::Float(n)) => CellValue::Double(widened(n)),
        Some(CqlValue::Boolean(b)) => CellValue::Boolean(b),
        Some(CqlValue::Timestamp(t)) => {
            let micros = t.0.checked_mul(1000);
            let time = micros.and_then(TimestampMicros::from_micros);
            time.map_or_else(|| CellValue::Text(format_millis(t.0)), CellValue::Timestamp)
        }
        Some(other) => CellValue::Text(literal::text(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_32_bits_are_rounded_or_rejected() {
        assert_eq!(narrowed(0.5), Some(0.5));
        assert_eq!(narrowed(0.1), Some(0.1));
        assert_eq!(narrowed(1e300), None);
        assert_eq!(narrowed(-1e300), None);
    }
}
