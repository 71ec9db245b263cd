//! Statistics of path columns: which paths match, and which never do.

use forebay_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Failed lookups of a sink's path columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkColumns)]
pub struct PathUseView {
    /// Time of the first record. Counts restart with the server and when the mapping is changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub since: Option<Timestamp>,
    /// Records whose paths were looked up.
    pub records: u64,
    /// Path columns with a default value, or with a path that can select many values; other columns
    /// reject a record without a match.
    pub columns: Vec<ColumnUse>,
}

/// Failed lookups of one column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkColumnUse)]
#[serde(rename_all = "camelCase")]
pub struct ColumnUse {
    /// Name of the column.
    pub name: String,
    /// Path of the column.
    pub path: String,
    /// Records without a match at the path.
    pub not_found: u64,
    /// No record matched: the path is probably wrong.
    pub never_found: bool,
}
