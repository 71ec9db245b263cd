//! The definition of a job: one YAML file.
//!
//! The types define the file format: a file is validated against the JSON schema generated from them, so
//! that all violations are reported at once, each with its path.

use std::path::Path;

pub use forebay_schema::SecretText;

mod check;
mod job;
mod legacy;
mod lookup;
mod paging;
mod plan;
mod read;
mod source;
mod stage;

pub use job::JobDefinition;
pub use lookup::{LookupCacheConfig, LookupConfig, LookupRoute};
pub use paging::{EndConditions, Paging};
pub use read::{InvalidDefinition, SubstituteFn};
pub use source::{FileSourceConfig, HttpApi, HttpAuth, JobSource, RateLimit, S3ServerConfig};
pub use stage::{
    ColumnSource, DestinationColumn, HttpStage, JobDestination, RetryConfig, RowHashCacheConfig,
    StoreTls, StoreTlsVerify, TableDestination, TableStore,
};

impl JobDefinition {
    /// Reads and validates a file. `substitute` replaces `${…}`.
    ///
    /// # Errors
    /// All violations, each with its path and what is allowed.
    pub fn read(file: &Path, substitute: &SubstituteFn<'_>) -> Result<Self, InvalidDefinition> {
        read::read(file, substitute)
    }

    /// A summary of the job for people, in lines, without secrets.
    pub fn plan(&self) -> Vec<String> {
        plan::plan(self)
    }
}

impl LookupConfig {
    /// Reads and validates a file. `substitute` replaces `${…}`.
    ///
    /// # Errors
    /// All violations, each with its path and what is allowed.
    pub fn read(file: &Path, substitute: &SubstituteFn<'_>) -> Result<Self, InvalidDefinition> {
        read::read_lookup(file, substitute)
    }
}
