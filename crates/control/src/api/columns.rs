//! Paths of a sink that find something, and those that never do.

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

/// What the data plane of this node knows of the paths of mappings.
pub trait PathUses: Send + Sync {
    /// How often the paths of a sink have found nothing; nothing when no record came to it since this
    /// node was started or its mapping was changed.
    fn path_use(&self, sink: &SinkKey) -> Option<PathUse>;
}

/// How often the path columns of a sink found nothing.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkColumns)]
pub(crate) struct PathUseView {
    /// When the first of the records came. Counts begin anew when the server is started and when the
    /// mapping is changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    since: Option<Timestamp>,
    /// Records whose paths were looked up.
    records: u64,
    /// Path columns with a default value, or a path that can select many values: others refuse a record
    /// in which nothing is found.
    columns: Vec<ColumnUse>,
}

/// One path column.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkColumnUse)]
#[serde(rename_all = "camelCase")]
struct ColumnUse {
    name: String,
    path: String,
    /// Records in which nothing was found at the path.
    not_found: u64,
    /// No record had it: most likely the path is wrong.
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

/// How often the path columns of a sink found nothing in its records. An extension of Forebay.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/statistics/columns", tag = "sink", operation_id = "SinkStatisticsColumns",
    params(SinkPath),
    responses((status = 200, description = "Counts of this node since it was started or the mapping was changed.", body = PathUseView))
)]
pub(super) async fn columns(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath>,
) -> Result<JsonResponse<PathUseView>, ApiError> {
    let sink = existing(&api, &call.sink_key()?).await?;
    let uses = api.path_uses.path_use(&sink.key).unwrap_or_default();
    Ok(JsonResponse::ok(uses.into()))
}
