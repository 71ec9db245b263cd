//! Human-readable sizes and durations: `5MB`, `1m30s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Describes a setting that is out of range: name, value, allowed range. `None` if it is in the
/// range, ends included.
pub fn out_of_range<T: PartialOrd + fmt::Display>(
    name: &str,
    given: T,
    min: T,
    max: T,
) -> Option<String> {
    let is_out = given < min || given > max;
    is_out.then(|| format!("{name} is {given}, allowed is {min} to {max}"))
}

/// A number of bytes. Text form: a number with `B`, `KB`, `MB`, `GB` or `TB`, powers of 1024 (`kB`
/// is read as `KB`); a bare number is bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 5] = [
    ("TB", 1 << 40),
    ("GB", 1 << 30),
    ("MB", 1 << 20),
    ("KB", 1 << 10),
    ("B", 1),
];

impl ByteSize {
    /// From kibibytes.
    pub const fn kb(n: u64) -> Self {
        Self(n << 10)
    }

    /// From mebibytes.
    pub const fn mb(n: u64) -> Self {
        Self(n << 20)
    }
}

impl ByteSize {
    /// For display: in the largest fitting unit, with at most two decimals.
    pub fn rounded(self) -> String {
        let reached = UNITS.iter().find(|(_, factor)| self.0 >= *factor);
        let (unit, factor) = reached.copied().unwrap_or(("B", 1));
        let hundredths = (u128::from(self.0) * 100 + u128::from(factor) / 2) / u128::from(factor);
        let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
        let text = text.trim_end_matches('0').trim_end_matches('.');
        format!("{text}{unit}")
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in UNITS {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// A text that is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a size: a number with B, KB, MB, GB or TB, like 512KB")]
pub struct InvalidSize(pub String);

impl FromStr for ByteSize {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let err = || InvalidSize(text.to_owned());
        let split = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let unit = unit.trim().to_ascii_uppercase();
        let factor = match unit.as_str() {
            "" => 1,
            given => UNITS.iter().find(|(u, _)| *u == given).ok_or_else(err)?.1,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 = whole.parse().map_err(|_| err())?;
        let bytes = whole.checked_mul(factor).ok_or_else(err)?;
        if fraction.is_empty() {
            return if number.ends_with('.') {
                Err(err())
            } else {
                Ok(Self(bytes))
            };
        }
        // Six digits are more than a size needs, and keep the product within 64 bits.
        let digits = fraction.get(..6).unwrap_or(fraction);
        let part: u64 = digits.parse().map_err(|_| err())?;
        let scale = 10u64.pow(u32::try_from(digits.len()).map_err(|_| err())?);
        let part = u128::from(part) * u128::from(factor) / u128::from(scale);
        let part = u64::try_from(part).map_err(|_| err())?;
        bytes.checked_add(part).map(Self).ok_or_else(err)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum NumberOrText {
            Number(u64),
            Text(String),
        }
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(n) => Ok(Self(n)),
            NumberOrText::Text(t) => t.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// A duration in Go's text form, which the compatible API uses: `1h2m3.5s`, `50ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// From milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }

    /// Its text without trailing units of zero: `30m0s` is `30m`, `24h0m0s` is `24h`.
    pub fn short_text(self) -> String {
        let text = self.to_string();
        let text = text
            .strip_suffix("m0s")
            .map_or(text.clone(), |t| format!("{t}m"));
        text.strip_suffix("h0m")
            .map_or(text.clone(), |t| format!("{t}h"))
    }

    /// From seconds.
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// From minutes.
    pub const fn mins(n: u64) -> Self {
        Self(Duration::from_secs(n * 60))
    }

    /// From hours.
    pub const fn hours(n: u64) -> Self {
        Self(Duration::from_secs(n * 3600))
    }
}

impl fmt::Display for HumanDuration {
    /// As in Go: below a second in the largest fitting unit, else `1h0m0s`, `1m0s`, `1.5s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        for (unit, below, factor) in [
            ("ns", 1_000, 1),
            ("µs", 1_000_000, 1_000),
            ("ms", 1_000_000_000, 1_000_000),
        ] {
            if nanos < below {
                return write!(f, "{}{unit}", format_decimal(nanos, factor));
            }
        }
        let minutes = self.0.as_secs() / 60;
        let rest = format_decimal(nanos - u128::from(minutes) * 60_000_000_000, 1_000_000_000);
        match (minutes / 60, minutes % 60) {
            (0, 0) => write!(f, "{rest}s"),
            (0, m) => write!(f, "{m}m{rest}s"),
            (h, m) => write!(f, "{h}h{m}m{rest}s"),
        }
    }
}

/// `value / factor` with as many decimals as needed.
fn format_decimal(value: u128, factor: u128) -> String {
    let (whole, part) = (value / factor, value % factor);
    if part == 0 {
        return whole.to_string();
    }
    let width = factor.ilog10() as usize;
    let text = format!("{whole}.{part:0width$}");
    text.trim_end_matches('0').to_owned()
}

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a duration: numbers with ns, us, ms, s, m or h, like 1m30s")]
pub struct InvalidDuration(pub String);

impl FromStr for HumanDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let err = || InvalidDuration(text.to_owned());
        if text == "0" {
            return Ok(Self::default());
        }
        let mut rest = text;
        let mut total = 0u128;
        while !rest.is_empty() {
            let end = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(err)?;
            let (number, tail) = rest.split_at(end);
            let end = tail
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(tail.len());
            let (unit, next) = tail.split_at(end);
            let factor: u128 = match unit {
                "ns" => 1,
                "us" | "µs" | "μs" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                _ => return Err(err()),
            };
            total = multiply_decimal(number, factor)
                .and_then(|n| total.checked_add(n))
                .ok_or_else(err)?;
            rest = next;
        }
        let nanos = u64::try_from(total).map_err(|_| err())?;
        if text.is_empty() {
            Err(err())
        } else {
            Ok(Self(Duration::from_nanos(nanos)))
        }
    }
}

