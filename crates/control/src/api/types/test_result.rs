//! Test of a source's mappings on a record.

use forebay_model::SourceKey;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::mapper::{TestCell, TestTable};

/// Rows of a record.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TestResult {
    project_id: u64,
    branch_id: u64,
    source_id: String,
    tables: Vec<TestResultTable>,
}

/// Rows of one sink.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TestResultTable {
    sink_id: String,
    table_id: String,
    rows: Vec<TestResultRow>,
}

/// A row.
#[derive(Debug, Serialize, ToSchema)]
struct TestResultRow {
    columns: Vec<TestResultColumn>,
}

/// A cell of a row.
#[derive(Debug, Serialize, ToSchema)]
struct TestResultColumn {
    name: String,
    /// Value before CSV quoting.
    value: String,
}

impl TestResult {
    pub(crate) fn new(source: &SourceKey, tables: Vec<TestTable>) -> Self {
        let row = |cells: Vec<TestCell>| {
            let cell = |c: TestCell| TestResultColumn {
                name: c.column,
                value: c.value,
            };
            TestResultRow {
                columns: cells.into_iter().map(cell).collect(),
            }
        };
        let table = |t: TestTable| TestResultTable {
            sink_id: t.sink.sink.to_string(),
            table_id: t.table,
            rows: t.rows.into_iter().map(row).collect(),
        };
        Self {
            project_id: source.branch.project.0,
            branch_id: source.branch.branch.0,
            source_id: source.source.to_string(),
            tables: tables.into_iter().map(table).collect(),
        }
    }
}
