//! The processing stage and the destination of a job.

use std::collections::BTreeMap;
use std::path::PathBuf;

use forebay_connect::keyed::{ColumnSchema as TableColumn, DataType, TableSchema};
use forebay_model::{EpochUnit, HumanDuration};
use forebay_schema::{SecretText, add_second_name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::source::HttpAuth;

/// Posts each record to an API. For processing, the response replaces the record; for a destination,
/// a success status acknowledges it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpStage {
    /// URL to post records to.
    pub url: String,
    /// Authentication.
    #[serde(default)]
    pub auth: Option<HttpAuth>,
    /// Headers of each request, `name: value`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Timeout of a request including its response. 1ms to 1h.
    #[serde(default = "timeout")]
    pub timeout: HumanDuration,
    /// Concurrent requests. 1 to 1000.
    #[serde(default = "workers")]
    #[schemars(range(min = 1, max = 1000))]
    pub workers: u32,
    /// Attempts before a record becomes a dead letter.
    #[serde(default)]
    pub retry: RetryConfig,
}

/// Retry policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryConfig {
    /// Total number of attempts. 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// Wait after the first attempt; doubles with each further one. 1ms to 1h.
    pub wait: HumanDuration,
    /// Maximum wait, also for a longer `Retry-After`. 1ms to 1h.
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

/// Destination of the records.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JobDestination {
    /// An API that accepts one record per request.
    Http(HttpStage),
    /// A table with a key.
    Table(Box<TableDestination>),
}

/// A table with a key: a record is a row, and replaces the row with the same key.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableDestination {
    /// Store of the table.
    pub store: TableStore,
    /// Name of the table: `products`, or `shop.products` with a schema or keyspace.
    pub table: String,
    /// Columns, in the order of the table.
    #[schemars(length(min = 1))]
    pub columns: Vec<DestinationColumn>,
    /// Batches written concurrently; always one for SQLite. 1 to 1000.
    #[serde(default = "workers")]
    #[schemars(range(min = 1, max = 1000))]
    pub workers: u32,
    /// Maximum number of rows per batch. 1 to 10000.
    #[serde(default = "batch")]
    #[schemars(range(min = 1, max = 10_000))]
    pub batch: u32,
    /// Maximum outage of the store before the job ends; it can be resumed. 0 to 24h.
    #[serde(default = "outage_max")]
    pub outage_max: HumanDuration,
    /// Cache of written rows, so that unchanged rows are not written again.
    #[serde(default)]
    pub cache: RowHashCacheConfig,
}

/// Store of a table.
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
        /// Path relative to the definition's folder; the file is created if missing.
        path: PathBuf,
    },
    /// A PostgreSQL server.
    Postgres {
        /// `postgres://user:password@host:5432/database?sslmode=verify-full`.
        url: SecretText,
    },
    /// A Cassandra cluster.
    Cassandra {
        /// Contact points, `host:port`.
        nodes: Vec<String>,
        /// User, if the cluster requires one.
        #[serde(default)]
        user: Option<String>,
        /// Password of the user.
        #[serde(default)]
        password: Option<SecretText>,
        /// TLS settings. Default: connections are not encrypted.
        #[serde(default)]
        tls: Option<StoreTls>,
        /// Replication factor of a keyspace that the job creates. 1 to 20.
        #[serde(default = "replication")]
        #[schemars(range(min = 1, max = 20))]
        replication: u32,
        /// Concurrent writes per worker. 1 to 4096.
        #[serde(default = "in_flight")]
        #[schemars(range(min = 1, max = 4096))]
        in_flight: u32,
    },
}

/// TLS settings of a store.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreTls {
    /// Verification of the server certificate.
    pub verify: StoreTlsVerify,
    /// File with certificates (PEM) to trust instead of those of the system.
    pub ca_file: Option<PathBuf>,
}

/// Verification of the server certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreTlsVerify {
    /// The signature, and that the certificate is for the address of the connection.
    #[default]
    Full,
    /// The signature only: for nodes whose certificates do not contain their addresses.
    Authority,
    /// No verification.
    Nothing,
}

/// A column of a table.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = second_names)]
pub struct DestinationColumn {
    /// Name of the column.
    pub name: String,
    /// Type of the column.
    #[serde(default, rename = "type", alias = "as")]
    pub kind: DataType,
    /// Source of the value.
    #[serde(default)]
    pub from: ColumnSource,
    /// Path of the value in the record: `id`, `price.amount`, `tags[0]`, `["host.name"]`, or JSONPath,
    /// `$.tags[-1]`; empty for the whole record. A path that can select many values, such as `$.tags[*]`,
    /// requires the type `json`, for their list. Default: the column's name.
    #[serde(default)]
    pub path: Option<String>,
    /// Unit of a timestamp that is a number, since 1970. Default: derived from its magnitude.
    #[serde(default)]
    pub unit: Option<EpochUnit>,
    /// The column is part of the key.
    #[serde(default, alias = "primaryKey")]
    pub key: bool,
    /// A record without a value is bad. Key columns are always required.
    #[serde(default)]
    pub required: bool,
}

/// Source of a column's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnSource {
    /// A path in the record.
    #[default]
    Path,
}

/// The names that columns of sinks and of jobs share.
fn second_names(schema: &mut schemars::Schema) {
    add_second_name(schema, "type", "as");
    add_second_name(schema, "key", "primaryKey");
}

/// Cache of the hashes of written rows.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum RowHashCacheConfig {
    /// No cache: each row is written.
    #[default]
    None,
    /// A file in the job's state directory.
    Embedded {
        /// Maximum number of rows, about 50 bytes each on disk. 1000 to 1000000000.
        #[serde(default = "max_rows")]
        #[schemars(range(min = 1000, max = 1_000_000_000))]
        max_rows: u64,
    },
    /// A Redis server.
    Redis {
        /// `redis://user:password@host:6379/0`; `rediss://` with TLS.
        url: SecretText,
        /// Time to live of a row's hash. 1s to 8760h.
        #[serde(default = "ttl")]
        ttl: HumanDuration,
        /// File with certificates (PEM) to trust instead of those of the system, for `rediss://`.
        #[serde(default)]
        ca_file: Option<PathBuf>,
    },
}

impl TableDestination {
    /// Batches written concurrently; an SQLite file has a single writer.
    pub fn writers(&self) -> u32 {
        match self.store {
            TableStore::Sqlite { .. } => 1,
            TableStore::Postgres { .. } | TableStore::Cassandra { .. } => self.workers,
        }
    }

    /// The schema of the table.
    pub fn shape(&self) -> TableSchema {
        let column = |c: &DestinationColumn| TableColumn {
            name: c.name.clone(),
            kind: c.kind,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_the_names_of_sinks_too() {
        let read = |text: &str| serde_json::from_str::<DestinationColumn>(text);
        let show = |text: &str| serde_json::to_string(&read(text).unwrap()).unwrap();
        let old = r#"{"name":"a","type":"integer","path":"x","key":true}"#;
        let new = r#"{"name":"a","from":"path","path":"x","as":"integer","primaryKey":true}"#;
        assert_eq!(show(new), show(old));
        let error = read(r#"{"name":"a","from":"uuid"}"#).unwrap_err();
        assert!(error.to_string().contains("expected `path`"), "{error}");
        let schema = schemars::schema_for!(DestinationColumn).to_value();
        for name in ["from", "as", "type", "key", "primaryKey"] {
            assert!(schema["properties"].get(name).is_some(), "{name}: {schema}");
        }
    }
}
