//! Ownership of tables.

use forebay_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::PageInfo;
use crate::sink::TableType;

/// A table with its owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnedTable {
    /// Sort key of the list.
    #[schema(example = "sqlite/in.c-bucket.table")]
    pub id: String,
    /// Backend of the table.
    pub r#type: TableType,
    /// Id of the table.
    #[schema(example = "in.c-bucket.table")]
    pub table_id: String,
    /// Owner; absent if it is another project, except for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub project_id: Option<u64>,
    /// Shared with the token's project, which does not own it.
    pub is_shared: bool,
    /// Projects that may also fill the table; only for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub shared_with: Option<Vec<u64>>,
    /// Since when the project owns the table.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// When it was first filled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub filled_at: Option<Timestamp>,
    /// It existed before Forebay filled it, so it is never dropped.
    pub was_there: bool,
    /// It is being deleted with a source.
    pub is_being_deleted: bool,
}

/// A page of tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableOwners {
    /// Position of this page in the list.
    #[serde(flatten)]
    pub page: PageInfo,
    /// Tables, sorted by id.
    pub tables: Vec<OwnedTable>,
}

/// A table, and what fills it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableDetail {
    /// The table with its owner.
    #[serde(flatten)]
    pub table: OwnedTable,
    /// Sinks that fill it, as `<project>/<branch>/<source>/<sink>`: those of the token's project,
    /// or all for operators.
    pub sinks: Vec<String>,
    /// Number of files of these sinks in flight.
    pub files: usize,
}

/// New owner of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TransferTableRequestBody)]
#[serde(rename_all = "camelCase")]
pub struct TableTransfer {
    /// New owner.
    #[schema(minimum = 0, example = 2)]
    pub project_id: u64,
    /// Transfer even if a project that loses the table still fills it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub force: Option<bool>,
}

/// Project to share a table with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ShareTableRequestBody)]
#[serde(rename_all = "camelCase")]
pub struct TableShare {
    /// Project that may also fill the table.
    #[schema(minimum = 0, example = 2)]
    pub project_id: u64,
}

/// Project to stop sharing a table with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = UnshareTableRequestBody)]
#[serde(rename_all = "camelCase")]
pub struct TableUnshare {
    /// Project that may no longer fill the table.
    #[schema(minimum = 0, example = 2)]
    pub project_id: u64,
    /// Unshare even if the project still fills the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub force: Option<bool>,
}
