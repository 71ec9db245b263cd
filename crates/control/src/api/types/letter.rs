//! Dead letters as clients see them.

use std::collections::BTreeMap;

use base64::Engine as _;
use forebay_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::letters::{Discard, KeptLetter, Replay};
use super::super::params::ListQuery;
use super::common::Page;

/// A page of dead letters.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetters)]
pub(crate) struct LetterList {
    page: Page,
    letters: Vec<LetterSummary>,
}

impl LetterList {
    pub(crate) fn new(query: &ListQuery, letters: &[KeptLetter], total: u64) -> Self {
        let last = letters.last().map(|l| l.id.to_string());
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        Self {
            page: Page::new(query, total, last.as_deref().unwrap_or_default()),
            letters: letters.iter().map(Into::into).collect(),
        }
    }
}

/// A record that the mapping has refused.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetterSummary)]
#[serde(rename_all = "camelCase")]
struct LetterSummary {
    /// Never used again.
    letter_id: String,
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

impl From<&KeptLetter> for LetterSummary {
    fn from(letter: &KeptLetter) -> Self {
        Self {
            letter_id: letter.id.to_string(),
            received_at: letter.received_at,
            column: letter.column.clone(),
            error: format!("stream.in.{}", letter.error),
            message: letter.message.clone(),
            size: letter.body.len(),
        }
    }
}

/// A record that the mapping has refused, as it came.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Letter {
    #[serde(flatten)]
    summary: LetterSummary,
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

impl From<&KeptLetter> for Letter {
    fn from(letter: &KeptLetter) -> Self {
        let body = std::str::from_utf8(&letter.body).ok().map(str::to_owned);
        let base64 = || base64::engine::general_purpose::STANDARD.encode(&letter.body);
        Self {
            summary: letter.into(),
            client_ip: letter.client_ip.clone(),
            headers: letter.headers.iter().cloned().collect(),
            line: letter.line,
            body_base64: body.is_none().then(base64),
            body,
        }
    }
}

/// Which letters; all of them if nothing is said.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = DeadLetterChoice)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LetterChoice {
    /// Only these; each must be there.
    #[schema(min_items = 1, max_items = 1000, nullable = false)]
    pub(crate) letter_ids: Option<Vec<String>>,
    /// Only those after this one.
    #[schema(min_length = 1, nullable = false)]
    pub(crate) after_id: Option<String>,
}

/// What a replay did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLettersReplayed)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LettersReplayed {
    /// So many are on their way to the table.
    replayed: u64,
    /// These were refused again and stay.
    refused: Vec<LetterRefusal>,
    /// There are more: go on after this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    more_after_id: Option<String>,
}

/// Why a letter stays.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetterRefusal)]
#[serde(rename_all = "camelCase")]
struct LetterRefusal {
    letter_id: String,
    message: String,
}

impl From<Replay> for LettersReplayed {
    fn from(done: Replay) -> Self {
        let refusal = |(id, message): (forebay_model::LetterId, String)| LetterRefusal {
            letter_id: id.to_string(),
            message,
        };
        Self {
            replayed: done.replayed,
            refused: done.refused.into_iter().map(refusal).collect(),
            more_after_id: done.more_after.map(|id| id.to_string()),
        }
    }
}

/// What a drop did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLettersDropped)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LettersDropped {
    /// So many are gone.
    dropped: u64,
    /// There are more: go on after this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    more_after_id: Option<String>,
}

impl From<Discard> for LettersDropped {
    fn from(done: Discard) -> Self {
        Self {
            dropped: done.dropped,
            more_after_id: done.more_after.map(|id| id.to_string()),
        }
    }
}
