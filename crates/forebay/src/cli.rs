//! The command line.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::command;
use crate::config::Environment;
use crate::failure::Failure;
use crate::{terminal, version};

/// Takes records over HTTP, has them on disk before it answers, and brings each of them into a
/// table exactly once.
#[derive(Debug, Parser)]
#[command(
    name = "forebay",
    version = version::LONG,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = EXAMPLES
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  forebay demo                                    see it work, in a temporary directory
  forebay serve --data-dir ./data                 run it
  forebay apply -f events.yaml --data-dir ./data  define what comes in and where it goes
  forebay query 'SELECT count(*) FROM \"in.demo.events\"' --data-dir ./data

Exit codes:
  0  done
  1  it did not work; standard error says why
  2  wrong usage, or a configuration or definition that makes no sense: nothing was begun";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(command::serve::Args),
    Demo(command::demo::Args),
    Apply(command::apply::Args),
    #[command(subcommand)]
    Source(command::source::Command),
    #[command(subcommand)]
    Token(command::token::Command),
    #[command(subcommand)]
    Quota(command::quota::Command),
    #[command(subcommand)]
    Table(command::table::Command),
    Query(command::query::Args),
    Backup(command::backup::Args),
    Restore(command::restore::Args),
    Retry(command::retry::Args),
    #[command(subcommand)]
    Dead(command::dead::Command),
    #[command(subcommand)]
    Job(command::job::Command),
    Lookup(command::lookup::Args),
    #[command(subcommand)]
    Log(command::log::Command),
    #[command(subcommand)]
    Buffer(command::buffer::Command),
    #[command(subcommand)]
    Config(command::config::Command),
    Completions(command::completions::Args),
    /// Prints version, commit and target.
    Version,
    #[command(hide = true)]
    Reference(command::reference::Args),
    /// Runs templates for a server; started by it.
    #[command(name = forebay_flow::template::WORKER_SUBCOMMAND, hide = true)]
    TemplateWorker,
}

/// Parses the arguments and runs the command.
pub(crate) fn main() -> ExitCode {
    // Records, tokens and definitions are for their owner only, whatever the shell's umask is: all
    // directories that are made are 0700, all files 0600.
    _ = rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output, errors to standard error; either may be closed.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if matches!(cli.command, Command::TemplateWorker) {
        // Out of the terminal's process group: Ctrl-C is for the server, which still needs its
        // templates to finish what it has begun. It ends them itself.
        _ = rustix::process::setpgid(None, None);
        return forebay_flow::template::worker_main();
    }
    match run(cli.command, Environment::of_process()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal::failed(&failure);
            ExitCode::from(failure.code())
        }
    }
}

fn run(command: Command, env: Environment) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => command::serve::run(args, env),
        Command::Demo(args) => command::demo::run(args, env),
        Command::Apply(args) => command::apply::run(args, env),
        Command::Source(command) => command::source::run(command, env),
        Command::Token(command) => command::token::run(command, env),
        Command::Quota(command) => command::quota::run(command, env),
        Command::Table(command) => command::table::run(command, env),
        Command::Query(args) => command::query::run(&args, env),
        Command::Backup(args) => command::backup::run(args, env),
        Command::Restore(args) => command::restore::run(&args, env),
        Command::Retry(args) => command::retry::run(args, env),
        Command::Dead(command) => command::dead::run(command, env),
        Command::Job(command) => command::job::run(command, env),
        Command::Lookup(args) => command::lookup::run(&args, &env),
        Command::Log(command) => command::log::run(&command, env),
        Command::Buffer(command) => command::buffer::run(command, &env),
        Command::Config(command) => command::config::run(command, env),
        Command::Completions(args) => command::completions::run(&args),
        Command::Version => terminal::line(format_args!("forebay {}", version::LONG)),
        Command::Reference(args) => command::reference::run(&args),
        Command::TemplateWorker => Ok(()),
    }
}

/// The command line's definition, for completions and the reference.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}
