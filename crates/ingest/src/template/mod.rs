//! Evaluates templates in child processes of the same binary (ADR 0201): a program that never ends,
//! or uses up all memory, is ended with its process and affects nothing else.
//!
//! `pool` routes an evaluation, `supervisor` manages one `process`, `worker` runs in it, `frame` is
//! the protocol between them, `circuit_breaker` records which templates exceeded limits.

mod circuit_breaker;
mod config;
mod frame;
mod pool;
mod process;
mod shared;
mod supervisor;
mod task;
mod worker;

pub use config::PoolConfig;
pub use pool::{PoolStats, TemplatePool};
pub use process::WorkerCommand;
pub use task::TemplateResult;
pub use worker::worker_main;

/// Name of the hidden subcommand with which a binary calls [`worker_main`].
pub const WORKER_SUBCOMMAND: &str = "template-worker";
