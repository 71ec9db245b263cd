//! Comparisons in filters (RFC 9535, 2.3.5.2.2). Numbers compare by their exact decimal value, not
//! as floats.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;

use super::query::ComparisonOperator;
use super::step_counter::{StepCounter, TooCostly};
use crate::json::{JsonDocument, JsonKind, JsonNodeId, unescape};

#[derive(Clone, Debug)]
pub(super) enum ComparableValue<'a> {
    /// No value.
    Nothing,
    Null,
    Bool(bool),
    /// The text.
    Number(Cow<'a, [u8]>),
    /// The text without escapes.
    Text(Cow<'a, [u8]>),
    /// An array or an object.
    Container(JsonNodeId),
}

impl<'a> ComparableValue<'a> {
    pub(super) fn from_node(document: &'a JsonDocument, node: JsonNodeId) -> Self {
        match document.kind(node) {
            JsonKind::Null => Self::Null,
            JsonKind::Bool => Self::Bool(document.text(node) == b"true"),
            JsonKind::Number => Self::Number(Cow::Borrowed(document.text(node))),
            JsonKind::String => Self::Text(plain(document, node)),
            JsonKind::Array | JsonKind::Object => Self::Container(node),
        }
    }
}

fn plain(document: &JsonDocument, string: JsonNodeId) -> Cow<'_, [u8]> {
    match document.string(string) {
        (text, false) => Cow::Borrowed(text),
        (text, true) => {
            let mut plain = Vec::with_capacity(text.len());
            unescape(text, |part| plain.extend_from_slice(part));
            Cow::Owned(plain)
        }
    }
}

pub(super) fn holds(
    document: &JsonDocument,
    left: &ComparableValue<'_>,
    comparison: ComparisonOperator,
    right: &ComparableValue<'_>,
    steps: &mut StepCounter,
) -> Result<bool, TooCostly> {
    let mut equal = || equal(document, left, right, steps);
    Ok(match comparison {
        ComparisonOperator::Equal => equal()?,
        ComparisonOperator::NotEqual => !equal()?,
        ComparisonOperator::Less => order(left, right) == Some(Ordering::Less),
        ComparisonOperator::Greater => order(left, right) == Some(Ordering::Greater),
        ComparisonOperator::LessOrEqual => order(left, right) == Some(Ordering::Less) || equal()?,
        ComparisonOperator::GreaterOrEqual => {
            order(left, right) == Some(Ordering::Greater) || equal()?
        }
    })
}

