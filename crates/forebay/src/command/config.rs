//! `forebay config`: what can be set, and whether what is set makes sense.

use clap::Subcommand;

use super::common::Place;
use crate::config::{Environment, catalog, yaml};
use crate::failure::Failure;
use crate::terminal;

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
            place.load(env, Vec::new())?;
            terminal::line("The configuration is in order.")
        }
        Command::Show(place) => {
            let loaded = place.load(env, Vec::new())?;
            terminal::data(yaml::effective(&loaded))
        }
        Command::Schema => terminal::line(format_args!("{:#}", catalog::schema())),
    }
}
