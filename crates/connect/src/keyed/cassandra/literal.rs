//! Values of foreign types as CQL literals.

use std::fmt::Write as _;
use std::str::FromStr;

use num_bigint::BigInt;
use scylla::cluster::metadata::{ColumnType, NativeType};
use scylla::value::{CqlDate, CqlTime, CqlTimeuuid, CqlValue, CqlVarint};

/// Offset of the Unix epoch in the days of a CQL date.
const EPOCH_DAY: i64 = 1 << 31;
/// A decimal with more trailing zeros is written with an exponent.
const ZEROS_MAX: usize = 100;
const SECOND: i64 = 1_000_000_000;

/// A value as CQL writes it: `{'a', 'b'}`, `2006-01-02`, `0xcafe`.
pub(super) fn text(value: &CqlValue) -> String {
    let mut out = String::new();
    match value {
        // Texts are quoted only inside other values; at the top level the quotes would be part of
        // the text.
        CqlValue::Ascii(text) | CqlValue::Text(text) => out.push_str(text),
        CqlValue::Date(_) | CqlValue::Time(_) | CqlValue::Inet(_) | CqlValue::Timestamp(_) => {
            write(value, &mut out);
            out = out.trim_matches('\'').to_owned();
        }
        _ => write(value, &mut out),
    }
    out
}

/// Writing to a String can't fail.
fn write(value: &CqlValue, out: &mut String) {
    match value {
        CqlValue::Decimal(n) => {
            let (bytes, scale) = n.as_signed_be_bytes_slice_and_exponent();
            out.push_str(&decimal(&BigInt::from_signed_bytes_be(bytes), scale));
        }
        CqlValue::Varint(n) => {
            let n = BigInt::from_signed_bytes_be(n.as_signed_bytes_be_slice());
            _ = write!(out, "{n}");
        }
        CqlValue::Date(CqlDate(day)) => _ = write!(out, "'{}'", date(i64::from(*day) - EPOCH_DAY)),
        CqlValue::List(all) | CqlValue::Vector(all) => list(all, ['[', ']'], out),
        CqlValue::Set(all) => list(all, ['{', '}'], out),
        CqlValue::Map(all) => {
            let write = |(key, value): &(CqlValue, CqlValue), out: &mut String| {
                write(key, out);
                out.push_str(": ");
                write(value, out);
            };
            joined(all, ['{', '}'], out, write);
        }
        CqlValue::Tuple(all) => joined(all, ['(', ')'], out, |v, out| nullable(v.as_ref(), out)),
        CqlValue::UserDefinedType { fields, .. } => {
            let write = |(name, value): &(String, Option<CqlValue>), out: &mut String| {
                out.push_str(name);
                out.push_str(": ");
                nullable(value.as_ref(), out);
            };
            joined(fields, ['{', '}'], out, write);
        }
        // The driver formats these as CQL does.
        other => _ = write!(out, "{other}"),
    }
}

fn nullable(value: Option<&CqlValue>, out: &mut String) {
    match value {
        Some(value) => write(value, out),
        None => out.push_str("null"),
    }
}

fn list(all: &[CqlValue], brackets: [char; 2], out: &mut String) {
    joined(all, brackets, out, write);
}

fn joined<T>(
    all: &[T],
    [open, close]: [char; 2],
    out: &mut String,
    write: impl Fn(&T, &mut String),
) {
    out.push(open);
    for (i, one) in all.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write(one, out);
    }
    out.push(close);
}

/// `unscaled` divided by 10 to the power of `scale`.
fn decimal(unscaled: &BigInt, scale: i32) -> String {
    let text = unscaled.to_string();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.as_str()),
    };
    let places = usize::try_from(scale.unsigned_abs()).unwrap_or(usize::MAX);
    if places > digits.len().saturating_add(ZEROS_MAX) {
        return format!("{text}E{}", -i64::from(scale));
    }
    if scale <= 0 {
        let zeros = if digits == "0" { 0 } else { places };
        return format!("{text}{}", "0".repeat(zeros));
    }
    let padded = format!(
        "{}{digits}",
        "0".repeat((places + 1).saturating_sub(digits.len()))
    );
    let (whole, fraction) = padded.split_at(padded.len() - places);
    format!("{sign}{whole}.{fraction}")
}

