//! Tests of an unsaved mapping.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::mapping::MappingRequest;
use crate::sink::TableType;

/// A mapping and a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TestMappingRequestBody)]
pub struct DryRunRequest {
    /// The mapping to test.
    pub mapping: MappingRequest,
    /// Target table; its definition is checked too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub table: Option<DryRunTable>,
    /// The record to map.
    pub record: SampleRecord,
}

/// A table that is not filled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TestMappingTable)]
#[serde(rename_all = "camelCase")]
pub struct DryRunTable {
    /// Backend of the table.
    pub r#type: TableType,
    /// `<in|out>.<bucket>.<table>`
    #[schema(example = "in.c-bucket.table")]
    pub table_id: String,
}

/// A sample record that is not stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SampleRecord {
    /// Body as text.
    #[schema(example = "{\"user\":{\"id\":\"ada\"}}")]
    pub body: String,
    /// Request headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 100, nullable = false)]
    pub headers: Option<Vec<SampleHeader>>,
    /// Client address; the caller's by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "192.0.2.7")]
    pub client_ip: Option<String>,
}

/// A header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SampleRecordHeader)]
pub struct SampleHeader {
    /// Name of the header.
    #[schema(example = "Content-Type")]
    pub name: String,
    /// Value of the header.
    #[schema(example = "application/json")]
    pub value: String,
}

/// The row of a record, or the violations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TestMappingResult)]
pub struct DryRunReport {
    /// The cells, in the order of the columns; empty when there are violations.
    pub row: Vec<DryRunCell>,
    /// Violations; empty when there is a row.
    pub violations: Vec<DryRunViolation>,
}

/// A cell of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TestMappingCell)]
pub struct DryRunCell {
    /// Name of the column.
    pub name: String,
    /// Value before CSV quoting.
    pub value: String,
}

/// A violation of the mapping or the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TestMappingProblem)]
pub struct DryRunViolation {
    /// Index of the column, from 0; absent for the mapping as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub column: Option<usize>,
    /// Message for users.
    pub message: String,
}
