//! Types of columns, and the conversion of values to them.

use std::fmt::{self, Write as _};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decimal::scale_number;
use crate::micros::{EpochUnit, InvalidTime, TimestampMicros};

/// Type of a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// Text. Numbers and booleans are stored as written.
    #[default]
    Text,
    /// A 64-bit integer in any notation: `7`, `7.0`, `1e3`.
    Integer,
    /// A finite 64-bit floating point number.
    Double,
    /// True or false.
    Boolean,
    /// `2006-01-02T15:04:05.000000Z`, or a number of seconds, milliseconds, microseconds or nanoseconds
    /// since 1970. In the years 0001 to 9999; stored to the microsecond (Cassandra: millisecond).
    Timestamp,
    /// Any JSON value.
    Json,
}

impl DataType {
    /// All types.
    pub const ALL: [Self; 6] = [
        Self::Text,
        Self::Integer,
        Self::Double,
        Self::Boolean,
        Self::Timestamp,
        Self::Json,
    ];

    /// Name in definitions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::Timestamp => "timestamp",
            Self::Json => "json",
        }
    }

    /// With the article of a sentence: `an integer`.
    pub fn with_article(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "an integer",
            Self::Double => "a double",
            Self::Boolean => "a boolean",
            Self::Timestamp => "a timestamp",
            Self::Json => "JSON",
        }
    }

    /// Whether it is the default.
    pub fn is_text(&self) -> bool {
        *self == Self::Text
    }

    /// Whether a key may have it: equal values have to be equal in every table.
    pub fn fits_key(self) -> bool {
        !matches!(self, Self::Double | Self::Json)
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A JSON value that is neither null nor a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum JsonScalar<'a> {
    /// `true` or `false`.
    Boolean(bool),
    /// A number as written.
    Number(&'a str),
    /// A string, without its quotes and escapes.
    Text(&'a str),
}

/// A value of a type other than text and JSON.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TypedValue {
    /// 64-bit integer.
    Integer(i64),
    /// Finite; never `-0`.
    Double(f64),
    /// True or false.
    Boolean(bool),
    /// A time to the microsecond.
    Timestamp(TimestampMicros),
}

/// A value that is not of the column's type. The text says what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// No value of a key.
    #[error("a value, since the column is part of the primary key")]
    NullKey,
    /// No integer.
    #[error("a whole number from {} to {}, also as a string", i64::MIN, i64::MAX)]
    Integer,
    /// No double.
    #[error("a number up to {:e}, also as a string", f64::MAX)]
    Double,
    /// No boolean.
    #[error("true or false, also as a string")]
    Boolean,
    /// No time; the unit is that of the column.
    #[error("{}", time_rule(.0, .1))]
    Timestamp(InvalidTime, Option<EpochUnit>),
    /// A key that would lose digits.
    #[error("a time to the microsecond, since the column is part of the primary key")]
    KeyPrecision,
    /// No JSON.
    #[error("JSON, where a string has double quotes")]
    Json,
}

fn time_rule(error: &InvalidTime, unit: &Option<EpochUnit>) -> String {
    match unit {
        Some(unit) => format!("{error} (a number is in the unit {})", unit.name()),
        None => error.to_string(),
    }
}

/// Conversion of values to cells of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellConversion {
    /// Type of the column.
    pub data_type: DataType,
    /// Unit of times that are numbers; by default derived from their magnitude.
    pub unit: Option<EpochUnit>,
    /// Whether the column is part of the primary key.
    pub is_key: bool,
}

