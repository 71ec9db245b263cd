//! `telemetry` and `shutdown`.

use std::net::SocketAddr;

use forebay_model::HumanDuration;
use forebay_schema::SecretText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::otlp::OtlpSection;

/// Metrics and logs.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TelemetrySection {
    pub(crate) log: LogOutput,
    pub(crate) metrics: MetricsSection,
    pub(crate) otlp: OtlpSection,
}

/// Metrics at `/metrics`. The API listener shows metrics of the whole process to every client; series
/// with names of projects, sources or sinks need this token or an operator's.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MetricsSection {
    /// Address and port of a separate listener for metrics, with the limits and the TLS of `api`; then
    /// the API listener has no metrics. It shows all series to every client unless there is a token.
    pub(crate) listen: Option<SocketAddr>,
    /// Token required for metrics, sent as `Authorization: Bearer …`.
    pub(crate) token: Option<SecretText>,
    /// How often the state of all sinks is read for metrics and for log lines about sinks that fail or
    /// recover; less often when reading takes long. 1s to 10m.
    pub(crate) interval: HumanDuration,
    /// Maximum number of sinks with series of their own, failing ones first. 0 to 100000.
    pub(crate) max_sinks: u32,
}

impl Default for MetricsSection {
    fn default() -> Self {
        Self {
            listen: None,
            token: None,
            interval: HumanDuration::secs(5),
            max_sinks: 1_000,
        }
    }
}

/// Log lines on standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LogOutput {
    /// Minimum level: `error`, `warn`, `info`, `debug` or `trace`; or directives by module, like
    /// `info,forebay_ingest=debug`.
    pub(crate) level: String,
    /// `text`, `json`, or `auto` for text on a terminal and JSON otherwise.
    pub(crate) format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One JSON object per line.
    Json,
    /// Text for humans.
    Text,
}

impl Default for LogOutput {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Auto,
        }
    }
}

impl TelemetrySection {
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let level = &self.log.level;
        if let Err(e) = tracing_subscriber::EnvFilter::builder().parse(level) {
            problems.push(format!(
                "log.level is \"{level}\", which is neither a level nor directives: {e}"
            ));
        }
        for word in level.split(',').filter(|d| is_no_level(d.trim())) {
            problems.push(format!(
                "log.level has \"{word}\", allowed are off, error, warn, info, debug, trace and directives like forebay_ingest=debug"
            ));
        }
        let token = self.metrics.token.as_ref().map(SecretText::expose);
        if token.is_some_and(|t| t.is_empty() || !t.bytes().all(|b| b.is_ascii_graphic())) {
            problems.push("metrics.token must be one word of visible ASCII characters".to_owned());
        }
        let mut ranges = super::ranges::RangeViolations::default();
        let (min, max) = (HumanDuration::secs(1), HumanDuration::mins(10));
        ranges.check("metrics.interval", self.metrics.interval, min, max);
        ranges.check("metrics.maxSinks", self.metrics.max_sinks, 0, 100_000);
        self.otlp.add_violations(&mut ranges);
        problems.extend(ranges.violations);
        problems
    }
}

/// A directive that is a single word but no level, such as `warning` or `inof`. The library would use
/// it as a module name and log nothing else.
fn is_no_level(directive: &str) -> bool {
    let is_word = !directive.contains(['=', '[', ':']);
    let is_level = directive
        .parse::<tracing_subscriber::filter::LevelFilter>()
        .is_ok();
    is_word && (directive.is_empty() || !is_level)
}

/// Shutdown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ShutdownSection {
    /// How long a stop (SIGTERM, Ctrl-C) may take; then work in progress is aborted. Acknowledged
    /// records are never lost. A second signal stops immediately. 1s to 10m.
    pub(crate) grace: HumanDuration,
}

impl Default for ShutdownSection {
    fn default() -> Self {
        Self {
            grace: HumanDuration::secs(30),
        }
    }
}

impl ShutdownSection {
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut ranges = super::ranges::RangeViolations::default();
        ranges.check(
            "grace",
            self.grace,
            HumanDuration::secs(1),
            HumanDuration::mins(10),
        );
        ranges.violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_rejected() {
        let problems = |level: &str| {
            let mut telemetry = TelemetrySection::default();
            level.clone_into(&mut telemetry.log.level);
            telemetry.violations()
        };
        for fine in [
            "off",
            "INFO",
            "warn,forebay_ingest=debug",
            "forebay_ingest::source=trace, error",
        ] {
            assert_eq!(problems(fine), Vec::<String>::new(), "{fine}");
        }
        for bad in ["verbose", "warning", "info,forebay_ingest", ""] {
            let said = problems(bad).join("\n");
            assert!(
                said.contains("allowed are off, error, warn"),
                "{bad}: {said}"
            );
        }
    }
}
