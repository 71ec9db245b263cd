//! The binary: command line, configuration, wiring of the roles, telemetry, shutdown.

use std::process::ExitCode;

mod api;
mod banner;
mod cli;
mod clock;
mod command;
mod config;
mod definitions;
mod demo;
mod failure;
mod health;
mod letters;
mod mapper;
mod query;
mod random;
mod roles;
mod signals;
mod telemetry;
mod terminal;
mod token;
mod version;

fn main() -> ExitCode {
    cli::main()
}
