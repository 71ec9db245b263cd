//! Routes of dead letters, and the seam to whatever keeps them. The binary implements it on the
//! data plane, which this crate does not know.

use async_trait::async_trait;
use axum::extract::State;
use bytes::Bytes;
use forebay_model::{LetterId, SinkKey, Timestamp};

use super::Shared;
use super::answer::Answer;
use super::body::{Json, Nothing};
use super::call::Call;
use super::error::{ApiError, ErrorName};
use super::params::{LetterPath, ListQuery, SinkPath};
use super::sinks::existing;
use super::types::letter::{Letter, LetterChoice, LetterList, LettersDropped, LettersReplayed};

/// Keeps dead letters.
#[async_trait]
pub trait Letters: Send + Sync {
    /// Letters of a sink that are not done with, after one of them, at most so many.
    async fn list(
        &self,
        sink: &SinkKey,
        after: Option<&LetterId>,
        limit: usize,
    ) -> Result<Vec<KeptLetter>, LetterFailure>;

    /// One of them.
    async fn get(&self, sink: &SinkKey, id: &LetterId) -> Result<KeptLetter, LetterFailure>;

    /// Sends letters on their way by the mapping in force.
    async fn replay(&self, sink: &SinkKey, which: &Choice) -> Result<Replay, LetterFailure>;

    /// Forgets letters.
    async fn discard(&self, sink: &SinkKey, which: &Choice) -> Result<Discard, LetterFailure>;
}

/// A record that a mapping has refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLetter {
    /// Its id.
    pub id: LetterId,
    /// When the record was received.
    pub received_at: Timestamp,
    /// Who sent it.
    pub client_ip: String,
    /// Headers of its request.
    pub headers: Vec<(String, String)>,
    /// Its line in its batch, from 1.
    pub line: Option<usize>,
    /// The record.
    pub body: Bytes,
    /// The column that could not be made.
    pub column: String,
    /// Name of the refusal.
    pub error: String,
    /// Why.
    pub message: String,
}

/// Which letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// All, or all after one.
    After(Option<LetterId>),
    /// These.
    These(Vec<LetterId>),
}

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// So many are on their way.
    pub replayed: u64,
    /// These were refused again: which, and why.
    pub refused: Vec<(LetterId, String)>,
    /// The last one that was looked at, if there are more.
    pub more_after: Option<LetterId>,
}

/// What a drop did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discard {
    /// So many are gone.
    pub dropped: u64,
    /// The last one that was looked at, if there are more.
    pub more_after: Option<LetterId>,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LetterFailure {
    /// There is none of that id, or it was replayed or dropped.
    #[error("Dead letter \"{0}\" not found in the sink.")]
    NotFound(LetterId),
    /// Nothing can be done as things are; a person can change that.
    #[error("{0}")]
    Refused(String),
    /// It may be tried again.
    #[error("{0}")]
    Unavailable(String),
    /// Something else.
    #[error("{0}")]
    Internal(String),
}

impl From<LetterFailure> for ApiError {
    fn from(failure: LetterFailure) -> Self {
        match failure {
            LetterFailure::NotFound(id) => Self::of(ErrorName::DeadLetterNotFound, &[&id]),
            LetterFailure::Refused(cause) => Self::new(ErrorName::DeadLettersRefused, cause),
            LetterFailure::Unavailable(cause) => Self::unavailable(cause),
            LetterFailure::Internal(cause) => Self::internal(cause),
        }
    }
}

