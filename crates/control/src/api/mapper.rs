//! The seam to whatever compiles mappings and renders records. The binary implements it on the
//! record crate, which this crate does not know.

use async_trait::async_trait;
use bytes::Bytes;
use forebay_model::{Mapping, Sink, SinkKey, Timestamp};
use http::HeaderMap;

/// Compiles mappings, and shows what they make of a record.
#[async_trait]
pub trait Mapper: Send + Sync {
    /// What only compiling the mapping can show; empty when it compiles. May take some
    /// milliseconds: it is called where blocking is allowed.
    fn check(&self, mapping: &Mapping) -> Vec<ColumnProblem>;

    /// The rows that `sinks` would get of a record, one table for each sink, in their order.
    /// Nothing is stored.
    async fn test(&self, sinks: &[Sink], record: TestRecord) -> Result<Vec<TestTable>, TestError>;

    /// The row that a mapping, which has passed [`Self::check`], would make of a record. Nothing is
    /// stored.
    async fn row(&self, mapping: &Mapping, record: TestRecord) -> Result<Vec<TestCell>, TestError>;
}

/// Why a column does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnProblem {
    /// Name of the column.
    pub column: String,
    /// What is wrong with its template, like `1:1-8 Unknown variable: Invalid`.
    pub message: String,
}

/// A record that is not stored.
#[derive(Clone, Debug)]
pub struct TestRecord {
    /// Of the request, without the token.
    pub headers: HeaderMap,
    /// Of the request.
    pub body: Bytes,
    /// Of the client.
    pub ip: String,
    /// Time of receipt.
    pub received_at: Timestamp,
}

/// What a sink would get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestTable {
    /// Which sink.
    pub sink: SinkKey,
    /// Its table or topic.
    pub table: String,
    /// One for each record.
    pub rows: Vec<Vec<TestCell>>,
}

/// A cell of a row, before it is quoted for CSV.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestCell {
    /// Name of the column.
    pub column: String,
    /// Its text; what is not UTF-8 is replaced.
    pub value: String,
}

/// Why there are no rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TestError {
    /// A column can't take the record.
    #[error("invalid value for column \"{column}\": {message}")]
    Column {
        /// Name of the column.
        column: String,
        /// Why.
        message: String,
    },
    /// The record's body can't be read.
    #[error("{0}")]
    Body(String),
    /// The mapping could not be run; not the record's fault.
    #[error("{0}")]
    Internal(String),
}
