//! Test of a source's mappings on a record.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Rows of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestResult {
    /// Number of the project.
    pub project_id: u64,
    /// Number of the branch.
    pub branch_id: u64,
    /// Id of the source.
    pub source_id: String,
    /// A table per sink.
    pub tables: Vec<TestResultTable>,
}

/// Rows of one sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestResultTable {
    /// Id of the sink.
    pub sink_id: String,
    /// Id of the table.
    pub table_id: String,
    /// Rows of the record.
    pub rows: Vec<TestResultRow>,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestResultRow {
    /// Cells, in the order of the columns.
    pub columns: Vec<TestResultColumn>,
}

/// A cell of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestResultColumn {
    /// Name of the column.
    pub name: String,
    /// Value before CSV quoting.
    pub value: String,
}
