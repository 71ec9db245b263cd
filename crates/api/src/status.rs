//! Status of sinks and volumes: what an operator needs to know at a glance.

use forebay_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Status of all sinks of a branch, and of the server's disks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BranchStatus)]
#[serde(rename_all = "camelCase")]
pub struct StatusResponse {
    /// Version of the server.
    pub version: String,
    /// Whether nothing needs an operator: no sink fails, no volume is full or failed.
    pub healthy: bool,
    /// When the sinks were read.
    #[schema(value_type = String, format = DateTime)]
    pub read_at: Timestamp,
    /// Sinks, sorted by source and id.
    pub sinks: Vec<SinkStatusView>,
    /// Volumes of this server.
    pub volumes: Vec<VolumeStatusView>,
    /// Error of the metadata store, after which nothing is uploaded or imported until a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub store_error: Option<String>,
    /// Definitions that the server applies itself, if it does; only for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub definitions: Option<DefinitionsStatusView>,
}

/// Status of the definitions that the server applies itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DefinitionsStatus)]
#[serde(rename_all = "camelCase")]
pub struct DefinitionsStatusView {
    /// Folder of the files.
    pub dir: String,
    /// When they were last applied; absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub applied_at: Option<Timestamp>,
    /// Error for which the files are not applied; the former definitions remain in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<String>,
}

/// Health of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkHealth)]
#[serde(rename_all = "camelCase")]
pub enum SinkHealthName {
    /// Everything is delivered, or on its way.
    Ok,
    /// A step of delivery fails and is retried.
    Failing,
    /// The target rejects a file, which waits for an operator.
    Parked,
    /// Delivery is paused.
    Paused,
    /// The sink or its source is disabled.
    Disabled,
}

/// Status of a sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkStatus)]
#[serde(rename_all = "camelCase")]
pub struct SinkStatusView {
    /// Id of the source.
    pub source_id: String,
    /// Id of the sink.
    pub sink_id: String,
    /// Type of the sink: `table`, `kafka` or `http`.
    pub r#type: String,
    /// Table or topic.
    pub target: String,
    /// Health.
    pub state: SinkHealthName,
    /// What fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub failure: Option<SinkFailureView>,
    /// Accepted records a second, since the reading before.
    pub accepted_per_second: f64,
    /// Imported records a second, since the reading before.
    pub imported_per_second: f64,
    /// Accepted records.
    pub accepted: u64,
    /// Records in the table, or confirmed by the provider.
    pub imported: u64,
    /// Records that are not imported yet.
    pub pending: u64,
    /// Bytes that are not imported yet.
    pub pending_bytes: u64,
    /// Receipt of the oldest record that is not imported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub oldest_pending_at: Option<Timestamp>,
    /// Dead letters.
    pub dead_letters: u64,
    /// Lost records.
    pub lost: u64,
    /// Whether accepted records are the sum of imported, dead, expired, lost and pending ones.
    pub balanced: bool,
}

/// A step of delivery that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkFailure)]
#[serde(rename_all = "camelCase")]
pub struct SinkFailureView {
    /// Step: `close`, `upload`, `import` or `deliver`.
    pub step: String,
    /// Error of the last attempt.
    pub cause: String,
    /// First failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub since: Option<Timestamp>,
    /// Next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub next_attempt_at: Option<Timestamp>,
    /// Failed attempts.
    pub attempts: u64,
}

/// Status of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = VolumeStatus)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatusView {
    /// Id of the volume.
    pub volume_id: String,
    /// Size of its file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub size_bytes: Option<u64>,
    /// Free space of its file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub free_bytes: Option<u64>,
    /// Size of the log's files.
    pub file_bytes: u64,
    /// Space that records can still use.
    pub available_bytes: u64,
    /// Whether records are rejected with 503.
    pub full: bool,
    /// The failure after which no record is accepted until a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<String>,
}
