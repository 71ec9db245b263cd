//! `forebay config`: what can be set, and whether what is set makes sense.

use clap::Subcommand;

use super::common::{Place, refused};
use super::serve;
use crate::config::{Environment, Loaded, Problem, catalog, yaml};
use crate::failure::Failure;
use crate::{data_dir, terminal, token};

/// Shows and checks the configuration.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  forebay config default > forebay.yaml
  forebay config check --config forebay.yaml
  FOREBAY_SOURCE_HTTP_LISTEN=0.0.0.0:7000 forebay config show")]
pub(crate) enum Command {
    /// Prints every setting with its default and its meaning, as a file to begin with.
    Default,
    /// Checks file and environment and says everything that is wrong with them.
    Check(Place),
    /// Prints the settings as they are in force, and who has set them; secrets are masked.
    Show(Place),
    /// Prints a JSON Schema of the configuration file, for editors.
    Schema,
}

/// Runs it.
pub(crate) fn run(command: Command, env: Environment) -> Result<(), Failure> {
    match command {
        Command::Default => terminal::data(yaml::default()),
        Command::Check(place) => {
            let loaded = place.load(env, Vec::new())?;
            check_files(&loaded)?;
            terminal::line("The configuration is in order.")
        }
        Command::Show(place) => {
            let loaded = place.load(env, Vec::new())?;
            terminal::data(yaml::effective(&loaded))
        }
        Command::Schema => terminal::line(format_args!("{:#}", catalog::schema())),
    }
}

/// What a start would find besides wrong values: certificates, tokens, folders, other systems.
fn check_files(loaded: &Loaded) -> Result<(), Failure> {
    let config = &loaded.config;
    let found = data_dir::problems(config, &loaded.env);
    let mut problems: Vec<Problem> = found.iter().map(|f| Problem::new(f.to_string())).collect();
    // Without a file that is named the start makes one.
    if config.token.is_some() || config.token_file.is_some() {
        let checked = token::of_server(config).and_then(|t| serve::authenticate(config, &t));
        if let Err(failure) = checked {
            problems.push(Problem::new(failure.to_string()));
        }
    } else if let Err(failure) = serve::configured_tokens(config) {
        problems.push(Problem::new(failure.to_string()));
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(refused(&problems))
    }
}
