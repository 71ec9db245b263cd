//! `forebay config`: shows and checks the configuration.

use clap::Subcommand;

use super::common::{ConfigArgs, violations_error};
use super::serve;
use crate::cli_error::CliError;
use crate::config::{ConfigViolation, Environment, LoadedConfig, catalog, yaml};
use crate::{data_dir, terminal, token};

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
    Check(ConfigArgs),
    /// Prints the effective settings and their origin; secrets are masked.
    Show(ConfigArgs),
    /// Prints a JSON Schema of the configuration file, for editors.
    Schema,
}

pub(crate) fn run(command: ConfigCommand, env: Environment) -> Result<(), CliError> {
    match command {
        ConfigCommand::Default => terminal::data(yaml::default()),
        ConfigCommand::Check(config_args) => {
            let loaded = config_args.load(env, Vec::new())?;
            check_files(&loaded)?;
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
    let found = data_dir::violations(config, &loaded.env);
    let mut problems: Vec<ConfigViolation> = found
        .iter()
        .map(|f| ConfigViolation::new(f.to_string()))
        .collect();
    // Without a configured file the start creates one.
    if config.token.is_some() || config.token_file.is_some() {
        let checked = token::for_server(config).and_then(|t| serve::authenticate(config, &t));
        if let Err(failure) = checked {
            problems.push(ConfigViolation::new(failure.to_string()));
        }
    } else if let Err(failure) = serve::configured_tokens(config) {
        problems.push(ConfigViolation::new(failure.to_string()));
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(violations_error(&problems))
    }
}