/// `number * factor`, where `number` may have decimals.
fn multiply_decimal(number: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        u128::from(whole.parse::<u64>().ok()?)
    };
    let digits = fraction.get(..9).unwrap_or(fraction);
    let part: u128 = if digits.is_empty() {
        0
    } else {
        digits.parse().ok()?
    };
    let scale = 10u128.pow(u32::try_from(digits.len()).ok()?);
    Some(whole * factor + part * factor / scale)
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for ByteSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": r"^[0-9]+(\.[0-9]+)?\s*([kKMGT]?B)?$",
            "examples": ["512KB"]
        })
    }
}

impl schemars::JsonSchema for HumanDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": r"^(0|([0-9]*\.?[0-9]+(ns|us|µs|ms|s|m|h))+)$",
            "examples": ["1m30s"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        for (text, bytes, shown) in [
            ("512KB", 524_288, "512KB"),
            ("5MB", 5_242_880, "5MB"),
            ("100B", 100, "100B"),
            ("64kB", 65_536, "64KB"),
            ("1.5MB", 1_572_864, "1536KB"),
            ("7", 7, "7B"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown));
        }
        for bad in ["", "MB", "5XB", "-1", "1.", "99999999999TB", "1 2MB", "ß"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_rounded_for_people() {
        for (bytes, shown) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KB"),
            (1536, "1.5KB"),
            (5_242_880, "5MB"),
            (1_234_567, "1.18MB"),
            (1 << 30, "1GB"),
            (u64::MAX, "16777216TB"),
        ] {
            assert_eq!(ByteSize(bytes).rounded(), shown);
        }
    }

    #[test]
    fn durations_read_and_print_as_go_does() {
        for (text, shown) in [
            ("50ms", "50ms"),
            ("1m", "1m0s"),
            ("1h", "1h0m0s"),
            ("1.5s", "1.5s"),
            ("90s", "1m30s"),
            ("0", "0s"),
            ("1h0m0.5s", "1h0m0.5s"),
            ("250us", "250µs"),
            (".5s", "500ms"),
        ] {
            assert_eq!(text.parse::<HumanDuration>().unwrap().to_string(), shown);
        }
        for bad in ["", "foo", "5", "1x", "-1s", ".s", "9999999999h", "1.2.3s"] {
            assert!(bad.parse::<HumanDuration>().is_err(), "{bad}");
        }
    }
}
