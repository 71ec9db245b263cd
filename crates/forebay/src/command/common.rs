//! Arguments of several commands.

use std::path::PathBuf;

use forebay_model::DeadLetterSelection;

use crate::cli_error::CliError;
use crate::config::{
    self, ConfigSources, ConfigViolation, Environment, FlagSettings, LoadedConfig,
};
use crate::terminal::Verbosity;

/// Location of configuration and data.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file (YAML) [env: FOREBAY_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data directory [default: forebay-data] [env: FOREBAY_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

impl ConfigArgs {
    /// Loads the configuration, with further flags over it; returns all violations.
    pub(crate) fn load(
        &self,
        env: Environment,
        flags: FlagSettings,
    ) -> Result<LoadedConfig, CliError> {
        config::load(&self.sources(env, flags)).map_err(|problems| violations_error(&problems))
    }

    /// Sources of the configuration, with further flags over it.
    pub(crate) fn sources(&self, env: Environment, mut flags: FlagSettings) -> ConfigSources {
        if let Some(dir) = &self.data_dir {
            flags.insert(
                0,
                (
                    "--data-dir",
                    "dataDir".to_owned(),
                    dir.display().to_string(),
                ),
            );
        }
        let file = config::file_from(self.config.as_deref(), &env);
        ConfigSources { file, env, flags }
    }
}

/// Arguments of commands that connect to a server.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    pub(crate) place: ConfigArgs,
    /// Address of the management API [default: that of the server running on the data directory, else
    /// http://127.0.0.1:8000] [env: FOREBAY_API]
    #[arg(long, value_name = "URL")]
    pub(crate) api: Option<String>,
    /// File with additional CA certificates (PEM) for the server [default: `api.tls.certFile`] [env:
    /// FOREBAY_API_CA]
    #[arg(long, value_name = "FILE")]
    pub(crate) api_ca: Option<PathBuf>,
    /// File with the token [default: the file `token` in the data directory] [env: FOREBAY_TOKEN
    /// for the token itself]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print only results and errors, no notes
    #[arg(long, short, conflicts_with = "verbose")]
    quiet: bool,
    /// Print each request to the server, with its status and duration
    #[arg(long, short)]
    verbose: bool,
}

impl ServerArgs {
    pub(crate) fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Usual,
        }
    }
}

/// Error with each violation on its own line.
pub(crate) fn violations_error(problems: &[ConfigViolation]) -> CliError {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    match lines.as_slice() {
        [one] => CliError::usage(one),
        many => CliError::usage(format_args!(
            "the configuration has {} problems:\n  {}",
            many.len(),
            many.join("\n  ")
        )),
    }
    .hint("`forebay config default` prints every setting with its meaning")
}

/// Selects the dead letters of these numbers; none selects all.
pub(super) fn dead_letter_selection(numbers: Vec<u64>) -> DeadLetterSelection {
    if numbers.is_empty() {
        DeadLetterSelection::ALL
    } else {
        DeadLetterSelection::These(numbers)
    }
}
