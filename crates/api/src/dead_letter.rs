//! Dead letters.

use std::collections::BTreeMap;

use forebay_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::PageInfo;

/// A page of dead letters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadLetters)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterList {
    /// Position of this page in the list.
    pub page: PageInfo,
    /// Dead letters, oldest first.
    pub dead_letters: Vec<DeadLetterSummary>,
}

/// A record that the mapping rejected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadLetterSummary)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterSummary {
    /// Never used again.
    pub dead_letter_id: String,
    /// When the record came.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// The column that failed.
    pub column: String,
    /// Error name for programs.
    #[schema(example = "stream.in.pathNotFound")]
    pub error: String,
    /// Message for users.
    pub message: String,
    /// Size of the record in bytes.
    pub size: usize,
}

/// A record that the mapping rejected, as received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadLetter)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterView {
    /// Id, time and error.
    #[serde(flatten)]
    pub summary: DeadLetterSummary,
    /// Address of the client.
    pub client_ip: String,
    /// Headers of the request, by name.
    pub headers: BTreeMap<String, String>,
    /// Line number in its batch, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub line: Option<usize>,
    /// The record, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub body: Option<String>,
    /// The record in Base64, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub body_base64: Option<String>,
}

/// Selection of dead letters; all by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadLetterChoice)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterSelectionRequest {
    /// Ids of dead letters; each must exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 1000, nullable = false)]
    pub dead_letter_ids: Option<Vec<String>>,
    /// Only those after this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, nullable = false)]
    pub after_id: Option<String>,
}

/// Result of a replay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadLettersReplayed)]
#[serde(rename_all = "camelCase")]
pub struct ReplayResponse {
    /// Number of dead letters sent to the table or topic.
    pub replayed: u64,
    /// These were rejected again and stay.
    pub rejected: Vec<ReplayRejection>,
    /// There are more: go on after this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub more_after_id: Option<String>,
}

/// Reason for which a dead letter was rejected again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadLetterRejection)]
#[serde(rename_all = "camelCase")]
pub struct ReplayRejection {
    /// Id of the dead letter.
    pub dead_letter_id: String,
    /// Message for users.
    pub message: String,
}

/// Result of a discard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadLettersDropped)]
#[serde(rename_all = "camelCase")]
pub struct DiscardResponse {
    /// Number of discarded dead letters.
    pub dropped: u64,
    /// There are more: continue after this id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub more_after_id: Option<String>,
}
