//! Routes that retry failed uploads and imports, or move a parked file to the dead letters.

use axum::extract::State;
use forebay_api::retry::{RejectedFile, RetryResponse};
use forebay_meta::FileError;
use forebay_meta::catalog::audit::{AuditAction, AuditEvent, AuditSubject};
use forebay_model::FileKey;
use forebay_model::failpoint::{self, FailPoint};

use super::SharedApi;
use super::call::ApiCall;
use super::error::{ApiError, ErrorName};
use super::json_response::JsonResponse;
use super::sinks::existing;
use forebay_api::params::{FilePath, SinkPath};

/// Retries all failed uploads and imports of a sink now, or the delivery of a topic. An extension of
/// Forebay.
///
/// They are retried automatically with a growing backoff; use this when the cause is fixed. The
/// backoff restarts. A delay that a provider has requested (`Retry-After`) is respected.
#[utoipa::path(
    post, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/retry", tag = "sink", operation_id = "RetrySink",
    params(SinkPath),
    responses((status = 200, description = "Number of retried files and slices.", body = RetryResponse))
)]
pub(super) async fn retry_sink(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath>,
) -> Result<JsonResponse<RetryResponse>, ApiError> {
    let key = call.sink_key()?;
    let sink = existing(&api, &key).await?;
    let stamp = call.who.audit_stamp(api.clock.now());
    if sink.target.topic().is_some() {
        let id = &sink.key.sink;
        if sink.paused.is_some() {
            return Err(ApiError::bad_request(format!(
                "the delivery of sink \"{id}\" is paused: resume it instead"
            )));
        }
        let event = AuditEvent {
            project: key.source.branch.project,
            what: AuditSubject::Sink(key.clone()),
            action: AuditAction::Retry,
            description: String::new(),
            old_version: None,
            new_version: None,
            stamp,
        };
        api.repo.record_access(&event).await?;
        api.topics.retry(&key);
        return Ok(JsonResponse::ok(RetryResponse {
            files: 0,
            slices: 0,
            messages: Some(api.topics.statistics(&sink).waiting),
        }));
    }
    let retried = api.repo.retry_sink(&key, &stamp).await?;
    Ok(JsonResponse::ok(RetryResponse {
        files: retried.files,
        slices: retried.slices,
        messages: None,
    }))
}

/// Moves the rows of a parked file to the dead letters. An extension of Forebay.
///
/// The file must be parked and is not imported any more; each of its rows becomes a dead letter in
/// the background. Replay them when the table accepts them, or drop them.
#[utoipa::path(
    post, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/files/{openedAt}/dead-letter", tag = "sink", operation_id = "RejectSinkFile",
    params(FilePath),
    extensions(("x-errors" = json!(["fileNotFound", "fileNotParked"]))),
    responses((status = 200, description = "Its rows are being moved to the dead letters.", body = RejectedFile))
)]
pub(super) async fn reject_file(
    State(api): State<SharedApi>,
    call: ApiCall<FilePath>,
) -> Result<JsonResponse<RejectedFile>, ApiError> {
    let sink = call.sink_key()?;
    existing(&api, &sink).await?;
    let text = &call.path.opened_at;
    let opened_at = text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "invalid file \"{text}\": expected an opening time from the list of files, like \"2026-11-21T05:01:49.120Z\""
        ))
    })?;
    let key = FileKey { sink, opened_at };
    let stamp = call.who.audit_stamp(api.clock.now());
    let file = match api.repo.reject_file(&key, &stamp).await {
        Ok(file) => {
            failpoint::at(FailPoint::DeadRowsDecided);
            file.value
        }
        Err(FileError::FileNotFound(_)) => {
            return Err(ApiError::from_template(
                ErrorName::FileNotFound,
                &[&opened_at],
            ));
        }
        Err(FileError::NotParked(_)) => {
            return Err(ApiError::from_template(
                ErrorName::FileNotParked,
                &[&opened_at],
            ));
        }
        Err(e) => return Err(e.into()),
    };
    Ok(JsonResponse::ok(RejectedFile {
        opened_at,
        cause: file.dead_rows.map(|d| d.cause).unwrap_or_default(),
    }))
}
