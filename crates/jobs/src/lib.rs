//! Jobs that load rate-limited APIs and JSON Lines files into tables and other APIs, and the lookup service for
//! their rows.
//!
//! | module | contents |
//! | --- | --- |
//! | [`definition`] | the YAML file of a job, validated by its own types |
//! | [`engine`] | runs the stages of a job between bounded queues |
//! | [`rate_limiter`] | the rate limit of an API |
//! | [`lookup`] | HTTP service that returns rows by key |
//! | [`state`] | durable state of a job: cursor, inbox, dead letters |
//! | `source`, `stage`, `store` | sources, APIs that records are posted to, tables |
//!
//! A source reads a record and stores it in the state; the record passes the stages; it is *acknowledged*,
//! that is delivered or a dead letter, and the state records that. A job killed at any moment resumes with
//! the records that are not acknowledged.

mod convert;
pub mod definition;
pub mod engine;
mod http;
pub mod lookup;
pub mod rate_limiter;
mod record;
mod source;
mod stage;
pub mod state;
pub mod store;

pub use engine::outcome::{JobFailure, JobProgress, JobSummary, NeverFound};
pub use engine::{EnvironmentLookup, JobContext, JobOutcome, replay, run};
pub use record::JobStage;
