//! Statistics of path columns: which paths match, and which never do.

use axum::extract::State;
use forebay_model::{PathUse, SinkKey, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::SharedApi;
use super::call::ApiCall;
use super::error::ApiError;
use super::json_response::JsonResponse;
use super::params::SinkPath;
use super::sinks::existing;

/// Path statistics of this node's data plane.
pub trait PathUses: Send + Sync {
    /// Failed lookups of a sink's paths; `None` if it received no record since the start of this
    /// node or the last change of its mapping.
    fn path_use(&self, sink: &SinkKey) -> Option<PathUse>;
}

/// Failed lookups of a sink's path columns.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkColumns)]
pub(crate) struct PathUseView {
    /// Time of the first record. Counts restart with the server and when the mapping is changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    since: Option<Timestamp>,
    /// Records whose paths were looked up.
    records: u64,
    /// Path columns with a default value, or with a path that can select many values; other columns
    /// reject a record without a match.
    columns: Vec<ColumnUse>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkColumnUse)]
#[serde(rename_all = "camelCase")]
struct ColumnUse {
    name: String,
    path: String,
    /// Records without a match at the path.
    not_found: u64,
    /// No record matched: the path is probably wrong.
    never_found: bool,
}

impl From<PathUse> for PathUseView {
    fn from(uses: PathUse) -> Self {
        let columns = uses.columns.into_iter();
        Self {
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
    Ok(JsonResponse::ok(uses.into()))
}
