//! Command line: parses arguments and runs a command.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::cli_error::CliError;
use crate::command;
use crate::config::Environment;
use crate::{terminal, version};

/// Accepts records over HTTP, writes each one to disk before it responds, and loads it into a table
/// exactly once.
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
    command: CliCommand,
}

const EXAMPLES: &str = "\
Examples:
  forebay demo                                    see it work, in a temporary directory
  forebay serve --data-dir ./data                 run the server
  forebay apply -f events.yaml --data-dir ./data  define sources and sinks
  forebay query 'SELECT count(*) FROM \"in.demo.events\"' --data-dir ./data

Exit codes:
  0  success
  1  failure; standard error has the reason
  2  invalid usage, configuration or definition; nothing was changed";

#[derive(Debug, Subcommand)]
enum CliCommand {
    Serve(command::serve::ServeArgs),
    Demo(command::demo::DemoArgs),
    Apply(command::apply::ApplyArgs),
    Test(command::test::TestArgs),
    Export(command::export::ExportArgs),
    Init(command::init::InitArgs),
    #[command(subcommand)]
    Source(command::source::SourceCommand),
    #[command(subcommand)]
    Token(command::token::TokenCommand),
    #[command(subcommand)]
    Quota(command::quota::QuotaCommand),
    #[command(subcommand)]
    Table(command::table::TableCommand),
    Status(command::status::StatusArgs),
    Tap(command::tap::TapArgs),
    Query(command::query::QueryArgs),
    Backup(command::backup::BackupArgs),
    Restore(command::restore::RestoreArgs),
    Retry(command::retry::RetryArgs),
    #[command(subcommand, visible_alias = "dead-letters")]
    Dead(command::dead::DeadLetterCommand),
    #[command(subcommand)]
    Job(command::job::JobCommand),
    Lookup(command::lookup::LookupArgs),
    #[command(subcommand)]
    Log(command::log::LogCommand),
    #[command(subcommand)]
    Buffer(command::buffer::BufferCommand),
    #[command(subcommand)]
    Config(command::config::ConfigCommand),
    Doctor(command::doctor::DoctorArgs),
    Completions(command::completions::CompletionsArgs),
    Man(command::man::ManArgs),
    /// Prints version, commit and target.
    Version,
    #[command(hide = true)]
    Reference(command::reference::ReferenceArgs),
    /// Runs templates for the server that started it.
    #[command(name = forebay_ingest::template::WORKER_SUBCOMMAND, hide = true)]
    TemplateWorker,
}

pub(crate) fn main() -> ExitCode {
    // Records, tokens and definitions are for their owner only, whatever the umask of the shell: new
    // directories are 0700, new files 0600.
    _ = rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if wants_json() && error.use_stderr() {
                terminal::print_json_error(&usage_error(&error));
            } else {
                // Help and version go to standard output, errors to standard error; either may be
                // closed.
                drop(error.print());
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if matches!(cli.command, CliCommand::TemplateWorker) {
        // Leaves the terminal's process group: Ctrl-C is for the server, which still needs its
        // templates to finish work in progress and ends them itself.
        _ = rustix::process::setpgid(None, None);
        return forebay_ingest::template::worker_main();
    }
    match run(cli.command, Environment::from_process()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if wants_json() {
                terminal::print_json_error(&failure);
            } else {
                terminal::print_error(&failure);
            }
            ExitCode::from(failure.code())
        }
    }
}

/// Whether the result is for programs, so that the error is, too. Also known of wrong arguments.
fn wants_json() -> bool {
    let mut arguments = std::env::args_os().skip(1).take_while(|a| a != "--");
    arguments.any(|a| a == "--json" || a == "--format=json" || a == "--format=ndjson")
}

/// A wrong use of the command line: its first paragraph, and the rest as advice.
fn usage_error(error: &clap::Error) -> CliError {
    let text = error.to_string();
    let (message, advice) = text.split_once("\n\n").unwrap_or((&text, ""));
    let message = message.strip_prefix("error: ").unwrap_or(message).trim();
    CliError::usage(message).hint(advice.trim())
}

fn run(command: CliCommand, env: Environment) -> Result<(), CliError> {
    match command {
        CliCommand::Serve(args) => command::serve::run(args, env),
        CliCommand::Demo(args) => command::demo::run(args, env),
        CliCommand::Apply(args) => command::apply::run(args, env),
        CliCommand::Test(args) => command::test::run(&args, env),
        CliCommand::Export(args) => command::export::run(&args, env),
        CliCommand::Init(args) => command::init::run(&args),
        CliCommand::Source(command) => command::source::run(command, env),
        CliCommand::Token(command) => command::token::run(command, env),
        CliCommand::Quota(command) => command::quota::run(command, env),
        CliCommand::Table(command) => command::table::run(command, env),
        CliCommand::Tap(args) => command::tap::run(&args, env),
        CliCommand::Query(args) => command::query::run(&args, env),
        CliCommand::Backup(args) => command::backup::run(args, env),
        CliCommand::Restore(args) => command::restore::run(&args, env),
        CliCommand::Status(args) => command::status::run(&args, env),
        CliCommand::Retry(args) => command::retry::run(args, env),
        CliCommand::Dead(command) => command::dead::run(command, env),
        CliCommand::Job(command) => command::job::run(command, env),
        CliCommand::Lookup(args) => command::lookup::run(&args, &env),
        CliCommand::Log(command) => command::log::run(&command, env),
        CliCommand::Buffer(command) => command::buffer::run(command, &env),
        CliCommand::Config(command) => command::config::run(command, env),
        CliCommand::Doctor(args) => command::doctor::run(&args, env),
        CliCommand::Man(args) => command::man::run(&args, definition()),
        CliCommand::Completions(args) => command::completions::run(&args, definition()),
        CliCommand::Version => terminal::line(format_args!("forebay {}", version::LONG)),
        CliCommand::Reference(args) => command::reference::run(&args, definition()),
        CliCommand::TemplateWorker => Ok(()),
    }
}

/// Definition of the command line, for documents about it.
fn definition() -> clap::Command {
    Cli::command()
}
