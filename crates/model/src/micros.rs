//! Times of records and tables: to the microsecond, and never clamped.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::calendar::{self, DAY_SECONDS};
use crate::decimal::scale_number;
use crate::usual_time::{self, TimeText};

/// A time of a record: microseconds since the Unix epoch, UTC, in the years 0001 to 9999.
///
/// Forebay's own times, of which keys and ids are made, are [`crate::Timestamp`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampMicros(i64);

/// A number below ten to the power of this, times the units per second, is taken as a time of that
/// unit: from 1653 to 2286.
const USUAL_SECONDS: i128 = 10_000_000_000;
/// The first second of the year 9999, which means "never" in many systems.
const YEAR_9999: i128 = 253_370_764_800;

impl TimestampMicros {
    /// `0001-01-01T00:00:00Z`.
    pub const MIN: Self = Self(-62_135_596_800_000_000);
    /// `9999-12-31T23:59:59.999999Z`.
    pub const MAX: Self = Self(253_402_300_799_999_999);

    /// From microseconds since the epoch; `None` outside [`Self::MIN`]..=[`Self::MAX`].
    pub fn from_micros(micros: i64) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0)
            .contains(&micros)
            .then_some(Self(micros))
    }

    /// Microseconds since the epoch.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// The text with three decimals, or six if needed: `2006-01-02T15:04:05.000Z`.
    pub fn text(self) -> TimeText {
        usual_time::format(self.0, self.0 % 1000 != 0)
    }

    /// The text with all six decimals: sorting such texts sorts the times.
    pub fn sortable(self) -> TimeText {
        usual_time::format(self.0, true)
    }
}

/// Formats seconds since the epoch as `2006-01-02T15:04:05`; a year with more or fewer than four
/// digits gets a sign and at least six digits, as in ISO 8601.
fn civil(seconds: i64) -> String {
    let (days, second) = (
        seconds.div_euclid(DAY_SECONDS),
        seconds.rem_euclid(DAY_SECONDS),
    );
    let (year, month, day) = calendar::date(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let year = if (0..=9999).contains(&year) {
        format!("{year:04}")
    } else {
        format!("{year:+07}")
    };
    format!(
        "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}",
        second % 60
    )
}

/// Formats milliseconds since the epoch in any year: `-000043-03-15T00:00:00.000Z`.
pub fn format_millis(millis: i64) -> String {
    let (seconds, millis) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    format!("{}.{millis:03}Z", civil(seconds))
}

impl fmt::Display for TimestampMicros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// A parsed time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedTime {
    /// The time, truncated to the microsecond.
    pub time: TimestampMicros,
    /// Whether the input was more precise.
    pub is_cut: bool,
}

/// The unit of a numeric time, counted from 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EpochUnit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

impl EpochUnit {
    /// All units, the longest first.
    pub const ALL: [Self; 4] = [Self::S, Self::Ms, Self::Us, Self::Ns];

    /// Name in definitions.
    pub fn name(self) -> &'static str {
        match self {
            Self::S => "s",
            Self::Ms => "ms",
            Self::Us => "us",
            Self::Ns => "ns",
        }
    }

    /// Decimal places of the unit within a second.
    fn places(self) -> i64 {
        match self {
            Self::S => 0,
            Self::Ms => 3,
            Self::Us => 6,
            Self::Ns => 9,
        }
    }
}

/// A text or number that is no time of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTime {
    /// No time of any year.
    #[error(
        "a time with its offset like 2006-01-02T15:04:05Z, or a number of seconds, milliseconds, microseconds or nanoseconds since 1970"
    )]
    Form,
    /// A time of another year.
    #[error("a time in the years 0001 to 9999")]
    Year,
    /// A number that fits two units.
    #[error("a time whose unit is certain: the number could be one of {} or of {}, so the column needs its `unit`", .0.name(), .1.name())]
    Ambiguous(EpochUnit, EpochUnit),
}

