//! Routes for what waits after a failure: tried now, or given up.

use axum::extract::State;
use forebay_meta::FileError;
use forebay_model::failpoint::{self, FailPoint};
use forebay_model::{FileKey, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::SharedApi;
use super::call::ApiCall;
use super::error::{ApiError, ErrorName};
use super::json_response::JsonResponse;
use super::params::{FilePath, SinkPath};
use super::sinks::existing;
use super::statistics::failed;

/// What is tried now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkRetry)]
pub(super) struct RetryResponse {
    /// Files whose import had failed.
    files: u64,
    /// Slices whose upload had failed.
    slices: u64,
}

/// What becomes of a file.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkFileRejected)]
#[serde(rename_all = "camelCase")]
pub(super) struct RejectedFile {
    /// When the file was opened.
    #[schema(value_type = String, format = DateTime)]
    opened_at: Timestamp,
    /// Why its table could not take it.
    cause: String,
}

/// Tries everything of a sink now that waits after a failure. An extension of Forebay.
///
/// Imports and uploads that have failed are tried again by themselves, after waits that grow; this is
/// for when their cause is mended. Waits begin anew after it.
#[utoipa::path(
    post, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/retry", tag = "sink", operation_id = "RetrySink",
    params(SinkPath),
    responses((status = 200, description = "How much is tried.", body = RetryResponse))
)]
pub(super) async fn retry_sink(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath>,
) -> Result<JsonResponse<RetryResponse>, ApiError> {
    let key = call.sink_key()?;
    let sink = existing(&api, &key).await?;
    if sink.target.topic().is_some() {
        let id = &sink.key.sink;
        return Err(ApiError::bad_request(format!(
            "sink \"{id}\" is a topic, which tries its provider by itself: only uploads and imports of tables can be retried."
        )));
    }
    let stamp = call.who.audit_stamp(api.clock.now());
    let hurried = api.repo.retry_sink(&key, &stamp).await.map_err(failed)?;
    Ok(JsonResponse::ok(RetryResponse {
        files: hurried.files,
        slices: hurried.slices,
    }))
}

/// Makes the rows of a file that its table can't take dead letters. An extension of Forebay.
///
/// The file must be parked. It is not imported any more; each of its rows becomes one dead letter, in
/// the background. Those can be replayed once the table takes them, or dropped.
#[utoipa::path(
    post, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/files/{openedAt}/dead-letter", tag = "sink", operation_id = "RejectSinkFile",
    params(FilePath),
    extensions(("x-errors" = json!(["fileNotFound", "fileNotParked"]))),
    responses((status = 200, description = "Its rows are on their way to the dead letters.", body = RejectedFile))
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
            "invalid file \"{text}\": expected the time of its opening from the list of files, like \"2026-11-21T05:01:49.120Z\""
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
        Err(e) => return Err(failed(e)),
    };
    Ok(JsonResponse::ok(RejectedFile {
        opened_at,
        cause: file.dead_rows.map(|d| d.cause).unwrap_or_default(),
    }))
}
