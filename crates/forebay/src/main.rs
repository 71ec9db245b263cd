//! The binary: command line, configuration, wiring of the roles, telemetry, shutdown.

use std::process::ExitCode;

mod api;
mod cli;
mod clock;
mod command;
mod config;
mod definitions;
mod failure;
mod health;
mod mapper;
mod query;
mod random;
mod roles;
mod terminal;
mod token;
mod version;

fn main() -> ExitCode {
    cli::main()
}
