//! Formats times like C's `strftime`, in UTC and English.

use std::fmt::Write as _;

use forebay_model::Timestamp;

/// Format of `Now()`.
pub(super) const DEFAULT_FORMAT: &str = "%Y-%m-%dT%H:%M:%S.%fZ";

/// Error of parsing a format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Unknown letter after a `%`.
    #[error("unknown specification %{0} in the time format")]
    Unknown(char),
    /// A `%` at the end.
    #[error("a lone % at the end of the time format")]
    Lone,
}

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

struct TimeParts {
    year: i16,
    month: i8,
    day: i8,
    hour: i8,
    minute: i8,
    second: i8,
    millis: i16,
    /// From 0 for Sunday.
    weekday: i8,
    /// From 1.
    year_day: i16,
}

/// Formats a time. Supports `%Y %m %d %H %I %M %S %p %a %A %b %B %y %Z %z %%`, `%f` for
/// milliseconds (3 digits), and the other specifications of the reference service: `%C %c %D %e %F
/// %h %j %k %l %n %R %r %T %t %U %u %V %v %W %w %X %x`.
pub fn strftime(at: Timestamp, format: &str) -> Result<String, FormatError> {
    let parts = TimeParts::from_timestamp(at);
    let mut out = String::with_capacity(format.len() + 16);
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c == '%' {
            parts.write(chars.next().ok_or(FormatError::Lone)?, &mut out)?;
        } else {
            out.push(c);
        }
    }
    Ok(out)
}

impl TimeParts {
    fn from_timestamp(at: Timestamp) -> Self {
        // Every `Timestamp` is within the range of the calendar.
        let moment = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or_default();
        let time = jiff::tz::Offset::UTC.to_datetime(moment);
        Self {
            year: time.year(),
            month: time.month(),
            day: time.day(),
            hour: time.hour(),
            minute: time.minute(),
            second: time.second(),
            millis: time.millisecond(),
            weekday: time.weekday().to_sunday_zero_offset(),
            year_day: time.day_of_year(),
        }
    }

    fn day_name(&self) -> &'static str {
        DAYS[usize::try_from(self.weekday).unwrap_or(0) % 7]
    }

    fn month_name(&self) -> &'static str {
        MONTHS[usize::try_from(self.month - 1).unwrap_or(0) % 12]
    }

    fn hour12(&self) -> i8 {
        match self.hour % 12 {
            0 => 12,
            hour => hour,
        }
    }

    /// Week of the year, if weeks start on day `first` (0: Sunday).
    fn week(&self, first: i16) -> i16 {
        let weekday = (i16::from(self.weekday) + 7 - first) % 7;
        (self.year_day - 1 + 7 - weekday) / 7
    }

    /// Week of ISO 8601.
    fn iso_week(&self) -> i8 {
        jiff::civil::Date::new(self.year, self.month, self.day)
            .map_or(1, |date| date.iso_week_date().week())
    }

    fn write(&self, spec: char, out: &mut String) -> Result<(), FormatError> {
        let short = |name: &'static str| name.get(..3).unwrap_or(name);
        // Writing into a string can't fail.
        let done = match spec {
            '%' => write!(out, "%"),
            'n' => writeln!(out),
            't' => write!(out, "\t"),
            'A' => write!(out, "{}", self.day_name()),
            'a' => write!(out, "{}", short(self.day_name())),
            'B' => write!(out, "{}", self.month_name()),
            'b' | 'h' => write!(out, "{}", short(self.month_name())),
            'C' => write!(out, "{:02}", self.year / 100),
            'd' => write!(out, "{:02}", self.day),
            'e' => write!(out, "{:2}", self.day),
            'f' => write!(out, "{:03}", self.millis),
            'H' => write!(out, "{:02}", self.hour),
            'I' => write!(out, "{:02}", self.hour12()),
            'j' => write!(out, "{:03}", self.year_day),
            'k' => write!(out, "{:2}", self.hour),
            'l' => write!(out, "{:2}", self.hour12()),
            'M' => write!(out, "{:02}", self.minute),
            'm' => write!(out, "{:02}", self.month),
            'p' => write!(out, "{}", if self.hour < 12 { "AM" } else { "PM" }),
            'S' => write!(out, "{:02}", self.second),
            'U' => write!(out, "{:02}", self.week(0)),
            'u' => write!(out, "{}", if self.weekday == 0 { 7 } else { self.weekday }),
            'V' => write!(out, "{:02}", self.iso_week()),
            'W' => write!(out, "{:02}", self.week(1)),
            'w' => write!(out, "{}", self.weekday),
            'Y' => write!(out, "{:04}", self.year),
            'y' => write!(out, "{:02}", self.year % 100),
            'Z' => write!(out, "UTC"),
            'z' => write!(out, "+0000"),
            _ => return self.write_composed(spec, out),
        };
        debug_assert!(done.is_ok());
        Ok(())
    }

    /// Specifications that combine others.
    fn write_composed(&self, spec: char, out: &mut String) -> Result<(), FormatError> {
        let specs = match spec {
            'c' => "a b e T Y",
            'D' | 'x' => "m/d/y",
            'F' => "Y-m-d",
            'R' => "H:M",
            'r' => "I:M:S p",
            'T' | 'X' => "H:M:S",
            'v' => "e-b-Y",
            unknown => return Err(FormatError::Unknown(unknown)),
        };
        for c in specs.chars() {
            if c.is_ascii_alphabetic() {
                self.write(c, out)?;
            } else {
                out.push(c);
            }
        }
        Ok(())
    }
}
