//! `forebay doctor`: checks the environment of a server.

use super::common::ConfigArgs;
use crate::api_client::block_on;
use crate::cli_error::CliError;
use crate::config::Environment;
use crate::doctor;

/// Checks this machine and the systems that the configuration names, and says what to do.
///
/// Nothing is changed: a probe file in the data directory and a probe object in staging are deleted
/// again. Each line is a check: ✓ works, ✗ failed, – does not apply. The exit code is 1 if any failed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay doctor --data-dir ./data
  forebay doctor --config /etc/forebay/forebay.yaml --json")]
pub(crate) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: ConfigArgs,
}

pub(crate) fn run(args: &DoctorArgs, env: Environment) -> Result<(), CliError> {
    let loaded = args.place.load(env, Vec::new())?;
    let findings = block_on(async { Ok(doctor::examine(&loaded).await) })?;
    doctor::report(&findings, args.json)
}
