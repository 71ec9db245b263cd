//! Routes of statistics.

use axum::extract::State;
use forebay_meta::FileStatistics;
use forebay_model::FileState;
use http::StatusCode;

use super::SharedApi;
use super::call::ApiCall;
use super::error::ApiError;
use super::json_response::JsonResponse;
use super::sinks::existing;
use super::views::{ToView, delivery_view, sink_total, topic_reconciliation, topic_total};
use forebay_api::params::{FilesQuery, SinkPath, SourcePath};
use forebay_api::statistics::{FileList, ReconciliationView, SliceList, StatisticsTotal};
use forebay_api::topic::DeliveryView;

/// Returns the statistics of a sink: total and by storage level.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/statistics/total", tag = "sink", operation_id = "SinkStatisticsTotal",
    params(SinkPath),
    responses((status = 200, description = "Counts of records and bytes.", body = StatisticsTotal))
)]
pub(super) async fn total(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath>,
) -> Result<JsonResponse<StatisticsTotal>, ApiError> {
    let key = call.sink_key()?;
    let sink = existing(&api, &key).await?;
    if sink.target.topic().is_some() {
        return Ok(JsonResponse::ok(topic_total(&api.topics.statistics(&sink))));
    }
    let statistics = api.repo.sink_statistics(&key).await?;
    Ok(JsonResponse::ok(sink_total(&statistics)))
}

/// Lists the files of a sink.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/statistics/files", tag = "sink", operation_id = "SinkStatisticsFiles",
    params(SinkPath, FilesQuery),
    responses((status = 200, description = "Imported files first, failed files last, each oldest first.", body = FileList))
)]
pub(super) async fn files(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath, FilesQuery>,
) -> Result<JsonResponse<FileList>, ApiError> {
    let key = call.sink_key()?;
    existing(&api, &key).await?;
    let mut files = api.repo.file_statistics(&key).await?;
    files.retain(|f| !f.cleared);
    if call.query.failed_files {
        files.retain(|f| f.file.state != FileState::Imported && f.file.retry.attempt > 0);
    }
    files.sort_by_key(order);
    Ok(JsonResponse::ok(FileList {
        files: files.iter().map(ToView::to_view).collect(),
    }))
}

fn order(entry: &FileStatistics) -> (bool, bool, forebay_model::Timestamp) {
    let file = &entry.file;
    (
        file.state != FileState::Imported,
        file.retry.reason.is_some(),
        file.key.opened_at,
    )
}

/// Lists the slices of a sink's files that are not imported yet. An extension of Forebay.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/statistics/slices", tag = "sink", operation_id = "SinkStatisticsSlices",
    params(SinkPath),
    responses((status = 200, description = "State of each slice, oldest file first.", body = SliceList))
)]
pub(super) async fn slices(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath>,
) -> Result<JsonResponse<SliceList>, ApiError> {
    let key = call.sink_key()?;
    existing(&api, &key).await?;
    let files = api.repo.active_files(Some(&key)).await?;
    let slices = files.iter().flat_map(|file| &file.slices);
    Ok(JsonResponse::ok(SliceList {
        slices: slices.map(ToView::to_view).collect(),
    }))
}

/// Resets the counts of imported records of a sink. Records in flight count when they are imported;
/// the reconciliation is not reset.
#[utoipa::path(
    delete, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/statistics/clear", tag = "sink", operation_id = "ClearSinkStatistics",
    params(SinkPath),
    responses((status = 200, description = "Done."))
)]
pub(super) async fn clear_sink(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath>,
) -> Result<StatusCode, ApiError> {
    let key = call.sink_key()?;
    let sink = existing(&api, &key).await?;
    if sink.target.topic().is_some() {
        return Err(ApiError::bad_request(
            "counts of a topic are those of the log and can't be cleared; only those of tables can.",
        ));
    }
    let stamp = call.who.audit_stamp(api.clock.now());
    let cleared = api.repo.clear_statistics(&key, &stamp).await;
    cleared?;
    Ok(StatusCode::OK)
}

/// Resets the counts of all sinks of a source.
#[utoipa::path(
    delete, path = "/v1/branches/{branchId}/sources/{sourceId}/statistics/clear", tag = "source", operation_id = "ClearSourceStatistics",
    params(SourcePath),
    responses((status = 200, description = "Done."))
)]
pub(super) async fn clear_source(
    State(api): State<SharedApi>,
    call: ApiCall<SourcePath>,
) -> Result<StatusCode, ApiError> {
    let key = call.source_key()?;
    api.repo.source(&key).await?;
    let stamp = call.who.audit_stamp(api.clock.now());
    for sink in api.repo.first_sinks(&key, usize::MAX).await? {
        if sink.target.topic().is_some() {
            continue;
        }
        let cleared = api.repo.clear_statistics(&sink.key, &stamp).await;
        cleared?;
    }
    Ok(StatusCode::OK)
}

/// Returns the reconciliation of a sink's records. An extension of Forebay.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/statistics/reconciliation", tag = "sink", operation_id = "SinkStatisticsReconciliation",
    params(SinkPath),
    responses((status = 200, description = "accepted = imported + dead + expired + lost + inFlight", body = ReconciliationView))
)]
pub(super) async fn reconciliation(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath>,
) -> Result<JsonResponse<ReconciliationView>, ApiError> {
    let key = call.sink_key()?;
    let sink = existing(&api, &key).await?;
    if sink.target.topic().is_some() {
        return Ok(JsonResponse::ok(topic_reconciliation(
            &api.topics.statistics(&sink),
        )));
    }
    let reconciliation = api.repo.reconciliation(&key).await?;
    Ok(JsonResponse::ok(reconciliation.to_view()))
}

/// Returns the delivery status of a topic. An extension of Forebay.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/statistics/delivery", tag = "sink", operation_id = "SinkStatisticsDelivery",
    params(SinkPath),
    responses((status = 200, description = "accepted = delivered + dead + discarded + lost + lag.records", body = DeliveryView))
)]
pub(super) async fn delivery(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath>,
) -> Result<JsonResponse<DeliveryView>, ApiError> {
    let sink = existing(&api, &call.sink_key()?).await?;
    let Some(topic) = sink.target.topic() else {
        let id = &sink.key.sink;
        return Err(ApiError::bad_request(format!(
            "sink \"{id}\" is a table: only sinks of the types \"kafka\" and \"http\" have a delivery status, see its files."
        )));
    };
    Ok(JsonResponse::ok(delivery_view(
        topic,
        api.topics.statistics(&sink),
    )))
}
