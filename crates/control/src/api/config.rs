//! Configuration of the management API.

use forebay_model::quota::REQUESTS_MAX;
use forebay_model::{ByteSize, HumanDuration, out_of_range};

/// The management API: public addresses and limits. Without a comment, a field is the key of that
/// name in the section `api` of the configuration, where it is documented.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiConfig {
    /// Public URL of the management API; prefix of links to tasks and the documentation.
    pub public_url: String,
    /// Public URL of the HTTP source; prefix of the addresses of sources.
    pub source_public_url: String,
    pub body_limit: ByteSize,
    pub max_bytes_in_flight: ByteSize,
    pub request_timeout: HumanDuration,
    pub reconcile_timeout: HumanDuration,
    pub task_timeout: HumanDuration,
    pub table_check_timeout: HumanDuration,
    pub requests_per_second: u64,
    pub wrong_tokens_per_second: u64,
    pub max_taps: u32,
    pub tap_records_per_second: u64,
    pub support_contact: String,
    pub raw_string: bool,
    /// Whether an error about something too long names the setting of the limit. Otherwise the
    /// message is the one of the compatible service.
    pub name_limits: bool,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            public_url: "http://localhost:8000".to_owned(),
            source_public_url: "http://localhost:7000".to_owned(),
            body_limit: ByteSize::mb(2),
            max_bytes_in_flight: ByteSize::mb(32),
            request_timeout: HumanDuration::secs(30),
            reconcile_timeout: HumanDuration::secs(5),
            task_timeout: HumanDuration::mins(5),
            table_check_timeout: HumanDuration::secs(5),
            requests_per_second: 500,
            wrong_tokens_per_second: 5,
            max_taps: 4,
            tap_records_per_second: 200,
            support_contact: String::new(),
            raw_string: true,
            name_limits: false,
        }
    }
}

impl ApiConfig {
    /// All settings out of range: name, value and allowed range.
    pub fn violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        for (name, url) in [
            ("publicUrl", &self.public_url),
            ("sourcePublicUrl", &self.source_public_url),
        ] {
            if !is_http_url(url) {
                violations.push(format!(
                    "{name} is \"{url}\", must be a URL like http://localhost:8000"
                ));
            }
        }
        let rates = [
            ("requestsPerSecond", self.requests_per_second),
            ("wrongTokensPerSecond", self.wrong_tokens_per_second),
        ];
        let rates = rates.map(|(name, given)| out_of_range(name, given, 0, REQUESTS_MAX));
        violations.extend(rates.into_iter().flatten());
        violations.extend(out_of_range("maxTaps", self.max_taps, 0, 64));
        let rate = self.tap_records_per_second;
        violations.extend(out_of_range("tapRecordsPerSecond", rate, 20, 10_000));
        violations.extend(self.body_violations());
        for (name, given, min, max) in [
            (
                "requestTimeout",
                self.request_timeout,
                HumanDuration::secs(1),
                HumanDuration::mins(10),
            ),
            (
                "reconcileTimeout",
                self.reconcile_timeout,
                HumanDuration::secs(0),
                HumanDuration::mins(1),
            ),
            (
                "taskTimeout",
                self.task_timeout,
                HumanDuration::secs(1),
                HumanDuration::hours(1),
            ),
            (
                "tableCheckTimeout",
                self.table_check_timeout,
                HumanDuration::millis(100),
                HumanDuration::secs(30),
            ),
        ] {
            violations.extend(out_of_range(name, given, min, max));
        }
        violations
    }

    fn body_violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let (min, max) = (ByteSize::mb(1), ByteSize::mb(4 << 10));
        violations.extend(out_of_range(
            "maxBytesInFlight",
            self.max_bytes_in_flight,
            min,
            max,
        ));
        if self.body_limit > self.max_bytes_in_flight {
            violations.push(format!(
                "maxBytesInFlight is {}, must hold at least one body of {}",
                self.max_bytes_in_flight, self.body_limit
            ));
        }
        let (min, max) = (ByteSize::kb(1), ByteSize::mb(16));
        violations.extend(out_of_range("bodyLimit", self.body_limit, min, max));
        violations
    }
}

/// Whether paths can be appended to a URL: it has a host, and nothing after the path.
pub fn is_http_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else {
        return false;
    };
    let Some(authority) = uri.authority() else {
        return false;
    };
    let host = authority.host();
    // The library leaves an invalid port as part of the host.
    let rest = authority.as_str().rsplit('@').next().unwrap_or_default();
    let rest = rest.strip_prefix(host).unwrap_or(rest);
    let has_port = rest.is_empty() || authority.port_u16().is_some_and(|port| port > 0);
    matches!(uri.scheme_str(), Some("http" | "https"))
        && !host.is_empty()
        && has_port
        && uri.query().is_none()
}

/// `url` without trailing slashes, so that a path can be appended.
pub(super) fn base(url: &str) -> &str {
    url.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_violations_name_the_setting() {
        assert_eq!(ApiConfig::default().violations(), Vec::<String>::new());
        let config = ApiConfig {
            public_url: "localhost".to_owned(),
            source_public_url: "ftp://x".to_owned(),
            body_limit: ByteSize(1),
            task_timeout: HumanDuration::millis(1),
            ..ApiConfig::default()
        };
        assert_eq!(
            config.violations(),
            [
                "publicUrl is \"localhost\", must be a URL like http://localhost:8000",
                "sourcePublicUrl is \"ftp://x\", must be a URL like http://localhost:8000",
                "bodyLimit is 1B, allowed is 1KB to 16MB",
                "taskTimeout is 1ms, allowed is 1s to 1h0m0s",
            ]
        );
    }

    #[test]
    fn uncallable_addresses_are_rejected() {
        for good in [
            "http://x",
            "https://x.example:8443/a/",
            "http://[::1]:80",
            "http://u@x:1",
        ] {
            assert!(is_http_url(good), "{good}");
        }
        for bad in [
            "",
            "x",
            "ftp://x",
            "http://",
            "http://x:99999",
            "http://x:0",
            "http://x:",
            "http://x:a",
            "http://x?a=b",
            "http://[::1]:70000",
            "http://x y",
        ] {
            assert!(!is_http_url(bad), "{bad}");
        }
    }
}
