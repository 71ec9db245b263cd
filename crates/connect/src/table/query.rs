//! Results of read-only SQL, for `forebay query`.

use std::ops::ControlFlow;

/// Receives the rows of a query.
pub trait QueryVisitor {
    /// Names of the columns; called once, before the rows.
    fn columns(&mut self, names: &[&str]) -> ControlFlow<()>;
    /// One row. `Break` ends the query.
    fn row(&mut self, cells: &[QueryCell<'_>]) -> ControlFlow<()>;
}

/// A cell: one of SQLite's five storage classes, or a boolean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QueryCell<'a> {
    Null,
    /// Of a column that is declared boolean.
    Bool(bool),
    Int(i64),
    Real(f64),
    /// Text. Bytes that are not UTF-8, which Forebay never writes, are a blob.
    Text(&'a str),
    Blob(&'a [u8]),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuerySummary {
    /// Visited rows.
    pub rows: u64,
    /// There were more rows than the limit.
    pub truncated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The file doesn't exist: nothing was imported yet, or the data directory is another one.
    #[error("there is no database {0}: nothing was imported into it yet")]
    NoDatabase(String),
    /// The statement is invalid, or would write.
    #[error("{0}")]
    Statement(String),
    /// The database can't be read.
    #[error("{0}")]
    Database(String),
}
