//! `forebay config`: shows and checks the configuration.

use clap::Subcommand;

use super::common::{ConfigArgs, violations_error};
use crate::api_client::block_on;
use crate::cli_error::CliError;
use crate::config::{ConfigViolation, Environment, LoadedConfig, catalog, yaml};
use crate::{doctor, preflight, terminal, token};

/// Shows and checks the configuration.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  forebay config default > forebay.yaml
  forebay config check --config forebay.yaml
  FOREBAY_SOURCE_HTTP_LISTEN=0.0.0.0:7000 forebay config show")]
pub(crate) enum ConfigCommand {
    /// Prints every setting with its default and meaning, as a file to start from.
    Default,
    /// Checks file and environment and reports all violations.
    Check(ConfigCheckArgs),
    /// Prints the effective settings and their origin; secrets are masked.
    Show(ConfigArgs),
    /// Prints a JSON Schema of the configuration file, for editors.
    Schema,
}

/// File and environment to check.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigCheckArgs {
    /// Also connect to staging, PostgreSQL and providers, and check tokens and certificates; `forebay
    /// doctor` checks this machine too
    #[arg(long)]
    connect: bool,
    #[command(flatten)]
    place: ConfigArgs,
}

pub(crate) fn run(command: ConfigCommand, env: Environment) -> Result<(), CliError> {
    match command {
        ConfigCommand::Default => terminal::data(yaml::default()),
        ConfigCommand::Check(args) => {
            let loaded = args.place.load(env, Vec::new())?;
            check_files(&loaded)?;
            if args.connect {
                let connections = doctor::connections(&loaded.config, &loaded.env);
                let findings = block_on(async { Ok(connections.await) })?;
                doctor::report(&findings, false)?;
            }
            terminal::line("The configuration is valid.")
        }
        ConfigCommand::Show(config_args) => {
            let loaded = config_args.load(env, Vec::new())?;
            terminal::data(yaml::effective(&loaded))
        }
        ConfigCommand::Schema => terminal::line(format_args!("{:#}", catalog::schema())),
    }
}

/// Checks that need other files and systems: certificates, tokens, folders.
fn check_files(loaded: &LoadedConfig) -> Result<(), CliError> {
    let config = &loaded.config;
    let found = preflight::violations(config, &loaded.env);
    let mut problems: Vec<ConfigViolation> = found
        .iter()
        .map(|f| ConfigViolation::new(f.to_string()))
        .collect();
    // Without a configured file the start creates one.
    if config.token.is_some() || config.token_file.is_some() {
        let checked = token::for_server(config).and_then(|t| token::authenticate(config, &t));
        if let Err(failure) = checked {
            problems.push(ConfigViolation::new(failure.to_string()));
        }
    } else if let Err(failure) = token::configured_tokens(config) {
        problems.push(ConfigViolation::new(failure.to_string()));
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(violations_error(&problems))
    }
}