/// Date of the Gregorian calendar from the days since 1970-01-01.
fn date(days: i64) -> String {
    let (year, month, day) = forebay_model::calendar::date(days);
    let sign = if year < 0 { "-" } else { "" };
    format!("{sign}{:04}-{month:02}-{day:02}", year.unsigned_abs())
}

/// Parses a key column's value; `None` when the text is invalid or the type is unsupported.
pub(super) fn parse(text: &str, typ: &ColumnType<'_>) -> Option<CqlValue> {
    let ColumnType::Native(native) = typ else {
        return None;
    };
    Some(match native {
        NativeType::Uuid => CqlValue::Uuid(text.parse().ok()?),
        NativeType::Timeuuid => CqlValue::Timeuuid(CqlTimeuuid::from_str(text).ok()?),
        NativeType::Inet => CqlValue::Inet(text.parse().ok()?),
        NativeType::Varint => {
            let n: BigInt = text.parse().ok()?;
            CqlValue::Varint(CqlVarint::from_signed_bytes_be(n.to_signed_bytes_be()))
        }
        NativeType::Decimal => {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            if !fraction.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let n: BigInt = format!("{whole}{fraction}").parse().ok()?;
            CqlValue::Decimal(
                scylla::value::CqlDecimal::from_signed_be_bytes_and_exponent(
                    n.to_signed_bytes_be(),
                    i32::try_from(fraction.len()).ok()?,
                ),
            )
        }
        NativeType::Blob => CqlValue::Blob(bytes(text.strip_prefix("0x")?)?),
        NativeType::Date => {
            let day: jiff::civil::Date = text.parse().ok()?;
            let since = day.since(jiff::civil::date(1970, 1, 1)).ok()?;
            let day = i64::from(since.get_days()) + EPOCH_DAY;
            CqlValue::Date(CqlDate(u32::try_from(day).ok()?))
        }
        NativeType::Time => {
            let time: jiff::civil::Time = text.parse().ok()?;
            let seconds = i64::from(time.hour()) * 3600
                + i64::from(time.minute()) * 60
                + i64::from(time.second());
            CqlValue::Time(CqlTime(
                seconds * SECOND + i64::from(time.subsec_nanosecond()),
            ))
        }
        _ => return None,
    })
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_written_out() {
        let decimal = |n: i64, scale| decimal(&BigInt::from(n), scale);
        assert_eq!(decimal(12_345, 2), "123.45");
        assert_eq!(decimal(-5, 3), "-0.005");
        assert_eq!(decimal(5, 0), "5");
        assert_eq!(decimal(5, -2), "500");
        assert_eq!(decimal(0, -2), "0");
        assert_eq!(decimal(7, i32::MAX), "7E-2147483647");
        assert_eq!(decimal(7, i32::MIN), "7E2147483648");
    }

    #[test]
    fn dates_match_the_calendar() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(-1), "1969-12-31");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(-719_528), "0000-01-01");
        assert_eq!(date(-EPOCH_DAY), "-5877641-06-23");
        assert_eq!(date(EPOCH_DAY - 1), "5881580-07-11");
    }

    #[test]
    fn parsed_keys_are_written_unchanged() {
        let native = |n| ColumnType::Native(n);
        for (typ, key) in [
            (NativeType::Uuid, "7f9c2a56-0c1a-4e4e-9d1e-6a3f1c2b3d4e"),
            (NativeType::Inet, "2001:db8::1"),
            (NativeType::Varint, "-12345678901234567890123"),
            (NativeType::Decimal, "-0.500"),
            (NativeType::Blob, "0x00cafe"),
            (NativeType::Date, "1969-12-31"),
            (NativeType::Time, "08:30:00.000000001"),
        ] {
            let value = parse(key, &native(typ.clone())).unwrap();
            assert_eq!(text(&value), key);
            for bad in ["", "x", "0xz", "0xabc", "--1", "1.-5"] {
                assert_eq!(parse(bad, &native(typ.clone())), None, "{typ:?} {bad}");
            }
        }
    }
}
