//! Routes of dead letters.

mod service;

use axum::extract::State;
use base64::Engine as _;
use forebay_model::DeadLetterId;

use super::SharedApi;
use super::body::{EmptyInput, JsonBody};
use super::call::ApiCall;
use super::error::{ApiError, ErrorName};
use super::json_response::JsonResponse;
use super::sinks::existing;
use forebay_api::dead_letter::{
    DeadLetterList, DeadLetterSelectionRequest, DeadLetterSummary, DeadLetterView, DiscardResponse,
    ReplayRejection, ReplayResponse,
};
use forebay_api::params::{DeadLetterPath, ListQuery, SinkPath};

pub use service::{
    DeadLetterEntry, DeadLetterSelection, DeadLetterService, DeadLetterServiceError,
    DiscardSummary, ReplaySummary,
};

impl From<DeadLetterServiceError> for ApiError {
    fn from(failure: DeadLetterServiceError) -> Self {
        match failure {
            DeadLetterServiceError::NotFound(id) => {
                Self::from_template(ErrorName::DeadLetterNotFound, &[&id])
            }
            DeadLetterServiceError::Rejected(cause) => {
                Self::new(ErrorName::DeadLettersRejected, cause)
            }
            DeadLetterServiceError::Unavailable(cause) => Self::unavailable(cause),
            DeadLetterServiceError::Internal(cause) => Self::internal(cause),
        }
    }
}

/// Lists the dead letters of a sink, oldest first: records that its mapping rejected, or messages
/// that the provider of its topic rejected. An extension of Forebay.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/dead-letters", tag = "sink", operation_id = "ListDeadLetters",
    params(SinkPath, ListQuery),
    responses((status = 200, description = "A page of dead letters, without their bodies.", body = DeadLetterList))
)]
pub(super) async fn list(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath, ListQuery>,
) -> Result<JsonResponse<DeadLetterList>, ApiError> {
    let key = call.sink_key()?;
    let sink = existing(&api, &key).await?;
    let after = match call.query.after_id.as_str() {
        "" => None,
        id => Some(parse_dead_letter_id(id)?),
    };
    let limit = usize::try_from(call.query.limit).unwrap_or(usize::MAX);
    let entries = api.dead_letters.list(&key, after.as_ref(), limit).await?;
    let total = if sink.target.topic().is_some() {
        api.topics.statistics(&sink).dead
    } else {
        let reconciliation = api.repo.reconciliation(&key).await;
        reconciliation?.dead
    };
    Ok(JsonResponse::ok(page(&call.query, &entries, total)))
}

/// Returns a dead letter with its record.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/dead-letters/{deadLetterId}", tag = "sink", operation_id = "GetDeadLetter",
    params(DeadLetterPath),
    responses((status = 200, description = "The record as received, and why it was rejected.", body = DeadLetterView))
)]
pub(super) async fn get(
    State(api): State<SharedApi>,
    call: ApiCall<DeadLetterPath>,
) -> Result<JsonResponse<DeadLetterView>, ApiError> {
    let key = call.sink_key()?;
    existing(&api, &key).await?;
    let id = parse_dead_letter_id(&call.path.dead_letter_id)?;
    let entry = api.dead_letters.get(&key, &id).await?;
    Ok(JsonResponse::ok(view(&entry)))
}

