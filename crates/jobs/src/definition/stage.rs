//! What happens to a record, and where it goes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use forebay_connect::keyed::{ColumnSchema as TableColumn, TableSchema, ValueType};
use forebay_model::{EpochUnit, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HttpAuth, SecretText};

/// Posts each record to an API. As processing its answer is the record from then on; as a
/// destination its success is the end.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpStage {
    /// Where records are posted to.
    pub url: String,
    /// Who is asking.
    #[serde(default)]
    pub auth: Option<HttpAuth>,
    /// Headers of each request, `name: value`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How long a request may take, its answer included. 1ms to 1h.
    #[serde(default = "timeout")]
    pub timeout: HumanDuration,
    /// Requests at once. 1 to 1000.
    #[serde(default = "workers")]
    #[schemars(range(min = 1, max = 1000))]
    pub workers: u32,
    /// How often a record is tried in all before it is set aside.
    #[serde(default)]
    pub retry: RetryConfig,
}

/// How often something is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryConfig {
    /// Attempts in all. 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// How long to wait after the first; doubles with each further one. 1ms to 1h.
    pub wait: HumanDuration,
    /// How long to wait at most, also when the API asks for more with `Retry-After`. 1ms to 1h.
    pub wait_max: HumanDuration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            attempts: 3,
            wait: HumanDuration::millis(500),
            wait_max: HumanDuration::secs(60),
        }
    }
}

/// Where records go.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JobDestination {
    /// An API that takes them one by one.
    Http(HttpStage),
    /// A table with a key.
    Table(Box<TableDestination>),
}

/// A table with a key: a record is a row, and replaces the one of its key.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableDestination {
    /// What keeps it.
    pub store: TableStore,
    /// Its name: `products`, or `shop.products` with a schema or keyspace.
    pub table: String,
    /// In the order of the table.
    #[schemars(length(min = 1))]
    pub columns: Vec<DestinationColumn>,
    /// Batches that are written at once; into an SQLite file always one. 1 to 1000.
    #[serde(default = "workers")]
    #[schemars(range(min = 1, max = 1000))]
    pub workers: u32,
    /// Rows that are written together at most. 1 to 10000.
    #[serde(default = "batch")]
    #[schemars(range(min = 1, max = 10_000))]
    pub batch: u32,
    /// How long the store may be out of reach before the job ends (and can be continued). 0 to 24h.
    #[serde(default = "outage_max")]
    pub outage_max: HumanDuration,
    /// Knows what was written, so that an unchanged row is not written again.
    #[serde(default)]
    pub cache: RowHashCacheConfig,
}

/// What keeps a table.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum TableStore {
    /// An SQLite file.
    Sqlite {
        /// It, counted from the definition's folder; made when it is not there.
        path: PathBuf,
    },
    /// A PostgreSQL server.
    Postgres {
        /// `postgres://user:password@host:5432/database?sslmode=verify-full`.
        url: SecretText,
    },
    /// A Cassandra cluster.
    Cassandra {
        /// Nodes to begin with, `host:port`.
        nodes: Vec<String>,
        /// User, where the cluster asks for one.
        #[serde(default)]
        user: Option<String>,
        /// Its password.
        #[serde(default)]
        password: Option<SecretText>,
        /// Encrypts the connections.
        #[serde(default)]
        tls: Option<StoreTls>,
        /// Copies of each row, when the keyspace has to be made. 1 to 20.
        #[serde(default = "replication")]
        #[schemars(range(min = 1, max = 20))]
        replication: u32,
        /// Rows that are written at once by each worker. 1 to 4096.
        #[serde(default = "in_flight")]
        #[schemars(range(min = 1, max = 4096))]
        in_flight: u32,
    },
}

/// Encrypted connections.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreTls {
    /// What of a server's certificate is checked.
    pub verify: StoreTlsVerify,
    /// File of certificates (PEM) that take the place of the system's.
    pub ca_file: Option<PathBuf>,
}

/// What of a server's certificate is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreTlsVerify {
    /// Who signed it, and that it is for the address that was connected to.
    #[default]
    Full,
    /// Who signed it: nodes whose certificates do not name their addresses.
    Authority,
    /// Nothing.
    Nothing,
}

