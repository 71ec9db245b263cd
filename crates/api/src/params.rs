//! Path and query parameters.

use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use crate::common::PageInfo;
use crate::sink::TableType;

/// `…/branches/{branchId}`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub struct BranchPath {
    /// Number of a branch, or `default`.
    #[param(example = "default")]
    pub branch_id: String,
}

/// `…/sources/{sourceId}`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub struct SourcePath {
    /// Number of a branch, or `default`.
    #[param(example = "default")]
    pub branch_id: String,
    /// Id of a source.
    #[param(min_length = 1, max_length = 48, example = "my-source")]
    pub source_id: String,
}

/// `…/sinks/{sinkId}`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub struct SinkPath {
    /// Number of a branch, or `default`.
    #[param(example = "default")]
    pub branch_id: String,
    /// Id of a source.
    #[param(min_length = 1, max_length = 48, example = "my-source")]
    pub source_id: String,
    /// Id of a sink.
    #[param(min_length = 1, max_length = 48, example = "my-sink")]
    pub sink_id: String,
}

/// `…/files/{openedAt}`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub struct FilePath {
    /// Number of a branch, or `default`.
    #[param(example = "default")]
    pub branch_id: String,
    /// Id of a source.
    #[param(min_length = 1, max_length = 48, example = "my-source")]
    pub source_id: String,
    /// Id of a sink.
    #[param(min_length = 1, max_length = 48, example = "my-sink")]
    pub sink_id: String,
    /// Opening time of the file, as in the list of files.
    #[param(example = "2026-11-21T05:01:49.120Z")]
    pub opened_at: String,
}

/// `…/dead-letters/{deadLetterId}`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub struct DeadLetterPath {
    /// Number of a branch, or `default`.
    #[param(example = "default")]
    pub branch_id: String,
    /// Id of a source.
    #[param(min_length = 1, max_length = 48, example = "my-source")]
    pub source_id: String,
    /// Id of a sink.
    #[param(min_length = 1, max_length = 48, example = "my-sink")]
    pub sink_id: String,
    /// Id of a dead letter.
    #[param(example = "3f0c9a6b1d2e4f58-12")]
    pub dead_letter_id: String,
}

/// `…/sources/{sourceId}/versions/{versionNumber}`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub struct SourceVersionPath {
    /// Number of a branch, or `default`.
    #[param(example = "default")]
    pub branch_id: String,
    /// Id of a source.
    #[param(min_length = 1, max_length = 48, example = "my-source")]
    pub source_id: String,
    /// Number of a version.
    #[param(minimum = 1, maximum = 4_294_967_295_u32, example = 1)]
    pub version_number: u32,
}

/// `…/sinks/{sinkId}/versions/{versionNumber}`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub struct SinkVersionPath {
    /// Number of a branch, or `default`.
    #[param(example = "default")]
    pub branch_id: String,
    /// Id of a source.
    #[param(min_length = 1, max_length = 48, example = "my-source")]
    pub source_id: String,
    /// Id of a sink.
    #[param(min_length = 1, max_length = 48, example = "my-sink")]
    pub sink_id: String,
    /// Number of a version.
    #[param(minimum = 1, maximum = 4_294_967_295_u32, example = 1)]
    pub version_number: u32,
}

/// `/v1/tasks/{taskId}`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub struct TaskPath {
    /// Id of a task; its slashes are not escaped.
    #[param(example = "api.create.source/1/my-source/2026-01-02T03:04:05.678Z_aB3dE")]
    pub task_id: String,
}

/// Page of a list.
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Return items after this id.
    #[serde(default)]
    #[param(default = "", required = false)]
    pub after_id: String,
    /// Maximum number of items.
    #[param(minimum = 1, maximum = 100, default = 100, required = false)]
    pub limit: u32,
}

impl ListQuery {
    /// The requested page: `total` items on all pages, `last` is the id of its last item.
    pub fn page(&self, total: usize, last: &str) -> PageInfo {
        PageInfo::new(self.limit, total, &self.after_id, last)
    }
}

/// Page of an export.
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// Return items after this id.
    #[serde(default)]
    #[param(default = "", required = false)]
    pub after_id: String,
    /// Maximum number of items; a page has at most 16 MB of records, too.
    #[param(minimum = 1, maximum = 1000, default = 1000, required = false)]
    pub limit: u32,
}

/// Start of a list that is not limited in the number of its items.
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct StartQuery {
    /// Return items after this id.
    #[serde(default)]
    #[param(default = "", required = false)]
    pub after_id: String,
}

/// Conditions on dead letters; all that are set must hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", default)]
#[into_params(parameter_in = Query)]
pub struct DeadLetterFilterQuery {
    /// Id of a cause.
    #[param(default = "", max_length = 64, required = false)]
    pub cause_id: String,
    /// Error name, with or without `stream.in.`.
    #[param(default = "", max_length = 64, required = false)]
    pub error: String,
    /// The column that failed.
    #[param(default = "", max_length = 256, required = false)]
    pub column: String,
    /// A text in the record or in the message.
    #[param(default = "", max_length = 256, required = false)]
    pub contains: String,
    /// Received at this time or later.
    #[param(
        default = "",
        max_length = 64,
        required = false,
        example = "2026-11-21T05:01:49Z"
    )]
    pub received_from: String,
    /// Received before this time.
    #[param(
        default = "",
        max_length = 64,
        required = false,
        example = "2026-11-21T05:01:49Z"
    )]
    pub received_to: String,
}

/// Options of the deletion of a source.
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct DeleteSourceQuery {
    /// Delete permanently, with its versions and tables.
    #[param(default = false, required = false)]
    pub cascade: bool,
}

/// `/v1/admin/tokens/{tokenId}`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub struct TokenPath {
    /// Id of a token.
    #[param(min_length = 1, max_length = 64, example = "1-a1B2c3D4e5F6")]
    pub token_id: String,
}

/// `/v1/admin/quotas/{projectId}`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub struct ProjectPath {
    /// Number of a project.
    #[param(minimum = 0, example = 1)]
    pub project_id: u64,
}

/// `/v1/admin/tables/{tableType}/{tableId}`
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub struct TablePath {
    /// Table backend; `keboola` is the server's default.
    #[param(inline, example = "sqlite")]
    pub table_type: TableType,
    /// Id of a table.
    #[param(min_length = 1, max_length = 512, example = "in.c-bucket.table")]
    pub table_id: String,
}

/// Page of a project's list.
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct AdminListQuery {
    /// Number of a project, instead of the token's own; only for operators.
    #[param(minimum = 0, required = false)]
    pub project_id: Option<u64>,
    /// Return items after this id.
    #[serde(default)]
    #[param(default = "", required = false)]
    pub after_id: String,
    /// Maximum number of items.
    #[param(minimum = 1, maximum = 100, default = 100, required = false)]
    pub limit: u32,
}

/// Options of disabling and pausing.
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct DisableQuery {
    /// Reason shown with the source or sink.
    #[serde(default)]
    #[param(default = "API", max_length = 256, required = false)]
    pub reason: String,
}

/// Filter of a list of files.
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct FilesQuery {
    /// Only files that failed and are not imported yet.
    #[param(default = false, required = false)]
    pub failed_files: bool,
}