/// Replays dead letters: to the table with the current mapping, to the topic unchanged.
///
/// Each is delivered once. Those that the mapping rejects again are retained. At most 1000 are
/// processed: `moreAfterId` in the response means that there are more.
#[utoipa::path(
    post, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/dead-letters/replay", tag = "sink", operation_id = "ReplayDeadLetters",
    params(SinkPath), request_body = DeadLetterSelectionRequest,
    extensions(("x-errors" = json!(["deadLetterNotFound", "deadLettersRejected"]))),
    responses((status = 200, description = "What was done.", body = ReplayResponse))
)]
pub(super) async fn replay(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath, EmptyInput, JsonBody<DeadLetterSelectionRequest>>,
) -> Result<JsonResponse<ReplayResponse>, ApiError> {
    let key = call.sink_key()?;
    existing(&api, &key).await?;
    let summary = api
        .dead_letters
        .replay(&key, &selection(call.body.0)?)
        .await?;
    let rejection = |(id, message): (DeadLetterId, String)| ReplayRejection {
        dead_letter_id: id.to_string(),
        message,
    };
    Ok(JsonResponse::ok(ReplayResponse {
        replayed: summary.replayed,
        rejected: summary.rejected.into_iter().map(rejection).collect(),
        more_after_id: summary.more_after.map(|id| id.to_string()),
    }))
}

/// Discards dead letters permanently; the reconciliation counts them as expired.
///
/// At most 1000 are processed: `moreAfterId` in the response means that there are more.
#[utoipa::path(
    post, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/dead-letters/drop", tag = "sink", operation_id = "DropDeadLetters",
    params(SinkPath), request_body = DeadLetterSelectionRequest,
    extensions(("x-errors" = json!(["deadLetterNotFound", "deadLettersRejected"]))),
    responses((status = 200, description = "What was done.", body = DiscardResponse))
)]
pub(super) async fn discard(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath, EmptyInput, JsonBody<DeadLetterSelectionRequest>>,
) -> Result<JsonResponse<DiscardResponse>, ApiError> {
    let key = call.sink_key()?;
    existing(&api, &key).await?;
    let summary = api
        .dead_letters
        .discard(&key, &selection(call.body.0)?)
        .await?;
    Ok(JsonResponse::ok(DiscardResponse {
        dropped: summary.dropped,
        more_after_id: summary.more_after.map(|id| id.to_string()),
    }))
}

fn page(query: &ListQuery, entries: &[DeadLetterEntry], total: u64) -> DeadLetterList {
    let last = entries.last().map(|l| l.id.to_string());
    let total = usize::try_from(total).unwrap_or(usize::MAX);
    DeadLetterList {
        page: query.page(total, last.as_deref().unwrap_or_default()),
        dead_letters: entries.iter().map(summary).collect(),
    }
}

fn summary(entry: &DeadLetterEntry) -> DeadLetterSummary {
    DeadLetterSummary {
        dead_letter_id: entry.id.to_string(),
        received_at: entry.received_at,
        column: entry.column.clone(),
        error: format!("stream.in.{}", entry.error),
        message: entry.message.clone(),
        size: entry.body.len(),
    }
}

fn view(entry: &DeadLetterEntry) -> DeadLetterView {
    let body = std::str::from_utf8(&entry.body).ok().map(str::to_owned);
    let base64 = || base64::engine::general_purpose::STANDARD.encode(&entry.body);
    DeadLetterView {
        summary: summary(entry),
        client_ip: entry.client_ip.clone(),
        headers: entry.headers.iter().cloned().collect(),
        line: entry.line,
        body_base64: body.is_none().then(base64),
        body,
    }
}

fn selection(body: DeadLetterSelectionRequest) -> Result<DeadLetterSelection, ApiError> {
    match (body.dead_letter_ids, body.after_id) {
        (Some(_), Some(_)) => Err(ApiError::bad_request(
            "\"deadLetterIds\" and \"afterId\" can't be combined",
        )),
        (Some(ids), None) => {
            let ids: Result<_, _> = ids.iter().map(|id| parse_dead_letter_id(id)).collect();
            Ok(DeadLetterSelection::These(ids?))
        }
        (None, after) => Ok(DeadLetterSelection::After(
            after.as_deref().map(parse_dead_letter_id).transpose()?,
        )),
    }
}

fn parse_dead_letter_id(text: &str) -> Result<DeadLetterId, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "invalid dead letter id \"{text}\": expected an id from the list, like \"3f0c9a6b1d2e4f58-12\""
        ))
    })
}