impl TimestampMicros {
    /// Parses a text of RFC 3339 or ISO 8601 with date, time and offset.
    ///
    /// # Errors
    /// When it is no time, or of another year; the error describes what is expected.
    pub fn parse(text: &str) -> Result<ParsedTime, InvalidTime> {
        let (seconds, nanos) = usual_time::parse(text).ok_or_else(|| {
            // A year with too many digits is too large, not another form.
            if text.starts_with(['+', '-']) {
                InvalidTime::Year
            } else {
                InvalidTime::Form
            }
        })?;
        let micros = seconds.checked_mul(1_000_000);
        let micros = micros.and_then(|m| m.checked_add(i64::from(nanos / 1000)));
        let time = micros.and_then(Self::from_micros);
        Ok(ParsedTime {
            time: time.ok_or(InvalidTime::Year)?,
            is_cut: nanos % 1000 != 0,
        })
    }

    /// Parses a JSON number. Without a unit, the unit is the one in which the time is from 1653 to
    /// 2286, or in the year 9999; a number that fits another unit too is rejected.
    ///
    /// # Errors
    /// When it is of another year, or its unit is ambiguous.
    pub fn parse_number(text: &str, unit: Option<EpochUnit>) -> Result<ParsedTime, InvalidTime> {
        if let Some(unit) = unit {
            return Self::parse_in_unit(text, unit);
        }
        let mut last = Err(InvalidTime::Year);
        for (i, unit) in EpochUnit::ALL.into_iter().enumerate() {
            last = Self::parse_in_unit(text, unit);
            let Ok(ParsedTime { time, .. }) = last else {
                continue;
            };
            let second = i128::from(time.0.div_euclid(1_000_000));
            let is_usual = (-USUAL_SECONDS..USUAL_SECONDS).contains(&second);
            return match EpochUnit::ALL.get(i + 1) {
                Some(finer) if !is_usual && second < YEAR_9999 => {
                    Err(InvalidTime::Ambiguous(unit, *finer))
                }
                _ => last,
            };
        }
        last
    }

    fn parse_in_unit(text: &str, unit: EpochUnit) -> Result<ParsedTime, InvalidTime> {
        let scaled = scale_number(text, 6 - unit.places()).ok_or(InvalidTime::Year)?;
        let time = i64::try_from(scaled.whole).ok().and_then(Self::from_micros);
        Ok(ParsedTime {
            time: time.ok_or(InvalidTime::Year)?,
            is_cut: !scaled.is_exact,
        })
    }
}

