//! Routes of dead letters.

mod selection;
mod service;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use forebay_api::dead_letter::{
    DeadLetterCauseList, DeadLetterCauseView, DeadLetterList, DeadLetterReplayRequest,
    DeadLetterSelectionRequest, DeadLetterSummary, DeadLetterView, DiscardResponse,
    ReplayRejection, ReplayResponse, ReplayRow,
};
use forebay_api::dry_run::DryRunCell;
use forebay_api::params::{
    DeadLetterFilterQuery, DeadLetterPath, ExportQuery, ListQuery, SinkPath, StartQuery,
};
use forebay_meta::catalog::audit::{AuditAction, AuditEvent, AuditSubject};
use forebay_model::{CauseGroup, DeadLetterId, ReplayedRow, SinkKey};
use http::{HeaderValue, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::SharedApi;
use super::body::{EmptyInput, JsonBody};
use super::call::ApiCall;
use super::error::{ApiError, ErrorName};
use super::json_response::JsonResponse;
use super::sinks::existing;
use crate::auth::CallerIdentity;
use selection::{ERROR_PREFIX, filter_of_query, parse_dead_letter_id, query_of, replay_of, start};
pub use service::{
    DeadLetterEntries, DeadLetterEntry, DeadLetterQuery, DeadLetterReplay, DeadLetterSelection,
    DeadLetterService, DeadLetterServiceError, DiscardSummary, ReplaySummary,
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

/// A page of dead letters that pass a filter.
#[derive(Debug, Deserialize)]
pub(super) struct FilteredQuery<P> {
    #[serde(flatten)]
    page: P,
    #[serde(flatten)]
    filter: DeadLetterFilterQuery,
}

/// Lists the dead letters of a sink, oldest first: records that its mapping rejected, or messages
/// that the provider of its topic rejected. An extension of Forebay.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/dead-letters", tag = "sink", operation_id = "ListDeadLetters",
    params(SinkPath, ListQuery, DeadLetterFilterQuery),
    responses((status = 200, description = "A page of dead letters, without their bodies.", body = DeadLetterList))
)]
pub(super) async fn list(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath, FilteredQuery<ListQuery>>,
) -> Result<JsonResponse<DeadLetterList>, ApiError> {
    let key = call.sink_key()?;
    let sink = existing(&api, &key).await?;
    let FilteredQuery { page, filter } = call.query;
    let query = DeadLetterQuery {
        selection: DeadLetterSelection::After(start(&page.after_id)?),
        filter: filter_of_query(filter)?,
    };
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let found = api.dead_letters.list(&key, &query, limit).await?;
    let total = if sink.target.topic().is_some() {
        api.topics.statistics(&sink).dead
    } else {
        let reconciliation = api.repo.reconciliation(&key).await;
        reconciliation?.dead
    };
    let total = usize::try_from(total).unwrap_or(usize::MAX);
    let more = found.more_after.map(|id| id.to_string());
    let last = found.entries.last().map(|l| l.id.to_string());
    // A filtered page may have fewer items than those that were read.
    let last = more.clone().or(last).unwrap_or_default();
    Ok(JsonResponse::ok(DeadLetterList {
        page: page.page(total, &last),
        dead_letters: found.entries.iter().map(summary).collect(),
        more_after_id: more,
    }))
}

/// Counts the dead letters of a sink by their causes. An extension of Forebay.
///
/// Dead letters whose errors differ only in numbers and quoted values have the same cause. At most
/// 20,000 dead letters (64 MB) are read: `moreAfterId` in the response means that there are more.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/dead-letters/causes", tag = "sink", operation_id = "ListDeadLetterCauses",
    params(SinkPath, StartQuery, DeadLetterFilterQuery),
    responses((status = 200, description = "Causes in the order in which they first occur.", body = DeadLetterCauseList))
)]
pub(super) async fn causes(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath, FilteredQuery<StartQuery>>,
) -> Result<JsonResponse<DeadLetterCauseList>, ApiError> {
    let key = call.sink_key()?;
    existing(&api, &key).await?;
    let FilteredQuery { page, filter } = call.query;
    let (after, filter) = (start(&page.after_id)?, filter_of_query(filter)?);
    let report = api
        .dead_letters
        .causes(&key, after.as_ref(), &filter)
        .await?;
    let cause = |group: CauseGroup<DeadLetterId>| DeadLetterCauseView {
        cause_id: group.cause.to_string(),
        column: group.column,
        error: format!("{ERROR_PREFIX}{}", group.error),
        message: group.message,
        count: group.count,
        size: group.bytes,
        first_received_at: group.first_received,
        last_received_at: group.last_received,
        first_dead_letter_id: group.first.to_string(),
    };
    Ok(JsonResponse::ok(DeadLetterCauseList {
        causes: report.causes.into_iter().map(cause).collect(),
        others_count: report.others,
        more_after_id: report.more_after.map(|id| id.to_string()),
    }))
}

