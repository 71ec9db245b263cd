//! `forebay job`: jobs that pull records from an API or files.

use forebay_jobs::definition::JobDefinition;

use crate::cli_error::CliError;
use crate::config::Environment;
use crate::terminal;

pub(crate) mod dead;
mod progress_bar;
mod run;

pub(crate) use run::JobFileArgs;

use run::{JobRunArgs, read, run_job};

/// Pulls records from an HTTP API or from files of JSON lines into a table or another API.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum JobCommand {
    Run(JobRunArgs),
    /// Checks a job file and prints its plan.
    Check(JobFileArgs),
    /// Prints the JSON schema of job files.
    Schema,
    #[command(subcommand)]
    Dead(dead::JobDeadLetterCommand),
}

pub(crate) fn run(command: JobCommand, env: Environment) -> Result<(), CliError> {
    match command {
        JobCommand::Run(args) => run_job(args, env),
        JobCommand::Check(args) => {
            let definition = read(&args.file, &env)?;
            terminal::line(definition.plan().join("\n"))
        }
        JobCommand::Schema => terminal::line(format_args!("{:#}", JobDefinition::schema())),
        JobCommand::Dead(command) => dead::run(command, env),
    }
}
