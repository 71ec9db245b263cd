//! Simulation of the whole system in one thread: dispatch, pipelines, the log, upload, import,
//! garbage collection, and the coordinator, all of them the real code. Disk, metadata store,
//! staging and table are in memory; time is paused until it is advanced; the order of events, and
//! all failures, come from a seed (`docs/adr/0610-…`).
//!
//! To run one seed again, with each step printed:
//! `FOREBAY_SIM_SEED=17 cargo test -p forebay-delivery --test sim -- --nocapture seeds`; for more seeds
//! than usual: `FOREBAY_SIM_SEEDS=100000`.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![allow(
    clippy::print_stdout,
    reason = "the steps of a single seed are printed"
)]

mod disk;
mod gate;
mod lies;
mod model;
mod node;
mod runs;
mod staging;
mod store;
mod table;
mod world;
