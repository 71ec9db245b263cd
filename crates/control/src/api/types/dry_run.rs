//! Tests of an unsaved mapping.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::error::sentence;
use super::super::mapper::TestCell;
use super::super::mapping::ColumnViolation;
use super::sink::{MappingRequest, TableType};

/// A mapping and a record.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TestMappingRequestBody)]
pub(crate) struct DryRunRequest {
    pub(crate) mapping: MappingRequest,
    /// Target table; its definition is checked too.
    #[schema(nullable = false)]
    pub(crate) table: Option<DryRunTable>,
    pub(crate) record: SampleRecord,
}

/// A table that is not filled.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TestMappingTable)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DryRunTable {
    pub(crate) r#type: TableType,
    /// `<in|out>.<bucket>.<table>`
    #[schema(example = "in.c-bucket.table")]
    pub(crate) table_id: String,
}

/// A sample record that is not stored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SampleRecord {
    /// Body as text.
    #[schema(example = "{\"user\":{\"id\":\"ada\"}}")]
    pub(crate) body: String,
    /// Request headers.
    #[schema(max_items = 100, nullable = false)]
    pub(crate) headers: Option<Vec<SampleHeader>>,
    /// Client address; the caller's by default.
    #[schema(nullable = false, example = "192.0.2.7")]
    pub(crate) client_ip: Option<String>,
}

/// A header.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = SampleRecordHeader)]
pub(crate) struct SampleHeader {
    #[schema(example = "Content-Type")]
    pub(crate) name: String,
    #[schema(example = "application/json")]
    pub(crate) value: String,
}

/// The row of a record, or the violations.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TestMappingResult)]
pub(crate) struct DryRunReport {
    /// The cells, in the order of the columns; empty when there are violations.
    row: Vec<DryRunCell>,
    violations: Vec<DryRunViolation>,
}

/// A cell of a row.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TestMappingCell)]
struct DryRunCell {
    /// Name of the column.
    name: String,
    /// Value before CSV quoting.
    value: String,
}

/// A violation of the mapping or the record.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TestMappingProblem)]
struct DryRunViolation {
    /// Index of the column, from 0; absent for the mapping as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    column: Option<usize>,
    /// Message for users.
    message: String,
}

impl DryRunReport {
    pub(crate) fn row(cells: Vec<TestCell>) -> Self {
        let cell = |c: TestCell| DryRunCell {
            name: c.column,
            value: c.value,
        };
        Self {
            row: cells.into_iter().map(cell).collect(),
            violations: Vec::new(),
        }
    }

    /// It became none.
    pub(crate) fn rejected(violations: Vec<ColumnViolation>) -> Self {
        let problem = |p: ColumnViolation| DryRunViolation {
            column: p.column,
            message: sentence(&p.message),
        };
        Self {
            row: Vec::new(),
            violations: violations.into_iter().map(problem).collect(),
        }
    }
}
