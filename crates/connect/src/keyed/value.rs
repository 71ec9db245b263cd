//! Typed values that every store supports.

use std::fmt;

use forebay_model::{DataType, InvalidTime, TimestampMicros};

#[derive(Clone, Debug, PartialEq)]
pub enum CellValue {
    /// Null; not in a key.
    Null,
    /// Without NUL, which the supported stores reject.
    Text(String),
    Integer(i64),
    /// Finite when written by Forebay; a table may have others.
    Double(f64),
    Boolean(bool),
    Timestamp(TimestampMicros),
    /// JSON text.
    Json(String),
}

impl CellValue {
    /// Parses plain text as in a URL; the error states the expected format.
    pub fn parse(data_type: DataType, text: &str) -> Result<Self, String> {
        let bad = |what: &str| format!("\"{text}\" is not {what}");
        match data_type {
            DataType::Text => Ok(Self::Text(text.to_owned())),
            DataType::Integer => text
                .parse()
                .map(Self::Integer)
                .map_err(|_| bad("a whole number of 64 bits")),
            DataType::Double => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Self::Double(number)),
                _ => Err(bad("a number")),
            },
            DataType::Boolean => match text {
                "true" => Ok(Self::Boolean(true)),
                "false" => Ok(Self::Boolean(false)),
                _ => Err(bad("true or false")),
            },
            DataType::Timestamp => match TimestampMicros::parse(text) {
                Ok(read) if read.is_cut => Err(bad("a time to the microsecond")),
                Ok(read) => Ok(Self::Timestamp(read.time)),
                Err(InvalidTime::Year) => Err(bad(&InvalidTime::Year.to_string())),
                Err(_) => Err(bad("a time with its offset like 2006-01-02T15:04:05Z")),
            },
            DataType::Json => Err("a JSON column can't be a key".to_owned()),
        }
    }
}

impl fmt::Display for CellValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

/// The 64-bit number with the same shortest decimal text: 0.1 stays 0.1.
#[cfg(any(feature = "postgres", feature = "cassandra"))]
pub(crate) fn widened(number: f32) -> f64 {
    let shortest = number.to_string().parse();
    shortest.unwrap_or_else(|_| f64::from(number))
}

/// A row: a value per column of the schema, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyedRow(pub Vec<CellValue>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_parsed_by_type_or_rejected_by_name() {
        assert_eq!(
            CellValue::parse(DataType::Integer, "-7"),
            Ok(CellValue::Integer(-7))
        );
        assert_eq!(
            CellValue::parse(DataType::Boolean, "true"),
            Ok(CellValue::Boolean(true))
        );
        assert_eq!(
            CellValue::parse(DataType::Text, "x y"),
            Ok(CellValue::Text("x y".to_owned()))
        );
        for (kind, text) in [
            (DataType::Integer, "4.2"),
            (DataType::Integer, "99999999999999999999"),
            (DataType::Double, "NaN"),
            (DataType::Boolean, "1"),
            (DataType::Timestamp, "yesterday"),
            (DataType::Timestamp, "+010000-01-01T00:00:00Z"),
            (DataType::Timestamp, "2026-01-01T00:00:00.1234567Z"),
        ] {
            let error = CellValue::parse(kind, text).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn canonical_bytes_are_unambiguous() {
        let bytes = |values: &[CellValue]| {
            let mut out = Vec::new();
            let cells = values.iter().map(CellValue::as_ref);
            cells.for_each(|v| v.write_canonical(&mut out));
            out
        };
        let text = |t: &str| CellValue::Text(t.to_owned());
        assert_ne!(
            bytes(&[text("ab"), text("c")]),
            bytes(&[text("a"), text("bc")])
        );
        assert_ne!(
            bytes(&[text("1")]),
            bytes(&[CellValue::Json("1".to_owned())])
        );
        assert_ne!(
            bytes(&[CellValue::Null]),
            bytes(&[CellValue::Boolean(false)])
        );
    }
}
