//! Dead letters.

use std::collections::BTreeMap;

use forebay_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::PageInfo;
use crate::dry_run::{DryRunCell, SampleHeader};

/// A page of dead letters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadLetters)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterList {
    /// Position of this page in the list.
    pub page: PageInfo,
    /// Dead letters, oldest first.
    pub dead_letters: Vec<DeadLetterSummary>,
    /// There are more, perhaps none of which passes the filter: continue after this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub more_after_id: Option<String>,
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
    /// Id of the cause.
    #[schema(example = "9c1f0a2b3d4e5f60")]
    pub cause_id: String,
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

/// Causes of the dead letters of a sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadLetterCauses)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterCauseList {
    /// At most 100 causes, in the order in which they first occur.
    pub causes: Vec<DeadLetterCauseView>,
    /// Number of dead letters of further causes.
    pub others_count: u64,
    /// There are more dead letters: continue after this one, and add the counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub more_after_id: Option<String>,
}

/// Dead letters with the same error, column and message, except for numbers and quoted values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadLetterCause)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterCauseView {
    /// Id of the cause, for filters.
    #[schema(example = "9c1f0a2b3d4e5f60")]
    pub cause_id: String,
    /// The column that failed.
    pub column: String,
    /// Error name for programs.
    #[schema(example = "stream.in.pathNotFound")]
    pub error: String,
    /// Message of the first of them.
    pub message: String,
    /// Number of dead letters.
    pub count: u64,
    /// Bytes of their records.
    pub size: u64,
    /// When the earliest record came.
    #[schema(value_type = String, format = DateTime)]
    pub first_received_at: Timestamp,
    /// When the latest record came.
    #[schema(value_type = String, format = DateTime)]
    pub last_received_at: Timestamp,
    /// The first of them.
    pub first_dead_letter_id: String,
}

/// Conditions on dead letters; all that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadLetterFilter)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterFilterRequest {
    /// Id of a cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        min_length = 1,
        max_length = 64,
        nullable = false,
        example = "9c1f0a2b3d4e5f60"
    )]
    pub cause_id: Option<String>,
    /// Error name, with or without `stream.in.`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64, nullable = false)]
    pub error: Option<String>,
    /// The column that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 256, nullable = false)]
    pub column: Option<String>,
    /// A text in the record or in the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 256, nullable = false)]
    pub contains: Option<String>,
    /// Received at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64, nullable = false)]
    pub received_from: Option<String>,
    /// Received before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64, nullable = false)]
    pub received_to: Option<String>,
}

/// Selection of dead letters; all by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// Only those that pass this filter; not with `deadLetterIds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub filter: Option<DeadLetterFilterRequest>,
}

/// Dead letters to replay; all by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadLetterReplay)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterReplayRequest {
    /// Ids of dead letters; each must exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 1000, nullable = false)]
    pub dead_letter_ids: Option<Vec<String>>,
    /// Only those after this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, nullable = false)]
    pub after_id: Option<String>,
    /// Only those that pass this filter; not with `deadLetterIds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub filter: Option<DeadLetterFilterRequest>,
    /// These, with changed records; not with the other fields. Those that were replayed or dropped
    /// before are skipped, so that a request can be repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 1000, nullable = false)]
    pub edits: Option<Vec<DeadLetterEditRequest>>,
    /// Computes the result and changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = false, nullable = false)]
    pub dry_run: Option<bool>,
}

/// A dead letter with a changed record. What is absent is not changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadLetterEdit)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterEditRequest {
    /// Id of the dead letter.
    #[schema(min_length = 1)]
    pub dead_letter_id: String,
    /// The record. Of a row that its table rejected: a JSON object with a string for each column.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub body: Option<String>,
    /// The record in Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub body_base64: Option<String>,
    /// All headers of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 1000, nullable = false)]
    pub headers: Option<Vec<SampleHeader>>,
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
    /// Edited dead letters that were replayed or dropped before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub skipped_ids: Vec<String>,
    /// Of a dry run: the rows of the first 20 dead letters of a table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub rows: Vec<ReplayRow>,
    /// There are more: go on after this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub more_after_id: Option<String>,
}

/// The row that a replay would make of a dead letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadLetterRow)]
#[serde(rename_all = "camelCase")]
pub struct ReplayRow {
    /// Id of the dead letter.
    pub dead_letter_id: String,
    /// Cells in the order of the columns.
    pub row: Vec<DryRunCell>,
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