impl CellConversion {
    /// Converts a scalar to the cell's canonical text, which is the given text where possible.
    ///
    /// # Errors
    /// The value is not of the type. Any value is an error for text and JSON, whose cells are not made
    /// of scalars.
    pub fn convert<'a>(
        &self,
        value: JsonScalar<'a>,
        scratch: &'a mut CellText,
    ) -> Result<&'a str, InvalidValue> {
        if let JsonScalar::Number(text) | JsonScalar::Text(text) = value {
            let is_canonical = match self.data_type {
                DataType::Integer => is_plain_integer(text),
                DataType::Double => is_plain_decimal(text),
                _ => false,
            };
            if is_canonical {
                return Ok(text);
            }
        }
        *scratch = self.parse(value)?.to_text();
        Ok(scratch.as_str())
    }

    /// Parses a scalar.
    ///
    /// # Errors
    /// As [`Self::convert`].
    pub fn parse(&self, value: JsonScalar<'_>) -> Result<TypedValue, InvalidValue> {
        match self.data_type {
            DataType::Integer => match value {
                JsonScalar::Number(text) | JsonScalar::Text(text) => parse_integer(text),
                JsonScalar::Boolean(_) => None,
            }
            .map(TypedValue::Integer)
            .ok_or(InvalidValue::Integer),
            DataType::Double => match value {
                JsonScalar::Number(text) | JsonScalar::Text(text) => parse_double(text),
                JsonScalar::Boolean(_) => None,
            }
            .map(TypedValue::Double)
            .ok_or(InvalidValue::Double),
            DataType::Boolean => match value {
                JsonScalar::Boolean(b) => Ok(TypedValue::Boolean(b)),
                JsonScalar::Text("true") => Ok(TypedValue::Boolean(true)),
                JsonScalar::Text("false") => Ok(TypedValue::Boolean(false)),
                _ => Err(InvalidValue::Boolean),
            },
            DataType::Timestamp => self.parse_time(value),
            DataType::Text | DataType::Json => Err(InvalidValue::Json),
        }
    }

    fn parse_time(&self, value: JsonScalar<'_>) -> Result<TypedValue, InvalidValue> {
        let invalid = |e| InvalidValue::Timestamp(e, self.unit);
        let read = match value {
            JsonScalar::Number(text) => TimestampMicros::parse_number(text, self.unit),
            // A number in a string is a time only where that was declared.
            JsonScalar::Text(text) if self.unit.is_some() && scale_number(text, 0).is_some() => {
                TimestampMicros::parse_number(text, self.unit)
            }
            JsonScalar::Text(text) => TimestampMicros::parse(text),
            JsonScalar::Boolean(_) => Err(InvalidTime::Form),
        };
        let read = read.map_err(invalid)?;
        if read.is_cut && self.is_key {
            return Err(InvalidValue::KeyPrecision);
        }
        Ok(TypedValue::Timestamp(read.time))
    }

    /// Checks a constant, as [`Self::constant`] converts it.
    ///
    /// # Errors
    /// The text is not of the type.
    pub fn check_constant(&self, text: &str) -> Result<(), InvalidValue> {
        if self.data_type == DataType::Text {
            return Ok(());
        }
        if text.is_empty() {
            return self.null();
        }
        if self.data_type == DataType::Json {
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
            return is_json.then_some(()).ok_or(InvalidValue::Json);
        }
        self.parse(JsonScalar::Text(text)).map(drop)
    }

    /// Converts a constant of a column that is neither text nor JSON; an empty text is null.
    ///
    /// # Errors
    /// The text is not of the type.
    pub fn constant(&self, text: &str) -> Result<String, InvalidValue> {
        if text.is_empty() {
            self.null()?;
            return Ok(String::new());
        }
        let value = self.parse(JsonScalar::Text(text))?;
        Ok(value.to_text().as_str().to_owned())
    }

    /// Error of a value that is never of the type, such as a list.
    pub fn rule(&self) -> InvalidValue {
        match self.data_type {
            DataType::Integer => InvalidValue::Integer,
            DataType::Double => InvalidValue::Double,
            DataType::Boolean => InvalidValue::Boolean,
            DataType::Timestamp => InvalidValue::Timestamp(InvalidTime::Form, self.unit),
            DataType::Text | DataType::Json => InvalidValue::Json,
        }
    }

    /// Checks that a cell may be null.
    ///
    /// # Errors
    /// The column is part of the primary key.
    pub fn null(&self) -> Result<(), InvalidValue> {
        if self.is_key {
            Err(InvalidValue::NullKey)
        } else {
            Ok(())
        }
    }
}

