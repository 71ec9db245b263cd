//! The lookup service: its store and routes.

use forebay_listener::ListenerLimits;
use forebay_model::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::stage::TableStore;

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
    /// The JSON schema of the file.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }
}

fn listen() -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 1], 8080))
}

fn timeout() -> HumanDuration {
    HumanDuration::secs(5)
}
