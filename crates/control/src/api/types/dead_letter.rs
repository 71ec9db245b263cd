//! Dead letters as clients see them.

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

/// A record that the mapping has refused.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetterSummary)]
#[serde(rename_all = "camelCase")]
struct DeadLetterSummary {
    /// Never used again.
    dead_letter_id: String,
    /// When the record came.
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// Column that could not be made.
    column: String,
    /// For programs.
    #[schema(example = "stream.in.pathNotFound")]
    error: String,
    /// For people.
    message: String,
    /// Bytes of the record.
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

/// A record that the mapping has refused, as it came.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeadLetterView {
    #[serde(flatten)]
    summary: DeadLetterSummary,
    /// Who sent it.
    client_ip: String,
    /// Headers of its request.
    headers: BTreeMap<String, String>,
    /// Its line in its batch, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    line: Option<usize>,
    /// The record, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    body: Option<String>,
    /// The record in Base64, if it is not.
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

/// Which letters; all of them if nothing is said.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = DeadLetterChoice)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeadLetterSelectionRequest {
    /// Only these; each must be there.
    #[schema(min_items = 1, max_items = 1000, nullable = false)]
    pub(crate) dead_letter_ids: Option<Vec<String>>,
    /// Only those after this one.
    #[schema(min_length = 1, nullable = false)]
    pub(crate) after_id: Option<String>,
}

/// What a replay did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLettersReplayed)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReplayResponse {
    /// So many are on their way to the table.
    replayed: u64,
    /// These were refused again and stay.
    rejected: Vec<ReplayRejection>,
    /// There are more: go on after this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    more_after_id: Option<String>,
}

/// Why a letter stays.
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

/// What a drop did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLettersDropped)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiscardResponse {
    /// So many are gone.
    dropped: u64,
    /// There are more: go on after this one.
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
