//! Statistics of path columns: which paths match, and which never do.

use axum::extract::State;
use forebay_api::columns::{ColumnUse, PathUseView};
use forebay_model::PathUse;

use super::SharedApi;
use super::call::ApiCall;
use super::error::ApiError;
use super::json_response::JsonResponse;
use super::sinks::existing;
use forebay_api::params::SinkPath;

fn view(uses: PathUse) -> PathUseView {
    let columns = uses.columns.into_iter();
    PathUseView {
        since: uses.since,
        records: uses.records,
        columns: columns
            .map(|c| ColumnUse {
                never_found: c.is_never_found(),
                name: c.column,
                path: c.path,
                not_found: c.missed,
            })
            .collect(),
    }
}

/// Returns the failed lookups of a sink's path columns. An extension of Forebay.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/statistics/columns", tag = "sink", operation_id = "SinkStatisticsColumns",
    params(SinkPath),
    responses((status = 200, description = "Counts of this node since its start or the last change of the mapping.", body = PathUseView))
)]
pub(super) async fn columns(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath>,
) -> Result<JsonResponse<PathUseView>, ApiError> {
    let sink = existing(&api, &call.sink_key()?).await?;
    let uses = api.path_uses.path_use(&sink.key).unwrap_or_default();
    Ok(JsonResponse::ok(view(uses)))
}
