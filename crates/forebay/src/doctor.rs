//! Checks of the environment of a server: this machine, and the systems that the configuration names.

mod finding;
mod machine;
mod ports;
mod services;

use serde::Serialize;

use crate::cli_error::CliError;
use crate::config::{Config, Environment, LoadedConfig};
use crate::terminal;

pub(crate) use finding::{DoctorFinding, FindingState};

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
