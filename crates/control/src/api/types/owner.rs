//! Ownership of tables.

use forebay_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::common::PageInfo;
use super::sink::TableType;

/// A table with its owner.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OwnedTable {
    /// Sort key of the list.
    #[schema(example = "sqlite/in.c-bucket.table")]
    pub(crate) id: String,
    pub(crate) r#type: TableType,
    #[schema(example = "in.c-bucket.table")]
    pub(crate) table_id: String,
    /// Owner; absent if it is another project, except for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) project_id: Option<u64>,
    /// Shared with the token's project, which does not own it.
    pub(crate) is_shared: bool,
    /// Projects that may also fill the table; only for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) shared_with: Option<Vec<u64>>,
    /// Since when the project owns the table.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) since: Timestamp,
    /// When it was first filled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub(crate) filled_at: Option<Timestamp>,
    /// It existed before Forebay filled it, so it is never dropped.
    pub(crate) was_there: bool,
    /// It is being deleted with a source.
    pub(crate) is_being_deleted: bool,
}

/// A page of tables.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableOwners {
    #[serde(flatten)]
    pub(crate) page: PageInfo,
    pub(crate) tables: Vec<OwnedTable>,
}

/// A table, and what fills it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableDetail {
    #[serde(flatten)]
    pub(crate) table: OwnedTable,
    /// Sinks that fill it, as `<project>/<branch>/<source>/<sink>`: those of the token's project,
    /// or all for operators.
    pub(crate) sinks: Vec<String>,
    /// Number of files of these sinks in flight.
    pub(crate) files: usize,
}

/// New owner of a table.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TransferTableRequestBody)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableTransfer {
    #[schema(minimum = 0, example = 2)]
    pub(crate) project_id: u64,
    /// Transfer even if a project that loses the table still fills it.
    #[schema(nullable = false)]
    pub(crate) force: Option<bool>,
}

/// Project to share a table with.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ShareTableRequestBody)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableShare {
    #[schema(minimum = 0, example = 2)]
    pub(crate) project_id: u64,
}

/// Project to stop sharing a table with.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UnshareTableRequestBody)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableUnshare {
    #[schema(minimum = 0, example = 2)]
    pub(crate) project_id: u64,
    /// Unshare even if the project still fills the table.
    #[schema(nullable = false)]
    pub(crate) force: Option<bool>,
}
