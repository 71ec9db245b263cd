//! Times in their usual form, `2006-01-02T15:04:05.999Z`, parsed and written without a library:
//! every typed cell of a time passes here.

use crate::calendar::{self, DAY_SECONDS};

/// Bytes of the longest text: with six decimals.
const TIME_TEXT_MAX: usize = 27;

/// A time as text.
#[derive(Clone, Copy, Debug)]
pub struct TimeText {
    bytes: [u8; TIME_TEXT_MAX],
    len: usize,
}

impl TimeText {
    /// The text.
    pub fn as_str(&self) -> &str {
        let text = self.bytes.get(..self.len).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }
}

/// Writes microseconds since 1970 in the years 0000 to 9999, with three or six decimals.
pub(crate) fn format(micros: i64, has_micros: bool) -> TimeText {
    let seconds = micros.div_euclid(1_000_000);
    let fraction = micros.rem_euclid(1_000_000);
    let (year, month, day) = calendar::date(seconds.div_euclid(DAY_SECONDS));
    let second = seconds.rem_euclid(DAY_SECONDS);
    let mut bytes = *b"0000-00-00T00:00:00.000000Z";
    let mut digits = |at: usize, count: usize, value: i64| {
        let mut rest = value.unsigned_abs();
        for byte in bytes.iter_mut().skip(at).take(count).rev() {
            // A remainder of ten fits a byte.
            *byte = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
    };
    digits(0, 4, year);
    digits(5, 2, month);
    digits(8, 2, day);
    digits(11, 2, second / 3600);
    digits(14, 2, second / 60 % 60);
    digits(17, 2, second % 60);
    digits(20, 6, fraction);
    if has_micros {
        let len = TIME_TEXT_MAX;
        return TimeText { bytes, len };
    }
    bytes[23] = b'Z';
    TimeText { bytes, len: 24 }
}

/// Parses a text like `2006-01-02T15:04:05.999999999+02:00`: the forms of RFC 3339 and ISO 8601
/// with date, time and offset. Returns seconds since 1970 and nanoseconds. `23:59:60` in UTC is the
/// second that follows 23:59:59, as in POSIX.
pub(crate) fn parse(text: &str) -> Option<(i64, u32)> {
    parse_usual(text).or_else(|| calendar::parse_any(text))
}

/// Parses a date, `T`, a time with seconds, up to nine decimals, and `Z` or an offset; returns seconds
/// since 1970 and nanoseconds. `None` for all other forms, whether they are times or not.
fn parse_usual(text: &str) -> Option<(i64, u32)> {
    let (date, rest) = text.as_bytes().split_at_checked(19)?;
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        m1,
        m2,
        b'-',
        d1,
        d2,
        b'T',
        rest_of_time @ ..,
    ] = date
    else {
        return None;
    };
    let [h1, h2, b':', n1, n2, b':', s1, s2] = rest_of_time else {
        return None;
    };
    let year = two(*y1, *y2)? * 100 + two(*y3, *y4)?;
    let (month, day) = (two(*m1, *m2)?, two(*d1, *d2)?);
    let (hour, minute, second) = (two(*h1, *h2)?, two(*n1, *n2)?, two(*s1, *s2)?);
    if year == 0
        || !(1..=12).contains(&month)
        || !(1..=days_of(year, month)).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let (nanos, offset) = match rest {
        [b'.', fraction @ ..] => {
            let count = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            let (fraction, offset) = fraction.split_at_checked(count)?;
            (nanos(fraction)?, offset)
        }
        offset => (0, offset),
    };
    let of_day = (hour * 60 + minute) * 60 + second;
    let seconds = calendar::days(year, month, day) * DAY_SECONDS + of_day;
    Some((seconds - offset_seconds(offset)?, nanos))
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    let is_number = tens.is_ascii_digit() && ones.is_ascii_digit();
    is_number.then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

fn nanos(fraction: &[u8]) -> Option<u32> {
    if !(1..=9).contains(&fraction.len()) {
        return None;
    }
    let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    Some(digits.fold(0, |all, digit| all * 10 + u32::from(digit - b'0')))
}

fn offset_seconds(offset: &[u8]) -> Option<i64> {
    let (sign, h1, h2, m1, m2) = match offset {
        b"Z" => return Some(0),
        [b'+', h1, h2, b':', m1, m2] => (1, h1, h2, m1, m2),
        [b'-', h1, h2, b':', m1, m2] => (-1, h1, h2, m1, m2),
        _ => return None,
    };
    let (hours, minutes) = (two(*h1, *h2)?, two(*m1, *m2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_forms_are_parsed_as_by_the_library() {
        let mut parsed = 0;
        let dates = [
            "2026-01-02",
            "2024-02-29",
            "2026-02-29",
            "2000-02-29",
            "1900-02-29",
            "0001-01-01",
            "9999-12-31",
            "0000-01-01",
            "2026-13-01",
            "2026-00-10",
            "2026-04-31",
            "2026-1-02",
        ];
        let times = [
            "T00:00:00",
            "T23:59:59",
            "T24:00:00",
            "T23:60:00",
            "T23:59:60",
            " 15:04:05",
            "t15:04:05",
            "T15:04",
            "T15:04:05.",
            "T15:04:05.1",
            "T15:04:05.123456789",
            "T15:04:05.1234567891",
            "T15:04:05,5",
            "T150405",
            "T1x:04:05",
        ];
        let offsets = [
            "Z",
            "z",
            "+00:00",
            "-00:00",
            "+01:30",
            "-23:59",
            "+24:00",
            "+01:60",
            "+0130",
            "+01",
            "",
            "Z ",
            "+01:30:00",
        ];
        for date in dates {
            for time in times {
                for offset in offsets {
                    let text = format!("{date}{time}{offset}");
                    if let Some(usual) = parse_usual(&text) {
                        assert_eq!(calendar::parse_any(&text), Some(usual), "{text}");
                        parsed += 1;
                    }
                }
            }
        }
        assert!(parsed > 50, "{parsed}");
        assert_eq!(parse_usual("2026-01-02T03:04:05Zř"), None);
        assert_eq!(parse_usual("žluťoučký kůň úpěl"), None);
    }

    #[test]
    fn times_are_written_with_three_or_six_decimals() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
            (-62_135_596_800_000_000, "0001-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(format(micros, true).as_str(), text);
            let millis = format(micros, false);
            assert_eq!(millis.as_str().strip_suffix('Z'), text.get(..23));
        }
    }
}
