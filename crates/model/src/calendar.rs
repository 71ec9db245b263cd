//! Days and dates of the Gregorian calendar, extended over all years, and parsing of times.

use jiff::fmt::temporal::Pieces;

/// Seconds per day.
pub const DAY_SECONDS: i64 = 86_400;
/// Days from the 1st of March of the year 0 to 1970-01-01.
const EPOCH_DAY: i64 = 719_468;
/// Days in 400 years, after which the calendar repeats.
const PERIOD_DAYS: i64 = 146_097;

/// Year, month and day of a number of days since 1970-01-01. The year before 1 is 0, the one before
/// that is -1.
pub fn date(days: i64) -> (i64, i64, i64) {
    // Years are counted from March, so that a leap day is the last day of its year.
    let since = days.saturating_add(EPOCH_DAY);
    let (period, day) = (since.div_euclid(PERIOD_DAYS), since.rem_euclid(PERIOD_DAYS));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // 153 days are five months, from March on.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let is_next = month >= 10;
    let month = if is_next { month - 9 } else { month + 3 };
    (period * 400 + year + i64::from(is_next), month, day)
}

/// Days from 1970-01-01 to a date. The month is 1 to 12; the day may exceed its month.
pub fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - EPOCH_DAY
}

/// Parses all forms of RFC 3339 and ISO 8601 with date, time and offset; slower than
/// [`crate::usual_time::parse`], which is for all texts.
pub(crate) fn parse_any(text: &str) -> Option<(i64, u32)> {
    let pieces = Pieces::parse(text).ok()?;
    let (date, time) = (pieces.date(), pieces.time()?);
    let offset = pieces.to_numeric_offset()?;
    let days = days(
        i64::from(date.year()),
        i64::from(date.month()),
        i64::from(date.day()),
    );
    let (hour, minute) = (i64::from(time.hour()), i64::from(time.minute()));
    let of_day = (hour * 60 + minute) * 60 + i64::from(time.second());
    let mut seconds = days * DAY_SECONDS + of_day - i64::from(offset.seconds());
    // The library turns 60 into 59.
    if time.second() == 59 && has_leap_second(text) {
        seconds += 1;
        if seconds.rem_euclid(DAY_SECONDS) != 0 {
            return None;
        }
    }
    let nanos = u32::try_from(time.subsec_nanosecond()).ok()?;
    Some((seconds, nanos))
}

/// Whether the seconds of a date and time are written as 60.
fn has_leap_second(text: &str) -> bool {
    let Some((_, time)) = text.split_once(['T', 't', ' ']) else {
        return false;
    };
    let digits = time.bytes().filter(|b| *b != b':');
    let digits: Vec<u8> = digits.take_while(u8::is_ascii_digit).take(6).collect();
    digits.get(4..6) == Some(b"60")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usual_time::parse;

    #[test]
    fn dates_and_days_are_each_others_inverse() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(-719_528), (0, 1, 1));
        for day in (-3_000_000..3_000_000).step_by(37) {
            let (y, m, d) = date(day);
            assert_eq!(days(y, m, d), day);
            assert!((1..=12).contains(&m) && (1..=31).contains(&d), "{day}");
        }
    }

    #[test]
    fn common_forms_are_parsed() {
        let second = days(2026, 1, 2) * DAY_SECONDS + (15 * 60 + 4) * 60 + 5;
        for text in [
            "2026-01-02T15:04:05Z",
            "2026-01-02t15:04:05z",
            "2026-01-02 15:04:05Z",
            "2026-01-02T16:34:05+01:30",
            "2026-01-02T16:04:05+0100",
            "2026-01-02T16:04:05+01",
            "20260102T150405Z",
            "2026-01-02T15:04:05.0Z",
            "2026-01-02T16:04:05+01:00[Europe/Prague]",
        ] {
            assert_eq!(parse(text), Some((second, 0)), "{text}");
        }
        assert_eq!(
            parse("2026-01-02T15:04:05.123456789Z"),
            Some((second, 123_456_789))
        );
        for text in ["2026-01-02", "2026-01-02T15:04:05", "soon", "", "2026"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_leap_second_is_the_following_second() {
        let next = Some((days(2017, 1, 1) * DAY_SECONDS, 500_000_000));
        assert_eq!(parse("2016-12-31T23:59:60.5Z"), next);
        assert_eq!(parse("2017-01-01T00:59:60.5+01:00"), next);
        assert_eq!(parse("20161231T235960.5Z"), next);
        for text in ["2016-12-31T12:00:60Z", "2016-12-31T23:59:61Z"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
