//! `telemetry` and `shutdown`.

use forebay_model::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What Forebay says about itself. Metrics are at `/metrics` of the API's listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TelemetrySection {
    pub(crate) log: LogOutput,
}

/// Log lines, on standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LogOutput {
    /// Least important lines that are written: `error`, `warn`, `info`, `debug` or `trace`; or
    /// directives by module, like `info,forebay_flow=debug`.
    pub(crate) level: String,
    /// `text` for people, `json` for programs, `auto` for text on a terminal and JSON otherwise.
    pub(crate) format: LogFormat,
}

/// Formats of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
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
    /// Everything that can't be understood.
    pub(crate) fn problems(&self) -> Vec<String> {
        let level = &self.log.level;
        match tracing_subscriber::EnvFilter::builder().parse(level) {
            Ok(_) => Vec::new(),
            Err(e) => vec![format!(
                "log.level is \"{level}\", which is neither a level nor directives: {e}"
            )],
        }
    }
}

/// How the process ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ShutdownSection {
    /// How long a stop (SIGTERM, Ctrl-C) may take; what is under way then is broken off. Nothing
    /// that was acknowledged is lost either way. A second signal ends at once. 1s to 10m.
    pub(crate) grace: Span,
}

impl Default for ShutdownSection {
    fn default() -> Self {
        Self {
            grace: Span::secs(30),
        }
    }
}

impl ShutdownSection {
    /// Everything that is out of range.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut ranges = super::validate::Ranges::default();
        ranges.check("grace", self.grace, Span::secs(1), Span::mins(10));
        ranges.problems
    }
}
