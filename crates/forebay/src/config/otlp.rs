//! `telemetry.otlp`.

use forebay_model::HumanDuration;
use forebay_schema::SecretText;
use http::{HeaderMap, HeaderName};
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ranges::RangeViolations;

/// Export of metrics and traces by OTLP over HTTP (protobuf), for binaries with the feature `otlp`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OtlpSection {
    /// URL of the receiver, like `http://collector:4318`; `/v1/metrics` and `/v1/traces` are appended.
    /// Nothing is exported without it.
    pub(crate) endpoint: Option<SecretText>,
    /// Headers of each request: `name=value`, separated by commas.
    pub(crate) headers: Option<SecretText>,
    /// Whether metrics are exported: all those of `/metrics`.
    pub(crate) metrics: bool,
    /// Percentage of traces that are exported: requests, commits, uploads, imports, tasks and
    /// deliveries. 0 to 100.
    pub(crate) trace_percent: u32,
    /// Interval between exports of metrics. 1s to 10m.
    pub(crate) interval: HumanDuration,
    /// Timeout of a request. 100ms to 1m.
    pub(crate) timeout: HumanDuration,
}

impl Default for OtlpSection {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers: None,
            metrics: true,
            trace_percent: 1,
            interval: HumanDuration::secs(15),
            timeout: HumanDuration::secs(10),
        }
    }
}

impl OtlpSection {
    /// The endpoint as a URL.
    pub(crate) fn url(&self) -> Option<Result<Url, &'static str>> {
        const ALLOWED: &str = "is no URL, allowed are http://host:port and https://host:port";
        let endpoint = self.endpoint.as_ref()?;
        let url = Url::parse(endpoint.expose()).map_err(|_| ALLOWED);
        Some(url.and_then(|url| {
            let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
            is_http.then_some(url).ok_or(ALLOWED)
        }))
    }

    /// The headers of each request.
    pub(crate) fn header_map(&self) -> Result<HeaderMap, &'static str> {
        const ALLOWED: &str = "is not valid, allowed is name=value, separated by commas";
        let mut headers = HeaderMap::new();
        let text = self.headers.as_ref().map_or("", SecretText::expose);
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(ALLOWED)?;
            let name = HeaderName::try_from(name.trim()).map_err(|_| ALLOWED)?;
            let value = forebay_connect::http::secret_header(value.trim()).map_err(|_| ALLOWED)?;
            headers.insert(name, value);
        }
        Ok(headers)
    }

    /// Appends violations, with keys below `telemetry`.
    pub(super) fn add_violations(&self, ranges: &mut RangeViolations) {
        if self.endpoint.is_some() && !cfg!(feature = "otlp") {
            ranges.add_violation(
                "otlp.endpoint is set, but this binary was built without the feature otlp",
            );
        }
        if let Some(Err(problem)) = self.url() {
            ranges.add_violation(&format!("otlp.endpoint {problem}"));
        }
        if let Err(problem) = self.header_map() {
            ranges.add_violation(&format!("otlp.headers {problem}"));
        }
        let (min, max) = (HumanDuration::secs(1), HumanDuration::mins(10));
        ranges.check("otlp.interval", self.interval, min, max);
        let (min, max) = (HumanDuration::millis(100), HumanDuration::mins(1));
        ranges.check("otlp.timeout", self.timeout, min, max);
        ranges.check("otlp.tracePercent", self.trace_percent, 0, 100);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> OtlpSection {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn headers_have_the_form_of_the_standard_variable() {
        let headers = section("headers: 'api-key=a=b, x-tenant = 7,'").header_map();
        let headers = headers.unwrap();
        assert_eq!(headers["api-key"], "a=b");
        assert_eq!(headers["x-tenant"], "7");
        for bad in ["api-key", "a b=c", "=c", "k=\u{1}"] {
            let bad = section(&format!("headers: {}", serde_json::json!(bad)));
            assert!(bad.header_map().is_err());
        }
    }

    #[test]
    fn every_violation_names_its_key_and_no_secret() {
        let bad = section(
            "{endpoint: 'ftp://u:hush@x', headers: hush, tracePercent: 101, interval: 1ms, timeout: 2m}",
        );
        let mut ranges = RangeViolations::default();
        bad.add_violations(&mut ranges);
        let said = ranges.violations.join("\n");
        for part in [
            "otlp.endpoint is no URL, allowed are http://",
            "otlp.headers is not valid, allowed is name=value",
            "otlp.tracePercent is 101, allowed is 0 to 100",
            "otlp.interval is 1ms",
            "otlp.timeout is 2m",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("hush") && !format!("{bad:?}").contains("hush"));
    }
}
