//! `forebay buffer`: the message buffer for people who don't write Rust.

use std::path::PathBuf;

use clap::Subcommand;

use crate::config::Environment;
use crate::failure::Failure;

pub(crate) mod dead;
mod input;
mod look;
mod provider;
mod send;
mod status;

/// Buffers messages on disk before Kafka or an HTTP endpoint, and delivers them in order.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  tail -F app.log | forebay buffer send --topic app --dir ./buffer --kafka localhost:9092
  forebay buffer send --topic app --dir ./buffer --kafka localhost:9092 --input ./fifo
  forebay buffer watch --dir ./buffer
  forebay buffer dead ls --dir ./buffer")]
pub(crate) enum Command {
    Send(send::Args),
    Drain(send::Drain),
    /// Lists the lanes: topics, with what waits in them.
    #[command(visible_alias = "list")]
    Ls(look::Look),
    /// Shows files, bytes, rates, lag and the state of the provider, once.
    Stat(look::Look),
    Watch(look::Watch),
    #[command(subcommand)]
    Dead(dead::Command),
}

/// Where a buffer is.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// Directory of the buffer; made if it isn't there
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

impl Place {
    /// In this directory.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The messages; beside them `send` notes its state.
    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }
}

/// Runs it.
pub(crate) fn run(command: Command, env: &Environment) -> Result<(), Failure> {
    match command {
        Command::Send(args) => send::run(args, env),
        Command::Drain(args) => send::drain(&args, env),
        Command::Ls(look) => look::ls(&look),
        Command::Stat(look) => look::stat(&look),
        Command::Watch(watch) => look::watch(&watch),
        Command::Dead(command) => dead::run(command),
    }
}
