//! Pull: rate-limited APIs and files of JSON lines into tables and other APIs, and the service that
//! looks rows up.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`definition`] | the YAML file of a job, validated by its own types |
//! | [`engine`] | stages between bounded queues |
//! | [`rate_limiter`] | the rate limit of an API |
//! | [`lookup`] | the service that answers rows by key |
//! | [`state`] | what a job remembers: its position, its inbox, its dead letters |
//! | [`yaml`] | files whose texts stay as they are written |
//! | `source`, `stage`, `store` | where records come from, the APIs they are posted to, the tables |
//!
//! The walk of a record: a source reads it and notes it in the state; it goes through the stages;
//! it is *settled*, that is delivered or a dead letter, and that is noted too. A job that is killed
//! at any moment goes on with what is not settled.

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
pub mod yaml;

pub use engine::outcome::{JobFailure, JobProgress, JobSummary, NeverFound};
pub use engine::{EnvironmentLookup, JobContext, JobOutcome, replay, run};
pub use record::JobStage;
pub use source::replay::ReplaySelection;