/// A column of a table.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DestinationColumn {
    /// Its name.
    pub name: String,
    /// What it holds.
    #[serde(default, rename = "type")]
    pub kind: DestinationColumnType,
    /// Where its value is in the record: `id`, `price.amount`, `tags[0]`, `["host.name"]`, or JSONPath,
    /// `$.tags[-1]`; empty for the whole record. What can select many values, like `$.tags[*]`, needs
    /// the type `json`, for their list. Without it, the column's name.
    #[serde(default)]
    pub path: Option<String>,
    /// Of a timestamp that is a number: what it counts since 1970. Without it, its size tells.
    #[serde(default)]
    pub unit: Option<EpochUnit>,
    /// Part of the key.
    #[serde(default)]
    pub key: bool,
    /// A record without it is bad. A key always is required.
    #[serde(default)]
    pub required: bool,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DestinationColumnType {
    /// Text; numbers and booleans are taken as they are written.
    #[default]
    Text,
    /// A whole number of 64 bits, however it is written: `7`, `7.0`, `1e3`.
    Integer,
    /// A floating point number of 64 bits.
    Double,
    /// True or false.
    Boolean,
    /// `2006-01-02T15:04:05.000000Z`, or a number of seconds, milliseconds, microseconds or nanoseconds
    /// since 1970. In the years 0001 to 9999; kept to the microsecond (Cassandra: millisecond).
    Timestamp,
    /// Any JSON value.
    Json,
}

impl From<DestinationColumnType> for ValueType {
    fn from(kind: DestinationColumnType) -> Self {
        match kind {
            DestinationColumnType::Text => Self::Text,
            DestinationColumnType::Integer => Self::Integer,
            DestinationColumnType::Double => Self::Double,
            DestinationColumnType::Boolean => Self::Boolean,
            DestinationColumnType::Timestamp => Self::Timestamp,
            DestinationColumnType::Json => Self::Json,
        }
    }
}

/// Knows what was written.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum RowHashCacheConfig {
    /// Nothing does: each row is written.
    #[default]
    None,
    /// A file in the job's state directory.
    Embedded {
        /// Rows that it knows at most, some 50 bytes each on disk. 1000 to 1000000000.
        #[serde(default = "max_rows")]
        #[schemars(range(min = 1000, max = 1_000_000_000))]
        max_rows: u64,
    },
    /// A Redis server.
    Redis {
        /// `redis://user:password@host:6379/0`; `rediss://` with TLS.
        url: SecretText,
        /// How long it knows a row. 1s to 8760h.
        #[serde(default = "ttl")]
        ttl: HumanDuration,
        /// File of certificates (PEM) that take the place of the system's, for `rediss://`.
        #[serde(default)]
        ca_file: Option<PathBuf>,
    },
}

impl TableDestination {
    /// Batches that are written at once: an SQLite file has one writer, whoever waits for it.
    #[must_use]
    pub fn writers(&self) -> u32 {
        match self.store {
            TableStore::Sqlite { .. } => 1,
            TableStore::Postgres { .. } | TableStore::Cassandra { .. } => self.workers,
        }
    }

    /// The table, for its store.
    #[must_use]
    pub fn shape(&self) -> TableSchema {
        let column = |c: &DestinationColumn| TableColumn {
            name: c.name.clone(),
            kind: c.kind.into(),
            is_key: c.key,
            foreign: None,
        };
        TableSchema {
            table: self.table.clone(),
            columns: self.columns.iter().map(column).collect(),
        }
    }
}

fn timeout() -> HumanDuration {
    HumanDuration::secs(5)
}

fn workers() -> u32 {
    3
}

fn batch() -> u32 {
    2000
}

fn outage_max() -> HumanDuration {
    HumanDuration::mins(5)
}

fn replication() -> u32 {
    1
}

fn in_flight() -> u32 {
    64
}

fn max_rows() -> u64 {
    10_000_000
}

fn ttl() -> HumanDuration {
    HumanDuration::hours(24 * 30)
}