/// Exports dead letters with their records, one JSON object per line. An extension of Forebay.
///
/// A page has at most 1000 dead letters and 16 MB of records. If there are more, the header `Link`
/// has the address of the next page (`rel="next"`). Changed records can be sent back as `edits` of a
/// replay.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/dead-letters/export", tag = "sink", operation_id = "ExportDeadLetters",
    params(SinkPath, ExportQuery, DeadLetterFilterQuery),
    responses((status = 200, description = "Lines of JSON, oldest first.", content_type = "application/x-ndjson", body = DeadLetterView))
)]
pub(super) async fn export(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath, FilteredQuery<ExportQuery>>,
) -> Result<Response, ApiError> {
    let key = call.sink_key()?;
    existing(&api, &key).await?;
    let FilteredQuery { page, filter } = call.query;
    let next = filter.clone();
    let query = DeadLetterQuery {
        selection: DeadLetterSelection::After(start(&page.after_id)?),
        filter: filter_of_query(filter)?,
    };
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let found = api.dead_letters.list(&key, &query, limit).await?;
    let mut lines = Vec::new();
    for entry in &found.entries {
        serde_json::to_writer(&mut lines, &view(entry)).map_err(ApiError::internal)?;
        lines.push(b'\n');
    }
    let mut response = Response::new(Body::from(lines));
    let ndjson = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, ndjson);
    if let Some(id) = found.more_after {
        let link = format!("<{}>; rel=\"next\"", next_page(page.limit, &id, &next));
        let link = HeaderValue::from_str(&link).map_err(ApiError::internal)?;
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// Query string of the next page, relative to the address of this one.
fn next_page(limit: u32, after: &DeadLetterId, filter: &DeadLetterFilterQuery) -> String {
    let after = after.to_string();
    let mut query = format!("?limit={limit}");
    for (name, value) in [
        ("afterId", &after),
        ("causeId", &filter.cause_id),
        ("error", &filter.error),
        ("column", &filter.column),
        ("contains", &filter.contains),
        ("receivedFrom", &filter.received_from),
        ("receivedTo", &filter.received_to),
    ] {
        if !value.is_empty() {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            query.push_str(&format!("&{name}={value}"));
        }
    }
    query
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
/// processed, and with a filter 20,000 read: `moreAfterId` in the response means that there are
/// more. `edits` replays changed records; `dryRun` only computes the result.
#[utoipa::path(
    post, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/dead-letters/replay", tag = "sink", operation_id = "ReplayDeadLetters",
    params(SinkPath), request_body = DeadLetterReplayRequest,
    extensions(("x-errors" = json!(["deadLetterNotFound", "deadLettersRejected"]))),
    responses((status = 200, description = "What was done.", body = ReplayResponse))
)]
pub(super) async fn replay(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath, EmptyInput, JsonBody<DeadLetterReplayRequest>>,
) -> Result<JsonResponse<ReplayResponse>, ApiError> {
    let key = call.sink_key()?;
    existing(&api, &key).await?;
    let replay = replay_of(call.body.0)?;
    let summary = api.dead_letters.replay(&key, &replay).await?;
    if summary.replayed > 0 && !replay.dry_run {
        let edited = match replay.edits.is_empty() {
            true => "",
            false => ", with changed records",
        };
        let text = format!("{}{edited}.", counted(summary.replayed));
        audit(&api, &key, AuditAction::ReplayDeadLetters, text, &call.who).await;
    }
    let rejection = |(id, message): (DeadLetterId, String)| ReplayRejection {
        dead_letter_id: id.to_string(),
        message,
    };
    let cell = |(name, value): (String, Vec<u8>)| DryRunCell {
        name,
        value: String::from_utf8_lossy(&value).into_owned(),
    };
    let row = |row: ReplayedRow<DeadLetterId>| ReplayRow {
        dead_letter_id: row.id.to_string(),
        row: row.cells.into_iter().map(cell).collect(),
    };
    Ok(JsonResponse::ok(ReplayResponse {
        replayed: summary.replayed,
        rejected: summary.rejected.into_iter().map(rejection).collect(),
        skipped_ids: summary.skipped.iter().map(ToString::to_string).collect(),
        rows: summary.rows.into_iter().map(row).collect(),
        more_after_id: summary.more_after.map(|id| id.to_string()),
    }))
}

fn counted(dead_letters: u64) -> String {
    match dead_letters {
        1 => "1 dead letter".to_owned(),
        number => format!("{number} dead letters"),
    }
}

/// Records who resolved dead letters. That can't be undone, so a failure is only reported.
async fn audit(
    api: &SharedApi,
    sink: &SinkKey,
    action: AuditAction,
    description: String,
    who: &CallerIdentity,
) {
    let event = AuditEvent {
        project: sink.source.branch.project,
        what: AuditSubject::Sink(sink.clone()),
        action,
        description,
        old_version: None,
        new_version: None,
        stamp: who.audit_stamp(api.clock.now()),
    };
    if let Err(error) = api.repo.record_access(&event).await {
        tracing::warn!(%sink, action = action.name(), %error, "the audit entry could not be written");
    }
}

/// Discards dead letters permanently; the reconciliation counts them as expired.
///
/// At most 1000 are processed, and with a filter 20,000 read: `moreAfterId` in the response means
/// that there are more.
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
    let query = query_of(call.body.0)?;
    let summary = api.dead_letters.discard(&key, &query).await?;
    if summary.dropped > 0 {
        let text = format!("{}.", counted(summary.dropped));
        audit(&api, &key, AuditAction::DropDeadLetters, text, &call.who).await;
    }
    Ok(JsonResponse::ok(DiscardResponse {
        dropped: summary.dropped,
        more_after_id: summary.more_after.map(|id| id.to_string()),
    }))
}

fn summary(entry: &DeadLetterEntry) -> DeadLetterSummary {
    DeadLetterSummary {
        dead_letter_id: entry.id.to_string(),
        received_at: entry.received_at,
        column: entry.column.clone(),
        error: format!("{ERROR_PREFIX}{}", entry.error),
        message: entry.message.clone(),
        cause_id: entry.cause.to_string(),
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
