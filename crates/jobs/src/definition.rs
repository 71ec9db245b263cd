//! The definition of a job: one YAML file.
//!
//! The types define the file format: a file is validated against the JSON schema generated from them, so
//! that all violations are reported at once, each with its path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use forebay_listener::ListenerLimits;
use forebay_model::HumanDuration;
pub use forebay_schema::SecretText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod check;
mod legacy;
mod paging;
mod plan;
mod read;
mod source;
mod stage;

pub use paging::{EndConditions, Paging};
pub use read::{InvalidDefinition, SubstituteFn};
pub use source::{FileSourceConfig, HttpApi, HttpAuth, JobSource, RateLimit, S3ServerConfig};
pub use stage::{
    DestinationColumn, DestinationColumnType, HttpStage, JobDestination, RetryConfig,
    RowHashCacheConfig, StoreTls, StoreTlsVerify, TableDestination, TableStore,
};

/// A job: records come from a source, are optionally processed, and go to a destination.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobDefinition {
    /// Name of the job, and of its state directory. Default: the name of the file.
    #[serde(default)]
    pub name: String,
    /// Source of the records.
    pub source: JobSource,
    /// An API whose response replaces the record.
    #[serde(default)]
    pub processing: Option<HttpStage>,
    /// Destination of the records.
    pub destination: JobDestination,
    /// Maximum number of records waiting between two stages. 1 to 100000.
    #[serde(default = "queue")]
    #[schemars(range(min = 1, max = 100_000))]
    pub queue: u32,
    /// Chunks of files parsed in parallel. 1 to 256. Default: the number of cores.
    #[serde(default)]
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: Option<u32>,
    /// Directory of the cursor, dead letters and cache, relative to the definition's folder. Default:
    /// `forebay-jobs/NAME`.
    #[serde(default)]
    pub state: Option<PathBuf>,
}

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

    /// The JSON schema of the file.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// Chunks of files parsed in parallel.
    pub fn concurrency(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.concurrency.map_or_else(cores, |n| n as usize)
    }

    /// The state directory; [`Self::read`] resolves it against the definition's folder.
    pub fn state_dir(&self) -> PathBuf {
        let default = || PathBuf::from("forebay-jobs").join(&self.name);
        self.state.clone().unwrap_or_else(default)
    }
}

/// The configuration of the lookup service: one YAML file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LookupConfig {
    /// Address to listen on.
    #[serde(default = "listen")]
    pub listen: std::net::SocketAddr,
    /// Store of the tables.
    pub store: TableStore,
    /// Tables and their paths.
    #[schemars(length(min = 1))]
    pub routes: Vec<LookupRoute>,
    /// Timeout of a table read. 1ms to 1h.
    #[serde(default = "timeout")]
    pub timeout: HumanDuration,
    /// In-memory cache of rows.
    #[serde(default)]
    pub cache: LookupCacheConfig,
    /// Connection limits.
    #[serde(default)]
    pub limits: ListenerLimits,
}

/// A table and the path under which it is served.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LookupRoute {
    /// Path prefix, such as `/product`: a row is at `/product/{key}`.
    pub path: String,
    /// Name of the table.
    pub table: String,
    /// Key column. Default: the key of the table.
    #[serde(default)]
    pub key: Option<String>,
    /// Text columns that contain JSON, returned as JSON; for stores without a JSON type.
    #[serde(default)]
    pub json: Vec<String>,
}

/// In-memory cache of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LookupCacheConfig {
    /// Maximum number of rows; 0 disables the cache. 0 to 10000000.
    #[schemars(range(max = 10_000_000))]
    pub rows: u64,
    /// Maximum age of a row. 0 to 24h.
    pub ttl: HumanDuration,
}

impl LookupConfig {
    /// Reads and validates a file. `substitute` replaces `${…}`.
    ///
    /// # Errors
    /// All violations, each with its path and what is allowed.
    pub fn read(file: &Path, substitute: &SubstituteFn<'_>) -> Result<Self, InvalidDefinition> {
        read::read_lookup(file, substitute)
    }

    /// The JSON schema of the file.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }
}

pub(crate) type NameValues = BTreeMap<String, String>;

fn queue() -> u32 {
    1000
}

fn listen() -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 1], 8080))
}

fn timeout() -> HumanDuration {
    HumanDuration::secs(5)
}