/// A whole number in any notation.
fn parse_integer(text: &str) -> Option<i64> {
    let scaled = scale_number(text, 0).filter(|s| s.is_exact)?;
    i64::try_from(scaled.whole).ok()
}

/// A finite number. The standard library also parses `inf`, `nan`, `+1`, `.5` and `5.`.
fn parse_double(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let mantissa = digits.split(['e', 'E']).next()?;
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit())
        && mantissa.ends_with(|c: char| c.is_ascii_digit());
    let number: f64 = if is_number {
        text.parse().ok()?
    } else {
        return None;
    };
    // The tables and their clients don't agree on the sign of zero.
    number
        .is_finite()
        .then_some(if number == 0.0 { 0.0 } else { number })
}

/// Whether a text is an integer as Forebay writes it, and certainly in range.
fn is_plain_integer(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    match digits {
        [b'0'] => digits.len() == bytes.len(),
        [b'1'..=b'9', rest @ ..] => rest.len() < 18 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Digits of a decimal that a double always restores.
const EXACT_DIGITS: usize = 15;

/// Whether a text is a double as Forebay writes it: of two decimals with at most 15 digits that are
/// not equal, the doubles differ too, so none is shorter.
fn is_plain_decimal(text: &str) -> bool {
    let bytes = text.as_bytes();
    let number = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let whole = number.iter().take_while(|b| b.is_ascii_digit()).count();
    let has_lead = match number.first() {
        Some(b'0') => whole == 1,
        Some(b'1'..=b'9') => true,
        _ => false,
    };
    let Some((first, fraction)) = number.get(whole..).and_then(<[u8]>::split_first) else {
        let is_negative_zero = number == b"0" && bytes.len() > 1;
        return has_lead && whole <= EXACT_DIGITS && !is_negative_zero;
    };
    has_lead
        && *first == b'.'
        && whole + fraction.len() <= EXACT_DIGITS
        && fraction.last().is_some_and(|b| *b != b'0')
        && fraction.iter().all(u8::is_ascii_digit)
}

impl TypedValue {
    /// Canonical text of the cell; never empty, as an empty cell is null.
    pub fn to_text(self) -> CellText {
        let mut out = CellText::default();
        // A buffer that is too small would cut the text; the tests have the longest ones.
        let written = match self {
            Self::Integer(n) => write!(out, "{n}"),
            Self::Double(n) if n == 0.0 || (1e-15..1e17).contains(&n.abs()) => write!(out, "{n}"),
            Self::Double(n) => write!(out, "{n:e}"),
            Self::Boolean(b) => out.write_str(if b { "true" } else { "false" }),
            Self::Timestamp(time) => out.write_str(time.text().as_str()),
        };
        debug_assert!(written.is_ok(), "{self:?}");
        out
    }

    /// Parses the canonical text of a cell; `None` for another text, and for text and JSON.
    pub fn from_text(data_type: DataType, text: &str) -> Option<Self> {
        match data_type {
            DataType::Integer => text.parse().ok().map(Self::Integer),
            DataType::Double => parse_double(text).map(Self::Double),
            DataType::Boolean => match text {
                "true" => Some(Self::Boolean(true)),
                "false" => Some(Self::Boolean(false)),
                _ => None,
            },
            DataType::Timestamp => {
                let read = TimestampMicros::parse(text).ok()?;
                (!read.is_cut).then_some(Self::Timestamp(read.time))
            }
            DataType::Text | DataType::Json => None,
        }
    }
}

/// Bytes of the longest canonical text: a double between 1e-15 and 1.
const CELL_TEXT_MAX: usize = 40;

/// Canonical text of a typed cell.
#[derive(Clone, Copy, Debug)]
pub struct CellText {
    bytes: [u8; CELL_TEXT_MAX],
    len: usize,
}

impl Default for CellText {
    fn default() -> Self {
        Self {
            bytes: [0; CELL_TEXT_MAX],
            len: 0,
        }
    }
}

impl CellText {
    /// The text.
    pub fn as_str(&self) -> &str {
        let text = self.bytes.get(..self.len).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }
}

impl fmt::Write for CellText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        let space = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        space.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
