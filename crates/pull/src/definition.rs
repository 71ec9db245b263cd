//! The definition of a job: one YAML file.
//!
//! These types are the one source of what may be in the file: it is validated by the JSON schema
//! that comes from them, so all that is wrong is said at once, with its place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use forebay_listener::Limits;
use forebay_model::Span;
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

pub use paging::{Paging, Until};
pub use read::{Problems, Substitute};
pub use secret::Secret;
pub use source::{Auth, Files, HttpApi, RateLimit, S3, Source};
pub use stage::{
    Cache, Column, Destination, HttpStage, Kind, Retry, Store, TableDestination, Tls, Verify,
};

/// A job: records come from a source, may be processed, and go to a destination.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Definition {
    /// Its name; without it that of the file. Its state is kept under it.
    #[serde(default)]
    pub name: String,
    /// Where records come from.
    pub source: Source,
    /// An API that makes of each record another one.
    #[serde(default)]
    pub processing: Option<HttpStage>,
    /// Where records go.
    pub destination: Destination,
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

impl Definition {
    /// Reads a file and checks all of it. `substitute` puts values in place of `${…}`.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and what is allowed.
    pub fn read(file: &Path, substitute: &Substitute<'_>) -> Result<Self, Problems> {
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
        schema::of::<Self>()
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
pub struct Lookup {
    /// Address to listen on.
    #[serde(default = "listen")]
    pub listen: std::net::SocketAddr,
    /// What keeps the tables.
    pub store: Store,
    /// What is served under which path.
    #[schemars(length(min = 1))]
    pub routes: Vec<Route>,
    /// How long the table may take to answer. 1ms to 1h.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// Rows that are kept in memory.
    #[serde(default)]
    pub cache: RowCache,
    /// What bounds its connections.
    #[serde(default)]
    pub limits: Limits,
}

/// A table that is served.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
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
pub struct RowCache {
    /// At most so many; 0 for none. 0 to 10000000.
    #[schemars(range(max = 10_000_000))]
    pub rows: u64,
    /// For so long; a row may be as old as that. 0 to 24h.
    pub ttl: Span,
}

impl Lookup {
    /// Reads a file and checks all of it. `substitute` puts values in place of `${…}`.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and what is allowed.
    pub fn read(file: &Path, substitute: &Substitute<'_>) -> Result<Self, Problems> {
        read::read_lookup(file, substitute)
    }

    /// The JSON schema of the file.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schema::of::<Self>()
    }
}

/// Names and values.
pub(crate) type Pairs = BTreeMap<String, String>;

fn queue() -> u32 {
    1000
}

fn listen() -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 1], 8080))
}

fn timeout() -> Span {
    Span::secs(5)
}
