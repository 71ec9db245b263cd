//! Path and query parameters.

use serde::Deserialize;
use utoipa::IntoParams;

use super::types::sink::TableType;

/// `…/branches/{branchId}`
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub(super) struct BranchPath {
    /// Number of a branch, or `default`.
    #[param(example = "default")]
    pub(super) branch_id: String,
}

/// `…/sources/{sourceId}`
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub(super) struct SourcePath {
    /// Number of a branch, or `default`.
    #[param(example = "default")]
    pub(super) branch_id: String,
    /// Id of a source.
    #[param(min_length = 1, max_length = 48, example = "my-source")]
    pub(super) source_id: String,
}

/// `…/sinks/{sinkId}`
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub(super) struct SinkPath {
    /// Number of a branch, or `default`.
    #[param(example = "default")]
    pub(super) branch_id: String,
    /// Id of a source.
    #[param(min_length = 1, max_length = 48, example = "my-source")]
    pub(super) source_id: String,
    /// Id of a sink.
    #[param(min_length = 1, max_length = 48, example = "my-sink")]
    pub(super) sink_id: String,
}

/// `…/files/{openedAt}`
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub(super) struct FilePath {
    /// Number of a branch, or `default`.
    #[param(example = "default")]
    pub(super) branch_id: String,
    /// Id of a source.
    #[param(min_length = 1, max_length = 48, example = "my-source")]
    pub(super) source_id: String,
    /// Id of a sink.
    #[param(min_length = 1, max_length = 48, example = "my-sink")]
    pub(super) sink_id: String,
    /// Opening time of the file, as in the list of files.
    #[param(example = "2026-11-21T05:01:49.120Z")]
    pub(super) opened_at: String,
}

/// `…/dead-letters/{deadLetterId}`
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub(super) struct DeadLetterPath {
    /// Number of a branch, or `default`.
    #[param(example = "default")]
    pub(super) branch_id: String,
    /// Id of a source.
    #[param(min_length = 1, max_length = 48, example = "my-source")]
    pub(super) source_id: String,
    /// Id of a sink.
    #[param(min_length = 1, max_length = 48, example = "my-sink")]
    pub(super) sink_id: String,
    /// Id of a dead letter.
    #[param(example = "3f0c9a6b1d2e4f58-12")]
    pub(super) dead_letter_id: String,
}

/// `…/sources/{sourceId}/versions/{versionNumber}`
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub(super) struct SourceVersionPath {
    /// Number of a branch, or `default`.
    #[param(example = "default")]
    pub(super) branch_id: String,
    /// Id of a source.
    #[param(min_length = 1, max_length = 48, example = "my-source")]
    pub(super) source_id: String,
    /// Number of a version.
    #[param(minimum = 1, maximum = 4_294_967_295_u32, example = 1)]
    pub(super) version_number: u32,
}

/// `…/sinks/{sinkId}/versions/{versionNumber}`
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub(super) struct SinkVersionPath {
    /// Number of a branch, or `default`.
    #[param(example = "default")]
    pub(super) branch_id: String,
    /// Id of a source.
    #[param(min_length = 1, max_length = 48, example = "my-source")]
    pub(super) source_id: String,
    /// Id of a sink.
    #[param(min_length = 1, max_length = 48, example = "my-sink")]
    pub(super) sink_id: String,
    /// Number of a version.
    #[param(minimum = 1, maximum = 4_294_967_295_u32, example = 1)]
    pub(super) version_number: u32,
}

/// `/v1/tasks/{taskId}`
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub(super) struct TaskPath {
    /// Id of a task; its slashes are not escaped.
    #[param(example = "api.create.source/1/my-source/2026-01-02T03:04:05.678Z_aB3dE")]
    pub(super) task_id: String,
}

/// Page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Return items after this id.
    #[serde(default)]
    #[param(default = "", required = false)]
    pub(super) after_id: String,
    /// Maximum number of items.
    #[param(minimum = 1, maximum = 100, default = 100, required = false)]
    pub(super) limit: u32,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct DeleteSourceQuery {
    /// Delete permanently, with its versions and tables.
    #[param(default = false, required = false)]
    pub(super) cascade: bool,
}

/// `/v1/admin/tokens/{tokenId}`
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub(super) struct TokenPath {
    /// Id of a token.
    #[param(min_length = 1, max_length = 64, example = "1-a1B2c3D4e5F6")]
    pub(super) token_id: String,
}

/// `/v1/admin/quotas/{projectId}`
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub(super) struct ProjectPath {
    /// Number of a project.
    #[param(minimum = 0, example = 1)]
    pub(super) project_id: u64,
}

/// `/v1/admin/tables/{tableType}/{tableId}`
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Path)]
pub(super) struct TablePath {
    /// Table backend; `keboola` is the server's default.
    #[param(inline, example = "sqlite")]
    pub(super) table_type: TableType,
    /// Id of a table.
    #[param(min_length = 1, max_length = 512, example = "in.c-bucket.table")]
    pub(super) table_id: String,
}

/// Page of a project's list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct AdminListQuery {
    /// Number of a project, instead of the token's own; only for operators.
    #[param(minimum = 0, required = false)]
    pub(super) project_id: Option<u64>,
    /// Return items after this id.
    #[serde(default)]
    #[param(default = "", required = false)]
    pub(super) after_id: String,
    /// Maximum number of items.
    #[param(minimum = 1, maximum = 100, default = 100, required = false)]
    pub(super) limit: u32,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct DisableQuery {
    /// Reason shown with the source or sink.
    #[serde(default)]
    #[param(default = "API", max_length = 256, required = false)]
    pub(super) reason: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct FilesQuery {
    /// Only files that failed and are not imported yet.
    #[param(default = false, required = false)]
    pub(super) failed_files: bool,
}
