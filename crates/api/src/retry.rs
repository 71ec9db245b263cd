//! Retries of failed uploads and imports, and rejected files.

use forebay_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Number of steps that are retried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkRetry)]
pub struct RetryResponse {
    /// Files with a failed import.
    pub files: u64,
    /// Slices with a failed upload.
    pub slices: u64,
    /// Of a topic: messages that wait for their delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub messages: Option<u64>,
}

/// A file whose rows become dead letters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkFileRejected)]
#[serde(rename_all = "camelCase")]
pub struct RejectedFile {
    /// Opening time of the file.
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: Timestamp,
    /// Error of the import.
    pub cause: String,
}
