//! `forebay buffer`: the message buffer as a command.

use clap::Subcommand;

use crate::cli_error::CliError;
use crate::config::Environment;

mod args;
pub(crate) mod dead;
mod input;
mod inspect;
mod provider;
mod send;
mod status;

pub(crate) use args::BufferArgs;

/// Buffers messages on disk before Kafka or an HTTP endpoint, and delivers them in order.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  tail -F app.log | forebay buffer send --topic app --dir ./buffer --kafka localhost:9092
  forebay buffer send --topic app --dir ./buffer --kafka localhost:9092 --input ./fifo
  forebay buffer watch --dir ./buffer
  forebay buffer dead ls --dir ./buffer")]
pub(crate) enum BufferCommand {
    Send(send::BufferSendArgs),
    Drain(send::BufferDrainArgs),
    /// Lists topics with their queued messages.
    #[command(visible_alias = "list")]
    Ls(inspect::BufferViewArgs),
    /// Shows files, bytes, rates, lag and the state of the provider, once.
    Stat(inspect::BufferViewArgs),
    Watch(inspect::BufferWatchArgs),
    #[command(subcommand)]
    Dead(dead::BufferDeadLetterCommand),
}

pub(crate) fn run(command: BufferCommand, env: &Environment) -> Result<(), CliError> {
    match command {
        BufferCommand::Send(args) => send::run(args, env),
        BufferCommand::Drain(args) => send::drain(&args, env),
        BufferCommand::Ls(args) => inspect::ls(&args),
        BufferCommand::Stat(args) => inspect::stat(&args),
        BufferCommand::Watch(args) => inspect::watch(&args),
        BufferCommand::Dead(command) => dead::run(command),
    }
}
