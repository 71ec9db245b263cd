//! JSON numbers by their digits, so that no precision is lost to floating point.

/// Maximum number of digits of a result; more do not fit into an [`i128`].
const DIGITS_MAX: i64 = 37;

/// A JSON number times a power of ten, as an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaledInteger {
    /// The integer; fractions are rounded down.
    pub whole: i128,
    /// Whether no fraction was cut off.
    pub is_exact: bool,
}

/// Multiplies a JSON number (`-0`, `7.0`, `1e3`) by ten to the power of `places`; `None` when the
/// result has more than 37 digits, or the text is no number.
pub fn scale_number(text: &str, places: i64) -> Option<ScaledInteger> {
    let (is_negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (rest, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    let digits = || whole.bytes().chain(fraction.bytes());
    if whole.is_empty() || !digits().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let zeros = digits().take_while(|b| *b == b'0').count();
    let count = whole.len() + fraction.len() - zeros;
    if count == 0 {
        return Some(ScaledInteger {
            whole: 0,
            is_exact: true,
        });
    }
    let significant = || digits().skip(zeros);
    let fraction = i64::try_from(fraction.len()).ok()?;
    let shift = exponent.saturating_add(places).saturating_sub(fraction);
    let count = i64::try_from(count).ok()?;
    // Digits before the decimal point.
    let kept = count.saturating_add(shift);
    if kept > DIGITS_MAX {
        return None;
    }
    let kept = usize::try_from(kept).unwrap_or(0);
    let mut value = 0_i128;
    let padded = significant().chain(std::iter::repeat(b'0'));
    for digit in padded.take(kept) {
        value = value * 10 + i128::from(digit - b'0');
    }
    let is_exact = significant().skip(kept).all(|b| b == b'0');
    Some(ScaledInteger {
        whole: match (is_negative, is_exact) {
            (false, _) => value,
            (true, true) => -value,
            (true, false) => -value - 1,
        },
        is_exact,
    })
}

/// Parses an exponent; one beyond all bounds becomes the largest.
fn parse_exponent(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Far beyond what any number has, and far from where sums overflow.
    Some(sign * digits.parse().unwrap_or(i64::MAX / 4).min(i64::MAX / 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str, places: i64) -> Option<i128> {
        scale_number(text, places)
            .filter(|s| s.is_exact)
            .map(|s| s.whole)
    }

    #[test]
    fn integers_may_be_written_in_any_form() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("-0.000e99", 0),
            ("0e999999999999999999999", 0),
            ("7.0", 7),
            ("7.000000000000000000000000000000000000000000000000000", 7),
            ("1e3", 1000),
            ("1E+3", 1000),
            ("1500e-2", 15),
            ("1.5e1", 15),
            ("0.0015E4", 15),
            ("-9223372036854775808", i128::from(i64::MIN)),
            ("9.223372036854775807e18", i128::from(i64::MAX)),
            (
                "12345678901234567890123456789012345",
                12_345_678_901_234_567_890_123_456_789_012_345,
            ),
        ] {
            assert_eq!(exact(text, 0), Some(value), "{text}");
        }
    }

    #[test]
    fn fractions_are_reported_and_rounded_down() {
        for (text, places, whole) in [
            ("7.5", 0, 7),
            ("-7.5", 0, -8),
            ("1e-400", 0, 0),
            ("-1e-999999999999999999999", 0, -1),
            ("1.2345", 3, 1234),
            ("-1.2345", 3, -1235),
            ("1704067200123456789", -3, 1_704_067_200_123_456),
        ] {
            let is_exact = false;
            assert_eq!(
                scale_number(text, places),
                Some(ScaledInteger { whole, is_exact }),
                "{text}"
            );
        }
        assert_eq!(exact("1704067200.5", 6), Some(1_704_067_200_500_000));
    }

    #[test]
    fn too_large_numbers_and_other_texts_are_none() {
        for text in [
            "1e38",
            "1e999999999999999999999",
            "",
            "-",
            "1e",
            "x",
            ".5",
            "5.",
            "5.e1",
            "1.2.3",
            "0x1F",
            "+1",
        ] {
            assert_eq!(scale_number(text, 0), None, "{text}");
        }
    }
}
