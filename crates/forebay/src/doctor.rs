//! Checks of the environment of a server: this machine, and the systems that the configuration names.

mod machine;
mod ports;
mod services;

use serde::Serialize;

use crate::cli_error::CliError;
use crate::config::{Config, Environment, LoadedConfig};
use crate::terminal;

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum FindingState {
    Ok,
    Failed,
    /// Does not apply, or could not be checked.
    Skipped,
}

/// A check, and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DoctorFinding {
    pub(crate) name: String,
    pub(crate) state: FindingState,
    pub(crate) detail: String,
    /// What to do; only of a failed check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

impl DoctorFinding {
    fn ok(name: &str, detail: impl ToString) -> Self {
        Self {
            name: name.to_owned(),
            state: FindingState::Ok,
            detail: detail.to_string(),
            advice: None,
        }
    }

    fn skipped(name: &str, detail: impl ToString) -> Self {
        Self {
            state: FindingState::Skipped,
            ..Self::ok(name, detail)
        }
    }

    fn failed(name: &str, detail: impl ToString, advice: impl ToString) -> Self {
        Self {
            state: FindingState::Failed,
            advice: Some(advice.to_string()),
            ..Self::ok(name, detail)
        }
    }

    /// One line for people.
    fn line(&self, width: usize) -> String {
        let mark = match self.state {
            FindingState::Ok => '✓',
            FindingState::Failed => '✗',
            FindingState::Skipped => '–',
        };
        let advice = self.advice.as_ref().map(|a| format!(": {a}"));
        // A line each, whatever the cause says.
        let text = format!("{}{}", self.detail, advice.unwrap_or_default());
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{mark} {:width$}  {text}", self.name)
    }
}

/// All checks.
pub(crate) async fn examine(loaded: &LoadedConfig) -> Vec<DoctorFinding> {
    let (config, env) = (&loaded.config, &loaded.env);
    let mut findings = machine::examine(config).await;
    findings.extend(ports::examine(config));
    findings.extend(connections(config, env).await);
    findings
}

/// Checks of the systems that the configuration names, and of certificates and tokens.
pub(crate) async fn connections(config: &Config, env: &Environment) -> Vec<DoctorFinding> {
    let mut findings = machine::secrets(config);
    findings.extend(services::examine(config, env).await);
    findings
}

#[derive(Serialize)]
struct DoctorReport<'f> {
    findings: &'f [DoctorFinding],
    failed: usize,
}

/// Prints the findings; fails if a check failed.
pub(crate) fn report(findings: &[DoctorFinding], json: bool) -> Result<(), CliError> {
    let failed = findings.iter().filter(|f| f.state == FindingState::Failed);
    let failed = failed.count();
    if json {
        terminal::json(&DoctorReport { findings, failed })?;
    } else {
        let width = findings.iter().map(|f| f.name.len()).max().unwrap_or(0);
        for finding in findings {
            terminal::line(finding.line(width))?;
        }
    }
    match failed {
        0 => Ok(()),
        1 => Err(CliError::new("1 check failed")),
        n => Err(CliError::new(format_args!("{n} checks failed"))),
    }
}
