//! Templates are evaluated in child processes of the same binary (ADR 0201): a program that never
//! ends, or takes all memory there is, is ended with its process and costs nobody but itself.
//!
//! `pool` decides where an evaluation goes, `slot` looks after one `process`, `worker` is what runs
//! in it, `frame` is what they say to each other, `standing` remembers which templates misbehaved.

mod circuit_breaker;
mod frame;
mod pool;
mod process;
mod supervisor;
mod task;
mod worker;

pub use pool::{PoolConfig, PoolStats, TemplatePool, TemplateResult, WorkerCommand};
pub use worker::worker_main;

/// Name of the hidden subcommand that a binary answers with [`worker_main`].
pub const WORKER_SUBCOMMAND: &str = "template-worker";
