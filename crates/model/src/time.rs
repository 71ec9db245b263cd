//! Wall-clock time as a value, and the clock as a parameter.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{calendar, usual_time};

/// A moment: milliseconds since the Unix epoch, UTC.
///
/// Its text form is `2006-01-02T15:04:05.000Z`, always with three decimals, so that the order of
/// texts is the order of moments (years 0000 to 9999). Keys and ids are made from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The first moment whose text form has a four-digit year: `0000-01-01T00:00:00.000Z`.
    pub const MIN: Self = Self(-62_167_219_200_000);
    /// The last moment whose text form has a four-digit year: `9999-12-31T23:59:59.999Z`.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// From milliseconds since the epoch, as clocks show them; outside [`Self::MIN`]..=[`Self::MAX`] the
    /// nearer end. Times of records are [`crate::TimestampMicros`], which are never moved.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(Self::MIN.0, Self::MAX.0))
    }

    /// Milliseconds since the epoch.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// The text form, without allocation.
    pub fn text(self) -> TimestampText {
        TimestampText::new(self)
    }

    /// The moment `duration` later, at most [`Self::MAX`].
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// How long after `earlier` this is; zero when the clock went backwards between the two.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// The text form of a [`Timestamp`]: `2006-01-02T15:04:05.000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampText([u8; 24]);

impl TimestampText {
    fn new(t: Timestamp) -> Self {
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let mut put = |from: usize, digits: usize, number: i64| {
            let mut left = u32::try_from(number).unwrap_or(0);
            for place in (from..from + digits).rev() {
                text[place] = b'0' + (left % 10) as u8;
                left /= 10;
            }
        };
        let (days, millis) = (t.0.div_euclid(86_400_000), t.0.rem_euclid(86_400_000));
        let (year, month, day) = calendar::date(days);
        put(0, 4, year);
        put(5, 2, month);
        put(8, 2, day);
        put(11, 2, millis / 3_600_000);
        put(14, 2, millis / 60_000 % 60);
        put(17, 2, millis / 1000 % 60);
        put(20, 3, millis % 1000);
        Self(text)
    }

    /// The 24 characters.
    pub fn as_str(&self) -> &str {
        // Digits and separators are ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// A text that is not a moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a time like 2006-01-02T15:04:05.000Z")]
pub struct InvalidTimestamp(pub String);

/// Parses `2006-01-02T15:04:05Z`, with or without three decimals: the most common form. `None` for
/// everything else, valid or not.
fn parse_common_form(text: &[u8]) -> Option<Timestamp> {
    let number = |from: usize, digits: usize| {
        let digits = text.get(from..from + digits)?;
        digits.iter().try_fold(0, |n, b| {
            let digit = b.is_ascii_digit().then(|| i64::from(b - b'0'))?;
            Some(n * 10 + digit)
        })
    };
    let millis = match (text.len(), text.get(19)?, text.last()?) {
        (20, b'Z', _) => 0,
        (24, b'.', b'Z') => number(20, 3)?,
        _ => return None,
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators
        .iter()
        .any(|(at, separator)| text.get(*at) != Some(separator))
    {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    // The calendar library handles days that only some months have.
    if !(1..=12).contains(&month) || !(1..=28).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = calendar::days(year, month, day);
    let seconds = (days * 24 + hour) * 3600 + minute * 60 + second;
    Some(Timestamp::from_millis(seconds * 1000 + millis))
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(t) = parse_common_form(text.as_bytes()) {
            return Ok(t);
        }
        let millis =
            usual_time::parse(text).map(|(s, nanos)| s * 1000 + i64::from(nanos / 1_000_000));
        let range = Self::MIN.0..=Self::MAX.0;
        match millis.filter(|millis| range.contains(millis)) {
            Some(millis) => Ok(Self(millis)),
            None => Err(InvalidTimestamp(text.to_owned())),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Source of wall-clock time. The binary passes the real clock; tests and the simulator pass one
/// that they control. Durations are measured with `tokio::time`, which tests can pause.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The current time.
    fn now(&self) -> Timestamp;
}

/// A clock that changes only when set, for tests.
#[derive(Debug, Default)]
pub struct ManualClock(std::sync::atomic::AtomicI64);

impl ManualClock {
    /// Creates a clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(std::sync::atomic::AtomicI64::new(now.as_millis()))
    }

    /// Sets the clock to `now`, forwards or backwards.
    pub fn set(&self, now: Timestamp) {
        self.0
            .store(now.as_millis(), std::sync::atomic::Ordering::SeqCst);
    }

    /// Advances the clock.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().plus(by));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_always_has_three_decimals() {
        assert_eq!(
            Timestamp::from_millis(0).to_string(),
            "1970-01-01T00:00:00.000Z"
        );
        let t: Timestamp = "2026-11-21T05:01:49.120Z".parse().unwrap();
        assert_eq!(t.to_string(), "2026-11-21T05:01:49.120Z");
    }

    #[test]
    fn texts_match_the_calendar_library() {
        let check = |millis: i64| {
            let expected = jiff::Timestamp::from_millisecond(millis).unwrap();
            let shown = Timestamp::from_millis(millis).to_string();
            assert_eq!(shown, format!("{expected:.3}"));
            assert_eq!(shown.parse(), Ok(Timestamp::from_millis(millis)));
            let whole = format!("{}Z", shown.split('.').next().unwrap());
            assert_eq!(
                whole.parse(),
                Ok(Timestamp::from_millis(millis.div_euclid(1000) * 1000))
            );
        };
        // Every day of two periods of 400 years, at another time each.
        for day in -146_097_i64..146_097 {
            check(day * 86_400_000 + (day * 7_919_993).rem_euclid(86_400_000));
        }
        // Random times of all years.
        for n in 0..100_000 {
            check(Timestamp::MIN.0 + n * 3_155_693_664);
        }
    }

    #[test]
    fn extremes_have_a_text_form_that_parses_back() {
        for t in [Timestamp::MIN, Timestamp::MAX] {
            assert_eq!(t.to_string().parse::<Timestamp>().unwrap(), t);
        }
        assert_eq!(Timestamp::from_millis(i64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_millis(i64::MIN), Timestamp::MIN);
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in [
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.00xZ",
            "2026x01-01T00:00:00Z",
            "+026-01-01T00:00:00Z",
            "+010000-01-01T00:00:00Z",
            "9999-12-31T23:59:59-01:00",
            "-000001-01-01T00:00:00Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn since_is_zero_when_the_clock_went_back() {
        let (a, b) = (Timestamp::from_millis(5), Timestamp::from_millis(9));
        assert_eq!(b.since(a), Duration::from_millis(4));
        assert_eq!(a.since(b), Duration::ZERO);
    }
}
