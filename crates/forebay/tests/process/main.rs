//! Tests of the real binary as a process: output, behavior, files.
#![allow(
    clippy::unwrap_used,
    reason = "what is only used by tests may fail as tests do"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a test of a real process waits for it with the real clock; each wait is for a condition"
)]

mod backup;
mod bounds;
mod buffer;
mod clients;
mod command_line;
mod compat;
mod compat_sink;
mod compat_source;
mod configuration;
mod dashboard;
mod dead;
mod definition_schema;
mod definition_sets;
mod definitions;
mod doctor;
mod documents;
mod drills;
mod error_pages;
mod isolation;
mod job;
mod limits;
mod log;
mod mapping_test;
mod metadata;
mod metrics;
mod openapi;
#[cfg(feature = "otlp")]
mod otlp;
mod ownership;
mod pages;
mod paths;
mod private_files;
mod query;
mod quotas;
mod read_only;
mod records;
mod redirects;
mod reload;
mod senders;
mod server;
mod service_manager;
mod services;
mod source_commands;
mod standard_error;
mod start;
mod stop;
mod tap;
mod types;
mod waits;
mod walk;
mod webhooks;
mod wire;
