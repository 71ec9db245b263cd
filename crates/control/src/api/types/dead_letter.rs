//! Dead letters.

use std::collections::BTreeMap;

use base64::Engine as _;
use forebay_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::dead_letters::{DeadLetterEntry, DiscardSummary, ReplaySummary};
use super::super::params::ListQuery;
use super::common::PageInfo;

/// A page of dead letters.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetters)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeadLetterList {
    page: PageInfo,
    dead_letters: Vec<DeadLetterSummary>,
}

impl DeadLetterList {
    pub(crate) fn new(query: &ListQuery, entries: &[DeadLetterEntry], total: u64) -> Self {
        let last = entries.last().map(|l| l.id.to_string());
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        Self {
            page: PageInfo::new(query, total, last.as_deref().unwrap_or_default()),
            dead_letters: entries.iter().map(Into::into).collect(),
        }
    }
}

/// A record that the mapping rejected.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetterSummary)]
#[serde(rename_all = "camelCase")]
struct DeadLetterSummary {
    /// Never used again.
    dead_letter_id: String,
    /// When the record came.
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// The column that failed.
    column: String,
    /// Error name for programs.
    #[schema(example = "stream.in.pathNotFound")]
    error: String,
    /// Message for users.
    message: String,
    /// Size of the record in bytes.
    size: usize,
}

impl From<&DeadLetterEntry> for DeadLetterSummary {
    fn from(entry: &DeadLetterEntry) -> Self {
        Self {
            dead_letter_id: entry.id.to_string(),
            received_at: entry.received_at,
            column: entry.column.clone(),
            error: format!("stream.in.{}", entry.error),
            message: entry.message.clone(),
            size: entry.body.len(),
        }
    }
}

/// A record that the mapping rejected, as received.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeadLetterView {
    #[serde(flatten)]
    summary: DeadLetterSummary,
    /// Address of the client.
    client_ip: String,
    headers: BTreeMap<String, String>,
    /// Line number in its batch, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    line: Option<usize>,
    /// The record, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    body: Option<String>,
    /// The record in Base64, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    body_base64: Option<String>,
}

impl From<&DeadLetterEntry> for DeadLetterView {
    fn from(entry: &DeadLetterEntry) -> Self {
        let body = std::str::from_utf8(&entry.body).ok().map(str::to_owned);
        let base64 = || base64::engine::general_purpose::STANDARD.encode(&entry.body);
        Self {
            summary: entry.into(),
            client_ip: entry.client_ip.clone(),
            headers: entry.headers.iter().cloned().collect(),
            line: entry.line,
            body_base64: body.is_none().then(base64),
            body,
        }
    }
}

/// Selection of dead letters; all by default.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = DeadLetterChoice)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeadLetterSelectionRequest {
    /// Ids of dead letters; each must exist.
    #[schema(min_items = 1, max_items = 1000, nullable = false)]
    pub(crate) dead_letter_ids: Option<Vec<String>>,
    /// Only those after this one.
    #[schema(min_length = 1, nullable = false)]
    pub(crate) after_id: Option<String>,
}

/// Result of a replay.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLettersReplayed)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReplayResponse {
    /// Number of dead letters sent to the table or topic.
    replayed: u64,
    /// These were refused again and stay.
    rejected: Vec<ReplayRejection>,
    /// There are more: go on after this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    more_after_id: Option<String>,
}

/// Why a dead letter was rejected again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetterRefusal)]
#[serde(rename_all = "camelCase")]
struct ReplayRejection {
    dead_letter_id: String,
    message: String,
}

impl From<ReplaySummary> for ReplayResponse {
    fn from(summary: ReplaySummary) -> Self {
        let rejection = |(id, message): (forebay_model::DeadLetterId, String)| ReplayRejection {
            dead_letter_id: id.to_string(),
            message,
        };
        Self {
            replayed: summary.replayed,
            rejected: summary.rejected.into_iter().map(rejection).collect(),
            more_after_id: summary.more_after.map(|id| id.to_string()),
        }
    }
}

/// Result of a discard.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLettersDropped)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiscardResponse {
    /// Number of discarded dead letters.
    dropped: u64,
    /// There are more: continue after this id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    more_after_id: Option<String>,
}

impl From<DiscardSummary> for DiscardResponse {
    fn from(summary: DiscardSummary) -> Self {
        Self {
            dropped: summary.dropped,
            more_after_id: summary.more_after.map(|id| id.to_string()),
        }
    }
}
