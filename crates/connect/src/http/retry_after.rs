//! Parser of `Retry-After`.

use std::time::{Duration, SystemTime};

use forebay_model::Timestamp;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// `Retry-After`: seconds, also with the fraction that some servers send, or a date. A date is
/// relative to the server's `Date` header if there is one, so that clocks need not agree. `None`
/// when it is missing or invalid.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Some(wait) = seconds(text) {
        return Some(wait);
    }
    let until = millis(text)?;
    let theirs = headers.get(DATE).and_then(|v| v.to_str().ok());
    let now = theirs.and_then(millis).unwrap_or_else(|| now.as_millis());
    let wait = until.saturating_sub(now);
    Some(Duration::from_millis(u64::try_from(wait).unwrap_or(0)))
}

/// Digits with an optional decimal fraction; no sign, no exponent.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    // Saturate on overflow; the caller limits the delay.
    let whole = whole.parse().unwrap_or(u64::MAX);
    let fraction = format!("0.{fraction}").parse::<f64>().ok()?;
    let wait = Duration::from_secs(whole);
    Some(wait.saturating_add(Duration::try_from_secs_f64(fraction).ok()?))
}

fn millis(text: &str) -> Option<i64> {
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    let since = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, date: Option<&str>) -> Option<Duration> {
        let now = "2026-11-21T08:00:00.000Z".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, text.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        retry_after(&headers, now)
    }

    #[test]
    fn seconds_may_have_a_fraction() {
        for (text, millis) in [("7", 7_000), ("2.0", 2_000), (" 0.25 ", 250), ("0", 0)] {
            assert_eq!(
                read(text, None),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        assert_eq!(
            read(&"9".repeat(40), None),
            Some(Duration::from_secs(u64::MAX))
        );
        for text in [
            "soon", "-3", "1e3", "+1", ".5", "1.", "1.2.3", "inf", "NaN", "0x1", "",
        ] {
            assert_eq!(read(text, None), None, "{text}");
        }
    }

    #[test]
    fn a_date_is_relative_to_the_servers_time() {
        for text in [
            "Sat, 21 Nov 2026 08:01:30 GMT",
            "Saturday, 21-Nov-26 08:01:30 GMT",
            "Sat Nov 21 08:01:30 2026",
        ] {
            assert_eq!(read(text, None), Some(Duration::from_secs(90)), "{text}");
        }
        let until = "Sat, 21 Nov 2026 08:01:30 GMT";
        let theirs = Some("Sat, 21 Nov 2026 08:01:20 GMT");
        assert_eq!(read(until, theirs), Some(Duration::from_secs(10)));
        assert_eq!(read(until, Some("nonsense")), Some(Duration::from_secs(90)));
        let past = read("Sat, 21 Nov 2026 07:00:00 GMT", None);
        assert_eq!(past, Some(Duration::ZERO));
    }
}