/// The order of two numbers or two texts; `None` for other values.
fn order(left: &ComparableValue<'_>, right: &ComparableValue<'_>) -> Option<Ordering> {
    match (left, right) {
        (ComparableValue::Number(a), ComparableValue::Number(b)) => {
            Some(DecimalNumber::from_text(a).cmp(&DecimalNumber::from_text(b)))
        }
        // The byte order of UTF-8 is the order of the characters.
        (ComparableValue::Text(a), ComparableValue::Text(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn equal(
    document: &JsonDocument,
    left: &ComparableValue<'_>,
    right: &ComparableValue<'_>,
    steps: &mut StepCounter,
) -> Result<bool, TooCostly> {
    steps.take(1)?;
    Ok(match (left, right) {
        (ComparableValue::Nothing, ComparableValue::Nothing)
        | (ComparableValue::Null, ComparableValue::Null) => true,
        (ComparableValue::Bool(a), ComparableValue::Bool(b)) => a == b,
        (ComparableValue::Number(a), ComparableValue::Number(b)) => {
            steps.take_bytes(a.len() + b.len())?;
            DecimalNumber::from_text(a).cmp(&DecimalNumber::from_text(b)) == Ordering::Equal
        }
        (ComparableValue::Text(a), ComparableValue::Text(b)) => {
            steps.take_bytes(a.len().min(b.len()))?;
            a == b
        }
        (ComparableValue::Container(a), ComparableValue::Container(b)) => {
            match (document.kind(*a), document.kind(*b)) {
                (JsonKind::Array, JsonKind::Array) => equal_arrays(document, *a, *b, steps)?,
                (JsonKind::Object, JsonKind::Object) => equal_objects(document, *a, *b, steps)?,
                _ => false,
            }
        }
        _ => false,
    })
}

/// Recursion is bounded by the document's depth.
fn equal_arrays(
    document: &JsonDocument,
    left: JsonNodeId,
    right: JsonNodeId,
    steps: &mut StepCounter,
) -> Result<bool, TooCostly> {
    let (mut left, mut right) = (document.members(left), document.members(right));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Ok(true),
            (Some(a), Some(b)) => {
                let (a, b) = (
                    ComparableValue::from_node(document, a),
                    ComparableValue::from_node(document, b),
                );
                if !equal(document, &a, &b, steps)? {
                    return Ok(false);
                }
            }
            _ => return Ok(false),
        }
    }
}

fn equal_objects(
    document: &JsonDocument,
    left: JsonNodeId,
    right: JsonNodeId,
    steps: &mut StepCounter,
) -> Result<bool, TooCostly> {
    let (left, right) = (
        firsts(document, left, steps)?,
        firsts(document, right, steps)?,
    );
    if left.len() != right.len() {
        return Ok(false);
    }
    for (key, a) in &left {
        let Some(b) = right.get(key) else {
            return Ok(false);
        };
        let (a, b) = (
            ComparableValue::from_node(document, *a),
            ComparableValue::from_node(document, *b),
        );
        if !equal(document, &a, &b, steps)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The first value of each key.
fn firsts<'a>(
    document: &'a JsonDocument,
    object: JsonNodeId,
    steps: &mut StepCounter,
) -> Result<HashMap<Cow<'a, [u8]>, JsonNodeId>, TooCostly> {
    let mut firsts = HashMap::new();
    for (key, value) in document.entries(object) {
        steps.take(4)?;
        steps.take_bytes(document.text(key).len())?;
        firsts.entry(plain(document, key)).or_insert(value);
    }
    Ok(firsts)
}

/// Sign, significant digits and magnitude of a number.
#[derive(Debug)]
struct DecimalNumber<'a> {
    is_negative: bool,
    /// Position of the first digit before the decimal point; `i128::MIN` for zero.
    magnitude: i128,
    /// Digits without leading and, at the end of the number, trailing zeros.
    whole: &'a [u8],
    fraction: &'a [u8],
}

impl<'a> DecimalNumber<'a> {
    /// `text` is a JSON number.
    fn from_text(text: &'a [u8]) -> Self {
        let (is_negative, text) = match text.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let at = |wanted: &[u8]| text.iter().position(|b| wanted.contains(b));
        let (mantissa, exponent) = match at(b"eE") {
            Some(e) => (&text[..e], exponent(&text[e + 1..])),
            None => (text, 0),
        };
        let (whole, fraction) = match mantissa.iter().position(|b| *b == b'.') {
            Some(point) => (&mantissa[..point], &mantissa[point + 1..]),
            None => (mantissa, &[][..]),
        };
        let zeros = |digits: &[u8]| digits.iter().take_while(|b| **b == b'0').count();
        let whole = &whole[zeros(whole)..];
        let fraction = trim_end(fraction);
        let (whole, fraction, magnitude) = if whole.is_empty() {
            let leading = zeros(fraction);
            (whole, &fraction[leading..], -(leading as i128))
        } else if fraction.is_empty() {
            (trim_end(whole), fraction, whole.len() as i128)
        } else {
            (whole, fraction, whole.len() as i128)
        };
        if whole.is_empty() && fraction.is_empty() {
            return Self {
                is_negative: false,
                magnitude: i128::MIN,
                whole,
                fraction,
            };
        }
        Self {
            is_negative,
            magnitude: magnitude.saturating_add(exponent),
            whole,
            fraction,
        }
    }

    fn digits(&self) -> impl Iterator<Item = &u8> {
        self.whole.iter().chain(self.fraction)
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |n: &Self| match (n.whole.is_empty() && n.fraction.is_empty(), n.is_negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let sizes = || {
            let by_magnitude = self.magnitude.cmp(&other.magnitude);
            by_magnitude.then_with(|| self.digits().cmp(other.digits()))
        };
        sign(self)
            .cmp(&sign(other))
            .then_with(|| match self.is_negative {
                true => sizes().reverse(),
                false => sizes(),
            })
    }
}

fn trim_end(digits: &[u8]) -> &[u8] {
    let last = digits.iter().rposition(|b| *b != b'0');
    &digits[..last.map_or(0, |i| i + 1)]
}

/// The exponent, clamped beyond all useful values.
fn exponent(text: &[u8]) -> i128 {
    let (is_negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let limit = i128::from(i64::MAX) * 4;
    let add = |sum: i128, digit: &u8| (sum * 10 + i128::from(digit - b'0')).min(limit);
    let size = digits.iter().fold(0, add);
    if is_negative { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_exactly() {
        let sorted = [
            "-1e400",
            "-12345678901234567890124",
            "-12345678901234567890123",
            "-1.5",
            "-1",
            "-0.1",
            "-1e-400",
            "0",
            "1e-400",
            "0.09",
            "0.1",
            "0.11",
            "1",
            "1.0000000000000000000001",
            "1.5",
            "9",
            "10",
            "9007199254740992",
            "9007199254740993",
            "12345678901234567890123",
            "1e400",
            "1e99999999999999999999999999",
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                let found = DecimalNumber::from_text(a.as_bytes())
                    .cmp(&DecimalNumber::from_text(b.as_bytes()));
                assert_eq!(found, i.cmp(&j), "{a} {b}");
            }
        }
        for (a, b) in [
            ("0", "-0"),
            ("0", "0.000e9"),
            ("1", "1.0"),
            ("100", "1e2"),
            ("100", "10.00E+1"),
            ("0.01", "1e-2"),
            ("0.01", "100e-4"),
            ("12.5", "0.125e2"),
            ("-120", "-1.2e2"),
            ("1010", "1.01e3"),
        ] {
            let (a, b) = (
                DecimalNumber::from_text(a.as_bytes()),
                DecimalNumber::from_text(b.as_bytes()),
            );
            assert_eq!(a.cmp(&b), Ordering::Equal, "{a:?} {b:?}");
        }
    }
}