/// Records that the mapping has refused, or messages that the provider of a topic has, and that are
/// kept; the oldest first. An extension of Forebay.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/dead-letters", tag = "sink", operation_id = "ListDeadLetters",
    params(SinkPath, ListQuery),
    responses((status = 200, description = "A page of them, without their bodies.", body = LetterList))
)]
pub(super) async fn list(
    State(api): State<Shared>,
    call: Call<SinkPath, ListQuery>,
) -> Result<Answer<LetterList>, ApiError> {
    let key = call.sink_key()?;
    let sink = existing(&api, &key).await?;
    let after = match call.query.after_id.as_str() {
        "" => None,
        id => Some(letter_id(id)?),
    };
    let limit = usize::try_from(call.query.limit).unwrap_or(usize::MAX);
    let letters = api.letters.list(&key, after.as_ref(), limit).await?;
    let total = if sink.target.topic().is_some() {
        api.topics.statistics(&sink).dead
    } else {
        let balance = api.repo.balance(&key).await;
        balance.map_err(super::statistics::failed)?.dead
    };
    Ok(Answer::ok(LetterList::new(&call.query, &letters, total)))
}

/// One of them, with its record.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/dead-letters/{letterId}", tag = "sink", operation_id = "GetDeadLetter",
    params(LetterPath),
    responses((status = 200, description = "The record as it came, and why it was refused.", body = Letter))
)]
pub(super) async fn get(
    State(api): State<Shared>,
    call: Call<LetterPath>,
) -> Result<Answer<Letter>, ApiError> {
    let key = call.sink_key()?;
    existing(&api, &key).await?;
    let id = letter_id(&call.path.letter_id)?;
    let letter = api.letters.get(&key, &id).await?;
    Ok(Answer::ok((&letter).into()))
}

/// Sends them on their way to the table, by the mapping in force; or to the topic, as they are.
///
/// Each is delivered once. Those that the mapping refuses again stay. At most 1000 are looked at:
/// while the answer has `moreAfterId`, there are more.
#[utoipa::path(
    post, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/dead-letters/replay", tag = "sink", operation_id = "ReplayDeadLetters",
    params(SinkPath), request_body = LetterChoice,
    extensions(("x-errors" = json!(["deadLetterNotFound", "deadLettersRefused"]))),
    responses((status = 200, description = "What was done.", body = LettersReplayed))
)]
pub(super) async fn replay(
    State(api): State<Shared>,
    call: Call<SinkPath, Nothing, Json<LetterChoice>>,
) -> Result<Answer<LettersReplayed>, ApiError> {
    let key = call.sink_key()?;
    existing(&api, &key).await?;
    let done = api.letters.replay(&key, &choice(call.body.0)?).await?;
    Ok(Answer::ok(done.into()))
}

/// Forgets them for good; the balance counts them as expired.
///
/// At most 1000 are looked at: while the answer has `moreAfterId`, there are more.
#[utoipa::path(
    post, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/dead-letters/drop", tag = "sink", operation_id = "DropDeadLetters",
    params(SinkPath), request_body = LetterChoice,
    extensions(("x-errors" = json!(["deadLetterNotFound", "deadLettersRefused"]))),
    responses((status = 200, description = "What was done.", body = LettersDropped))
)]
pub(super) async fn discard(
    State(api): State<Shared>,
    call: Call<SinkPath, Nothing, Json<LetterChoice>>,
) -> Result<Answer<LettersDropped>, ApiError> {
    let key = call.sink_key()?;
    existing(&api, &key).await?;
    let done = api.letters.discard(&key, &choice(call.body.0)?).await?;
    Ok(Answer::ok(done.into()))
}

fn choice(body: LetterChoice) -> Result<Choice, ApiError> {
    match (body.letter_ids, body.after_id) {
        (Some(_), Some(_)) => Err(ApiError::bad_request(
            "\"letterIds\" and \"afterId\" can't be combined",
        )),
        (Some(ids), None) => {
            let ids: Result<_, _> = ids.iter().map(|id| letter_id(id)).collect();
            Ok(Choice::These(ids?))
        }
        (None, after) => Ok(Choice::After(after.as_deref().map(letter_id).transpose()?)),
    }
}

fn letter_id(text: &str) -> Result<LetterId, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "invalid dead letter id \"{text}\": expected one from the list, like \"3f0c9a6b1d2e4f58-12\""
        ))
    })
}
