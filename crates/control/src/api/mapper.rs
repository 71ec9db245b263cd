//! The interface to the mapping compiler. The binary implements it with the record crate, which
//! this crate does not know.

use async_trait::async_trait;
use bytes::Bytes;
use forebay_model::{Mapping, Sink, SinkKey, Timestamp};
use http::HeaderMap;

/// Compiles mappings and applies them to records.
#[async_trait]
pub trait Mapper: Send + Sync {
    /// Compile errors of a mapping; empty if it compiles. May take some milliseconds: call it where
    /// blocking is allowed.
    fn check(&self, mapping: &Mapping) -> Vec<ColumnProblem>;

    /// The rows of a record, one table per sink, in the order of `sinks`. Nothing is stored.
    async fn test(&self, sinks: &[Sink], record: TestRecord) -> Result<Vec<TestTable>, TestError>;

    /// The row of a record by a mapping that passed [`Self::check`]. Nothing is stored.
    async fn row(&self, mapping: &Mapping, record: TestRecord) -> Result<Vec<TestCell>, TestError>;
}

/// Compile error of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnProblem {
    pub column: String,
    /// Error in its template, like `1:1-8 Unknown variable: Invalid`.
    pub message: String,
}

/// A sample record that is not stored.
#[derive(Clone, Debug)]
pub struct TestRecord {
    /// Request headers without the token.
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Client address.
    pub ip: String,
    pub received_at: Timestamp,
}

/// Rows of one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestTable {
    pub sink: SinkKey,
    /// The sink's table or topic.
    pub table: String,
    /// One row per record.
    pub rows: Vec<Vec<TestCell>>,
}

/// A cell before CSV quoting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestCell {
    pub column: String,
    /// Text of the cell; invalid UTF-8 is replaced.
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TestError {
    /// The column rejects the record.
    #[error("invalid value for column \"{column}\": {message}")]
    Column { column: String, message: String },
    /// The record's body is invalid.
    #[error("{0}")]
    Body(String),
    /// The mapping failed; not the record's fault.
    #[error("{0}")]
    Internal(String),
}