impl FromStr for TimestampMicros {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).map(|read| read.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str, unit: Option<EpochUnit>) -> Result<String, InvalidTime> {
        TimestampMicros::parse_number(text, unit).map(|read| read.time.to_string())
    }

    #[test]
    fn texts_are_parsed_to_the_microsecond() {
        for (text, shown, is_cut) in [
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000Z", false),
            (
                "9999-12-31T23:59:59.999999Z",
                "9999-12-31T23:59:59.999999Z",
                false,
            ),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z", false),
            (
                "2025-08-28T15:01:00.123456Z",
                "2025-08-28T15:01:00.123456Z",
                false,
            ),
            (
                "2025-08-28T15:01:00.123456789Z",
                "2025-08-28T15:01:00.123456Z",
                true,
            ),
            (
                "1969-12-31T23:59:59.9999999Z",
                "1969-12-31T23:59:59.999999Z",
                true,
            ),
            (
                "2025-08-28T17:01:00.12+02:00",
                "2025-08-28T15:01:00.120Z",
                false,
            ),
            ("+002026-01-01T00:00:00Z", "2026-01-01T00:00:00.000Z", false),
        ] {
            let read = TimestampMicros::parse(text).unwrap();
            assert_eq!(
                (read.time.to_string().as_str(), read.is_cut),
                (shown, is_cut)
            );
            assert_eq!(shown.parse(), Ok(read.time));
        }
        for text in [
            "0000-12-31T23:59:59Z",
            "-000001-01-01T00:00:00Z",
            "+010000-01-01T00:00:00Z",
            "9999-12-31T23:59:59-00:01",
            "0001-01-01T00:00:00+00:01",
        ] {
            assert_eq!(
                TimestampMicros::parse(text),
                Err(InvalidTime::Year),
                "{text}"
            );
        }
        for text in [
            "10000-01-01T00:00:00Z",
            "infinity",
            "2026-02-29T00:00:00Z",
            "1704067200",
        ] {
            assert!(TimestampMicros::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn units_of_numbers_are_detected_by_size() {
        let usual = "2024-01-01T00:00:00.000Z";
        let last = "9999-12-31T23:59:59.000Z";
        for (text, shown) in [
            ("1704067200", usual),
            ("1704067200.0", usual),
            ("1.7040672e9", usual),
            ("1704067200000", usual),
            ("1704067200000000", usual),
            ("1704067200000000000", usual),
            ("1704067200.123456", "2024-01-01T00:00:00.123456Z"),
            ("1704067200123456789", "2024-01-01T00:00:00.123456Z"),
            ("253402300799", last),
            ("253402300799000", last),
            ("253402300799000000", last),
            ("0", "1970-01-01T00:00:00.000Z"),
            ("-0", "1970-01-01T00:00:00.000Z"),
            ("-1", "1969-12-31T23:59:59.000Z"),
            ("-315619200", "1960-01-01T00:00:00.000Z"),
            ("-315619200000", "1960-01-01T00:00:00.000Z"),
            ("-315619200000000", "1960-01-01T00:00:00.000Z"),
            ("-315619200000000000", "1960-01-01T00:00:00.000Z"),
            ("-6795364578871000", "1754-08-30T22:43:41.129Z"),
        ] {
            assert_eq!(number(text, None).as_deref(), Ok(shown), "{text}");
        }
        for text in ["1e21", "253402300800000000000", "1e999", "-1e30"] {
            assert_eq!(number(text, None), Err(InvalidTime::Year), "{text}");
        }
    }

    #[test]
    fn an_ambiguous_number_needs_a_unit() {
        use EpochUnit::{Ms, Ns, S, Us};
        for (text, coarse, fine) in [
            ("157766400000", S, Ms),
            ("10000000000", S, Ms),
            ("-30000000000", S, Ms),
            ("157766400000000", Ms, Us),
            ("157766400000000000", Us, Ns),
        ] {
            assert_eq!(
                number(text, None),
                Err(InvalidTime::Ambiguous(coarse, fine)),
                "{text}"
            );
        }
        assert_eq!(
            number("157766400000", Some(Ms)).as_deref(),
            Ok("1975-01-01T00:00:00.000Z")
        );
        assert_eq!(
            number("157766400000", Some(S)).as_deref(),
            Ok("6969-06-02T00:00:00.000Z")
        );
        assert_eq!(
            number("5", Some(Us)).as_deref(),
            Ok("1970-01-01T00:00:00.000005Z")
        );
        assert_eq!(number("1704067200000", Some(S)), Err(InvalidTime::Year));
    }

    #[test]
    fn texts_sort_like_times() {
        let times = [
            -62_135_596_800_000_000,
            -1,
            0,
            1,
            999,
            1000,
            1001,
            253_402_300_799_999_999,
        ];
        let texts = times.map(|t| TimestampMicros::from_micros(t).unwrap().sortable());
        let texts = texts.each_ref().map(TimeText::as_str);
        assert!(texts.is_sorted(), "{texts:?}");
        assert_eq!(texts[1], "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn times_of_all_years_round_trip_as_texts_and_numbers() {
        let step = 3_155_695_199_123;
        let mut before = String::new();
        for micros in (TimestampMicros::MIN.0..=TimestampMicros::MAX.0).step_by(step) {
            let time = TimestampMicros::from_micros(micros).unwrap();
            let is_cut = false;
            let same = Ok(ParsedTime { time, is_cut });
            assert_eq!(TimestampMicros::parse(&time.to_string()), same);
            assert_eq!(TimestampMicros::parse(time.sortable().as_str()), same);
            let exact = [
                (micros.to_string(), EpochUnit::Us),
                (format!("{micros}000"), EpochUnit::Ns),
                (format!("{micros}e-3"), EpochUnit::Ms),
                (format!("{micros}E-6"), EpochUnit::S),
            ];
            for (text, unit) in exact {
                assert_eq!(
                    TimestampMicros::parse_number(&text, Some(unit)),
                    same,
                    "{text}"
                );
            }
            assert!(before.as_str() < time.sortable().as_str(), "{before}");
            time.sortable().as_str().clone_into(&mut before);
        }
    }

    #[test]
    fn other_years_have_signs() {
        assert_eq!(format_millis(i64::MAX), "+292278994-08-17T07:12:55.807Z");
        assert_eq!(
            format_millis(-63_517_000_000_000),
            "-000043-03-24T12:53:20.000Z"
        );
    }
}
