//! Evaluates templates in child processes of the same binary (ADR 0201): a program that never ends,
//! or uses up all memory, is ended with its process and affects nothing else.
//!
//! `pool` routes an evaluation, `supervisor` manages one `process`, `worker` runs in it, `frame` is
//! the protocol between them, `circuit_breaker` records which templates exceeded limits.

mod circuit_breaker;
mod frame;
mod pool;
mod process;
mod supervisor;
mod task;
mod worker;

pub use pool::{PoolConfig, PoolStats, TemplatePool, TemplateResult, WorkerCommand};
pub use worker::worker_main;

/// Name of the hidden subcommand with which a binary calls [`worker_main`].
pub const WORKER_SUBCOMMAND: &str = "template-worker";
