//! Which project a table belongs to.

use forebay_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::common::PageInfo;
use super::sink::TableType;

/// A table that belongs to a project.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OwnedTable {
    /// What the list is sorted by.
    #[schema(example = "sqlite/in.c-bucket.table")]
    pub(crate) id: String,
    pub(crate) r#type: TableType,
    #[schema(example = "in.c-bucket.table")]
    pub(crate) table_id: String,
    /// The project that it belongs to; left out when it is another one's, except for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) project_id: Option<u64>,
    /// It is shared with the project of the token, which does not own it.
    pub(crate) is_shared: bool,
    /// Projects that may fill it too; for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) shared_with: Option<Vec<u64>>,
    /// Since when it belongs to the project.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) since: Timestamp,
    /// When it was first filled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub(crate) filled_at: Option<Timestamp>,
    /// It was there before, so it is never dropped.
    pub(crate) was_there: bool,
    /// It is being deleted with a source.
    pub(crate) is_being_deleted: bool,
}

/// Some tables.
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
    /// Sinks that fill it, as `<project>/<branch>/<source>/<sink>`; those of the token's project,
    /// for operators of all that may fill it.
    pub(crate) sinks: Vec<String>,
    /// How many files of theirs are on their way.
    pub(crate) files: usize,
}

/// A project that is given a table.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TransferTableRequestBody)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableTransfer {
    #[schema(minimum = 0, example = 2)]
    pub(crate) project_id: u64,
    /// Also when a project that loses the table still fills it.
    #[schema(nullable = false)]
    pub(crate) force: Option<bool>,
}

/// A project that a table is shared with.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ShareTableRequestBody)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableShare {
    #[schema(minimum = 0, example = 2)]
    pub(crate) project_id: u64,
}

/// A project that a table is not shared with any more.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UnshareTableRequestBody)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableUnshare {
    #[schema(minimum = 0, example = 2)]
    pub(crate) project_id: u64,
    /// Also when the project still fills it.
    #[schema(nullable = false)]
    pub(crate) force: Option<bool>,
}
