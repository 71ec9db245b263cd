//! The binary: command line, configuration, wiring of the roles, telemetry, shutdown.

use std::process::ExitCode;

mod api_client;
mod api_listener;
mod backup;
mod banner;
mod cli;
mod cli_error;
mod clock;
mod command;
mod config;
mod data_dir;
mod dead_letters;
mod definitions;
mod demo;
mod descriptors;
mod disk_housekeeping;
mod disk_space;
mod doctor;
mod endpoints;
mod health;
mod mapper;
mod mapping_test;
mod monitoring;
mod node_status;
mod otlp;
mod path_uses;
mod preflight;
mod query;
mod random;
mod reload;
mod reserve;
mod roles;
mod service_manager;
mod signals;
mod standby;
mod tap;
mod telemetry;
mod terminal;
mod token;
mod topics;
mod version;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    if let Err(problem) = arm_failpoint() {
        #[expect(clippy::print_stderr, reason = "runs before any command")]
        {
            eprintln!("FAILPOINT: {problem}");
        }
        return ExitCode::from(2);
    }
    cli::main()
}

/// A test-only variable, no setting: release builds ignore it.
#[cfg(feature = "failpoints")]
fn arm_failpoint() -> Result<(), String> {
    match std::env::var("FAILPOINT") {
        Ok(name) => forebay_model::failpoint::arm(&name),
        Err(_) => Ok(()),
    }
}
