//! The whole path in one thread and on simulated surroundings: dispatch, pipelines, the log,
//! upload, import, what is taken away, and the coordinator, all of them the real code. Disk,
//! metadata store, staging and table are in memory; time stands still until it is moved; what
//! happens next, and what fails, comes from a seed (`docs/adr/0610-…`).
//!
//! One seed is run again, step by step on the screen, with
//! `FOREBAY_SIM_SEED=17 cargo test -p forebay-flow --test sim -- --nocapture seeds`; more seeds
//! than usual with `FOREBAY_SIM_SEEDS=100000`.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![allow(clippy::print_stdout, reason = "a run that is looked at is printed")]

mod disk;
mod gate;
mod lies;
mod model;
mod node;
mod random;
mod runs;
mod staging;
mod store;
mod table;
mod world;
