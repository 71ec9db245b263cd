//! The definition of a job: one YAML file.
//!
//! These types are the one source of what may be in the file: it is validated by the JSON schema
//! that comes from them, so all that is wrong is said at once, with its place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use forebay_listener::ListenerLimits;
use forebay_model::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod check;
mod legacy;
mod nearest;
mod paging;
mod plan;
mod read;
mod schema;
mod secret;
mod source;
mod stage;

pub use paging::{EndConditions, Paging};
pub use read::{InvalidDefinition, SubstituteFn};
pub use secret::SecretText;
pub use source::{FileSourceConfig, HttpApi, HttpAuth, JobSource, RateLimit, S3ServerConfig};
pub use stage::{
    DestinationColumn, DestinationColumnType, HttpStage, JobDestination, RetryConfig,
    RowHashCacheConfig, StoreTls, StoreTlsVerify, TableDestination, TableStore,
};

/// A job: records come from a source, may be processed, and go to a destination.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobDefinition {
    /// Its name; without it that of the file. Its state is kept under it.
    #[serde(default)]
    pub name: String,
    /// Where records come from.
    pub source: JobSource,
    /// An API that makes of each record another one.
    #[serde(default)]
    pub processing: Option<HttpStage>,
    /// Where records go.
    pub destination: JobDestination,
    /// Records that wait between two stages at most. 1 to 100000.
    #[serde(default = "queue")]
    #[schemars(range(min = 1, max = 100_000))]
    pub queue: u32,
    /// Parts of files that are parsed at once; without it as many as there are cores. 1 to 256.
    #[serde(default)]
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: Option<u32>,
    /// Directory of its cursor, dead letters and cache, counted from the definition's folder;
    /// without it `forebay-jobs/NAME` there.
    #[serde(default)]
    pub state: Option<PathBuf>,
}

impl JobDefinition {
    /// Reads a file and checks all of it. `substitute` puts values in place of `${…}`.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and what is allowed.
    pub fn read(file: &Path, substitute: &SubstituteFn<'_>) -> Result<Self, InvalidDefinition> {
        read::read(file, substitute)
    }

    /// What it will do, in lines for a person. No secret is in it.
    #[must_use]
    pub fn plan(&self) -> Vec<String> {
        plan::plan(self)
    }

    /// The JSON schema of the file.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schema::schema_for::<Self>()
    }

    /// Parts of files that are parsed at once.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.concurrency.map_or_else(cores, |n| n as usize)
    }

    /// Where its state is. [`Self::read`] has made it a path of its own.
    #[must_use]
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
    /// What keeps the tables.
    pub store: TableStore,
    /// What is served under which path.
    #[schemars(length(min = 1))]
    pub routes: Vec<LookupRoute>,
    /// How long the table may take to answer. 1ms to 1h.
    #[serde(default = "timeout")]
    pub timeout: HumanDuration,
    /// Rows that are kept in memory.
    #[serde(default)]
    pub cache: LookupCacheConfig,
    /// What bounds its connections.
    #[serde(default)]
    pub limits: ListenerLimits,
}

/// A table that is served.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LookupRoute {
    /// `/product`: a row is at `/product/{key}`.
    pub path: String,
    /// Name of the table.
    pub table: String,
    /// Its key column; without it the one that the table has.
    #[serde(default)]
    pub key: Option<String>,
    /// Columns of text that hold JSON, and are answered as such; for stores without a JSON type.
    #[serde(default)]
    pub json: Vec<String>,
}

/// Rows that are kept in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LookupCacheConfig {
    /// At most so many; 0 for none. 0 to 10000000.
    #[schemars(range(max = 10_000_000))]
    pub rows: u64,
    /// For so long; a row may be as old as that. 0 to 24h.
    pub ttl: HumanDuration,
}

impl LookupConfig {
    /// Reads a file and checks all of it. `substitute` puts values in place of `${…}`.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and what is allowed.
    pub fn read(file: &Path, substitute: &SubstituteFn<'_>) -> Result<Self, InvalidDefinition> {
        read::read_lookup(file, substitute)
    }

    /// The JSON schema of the file.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schema::schema_for::<Self>()
    }
}

/// Names and values.
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
