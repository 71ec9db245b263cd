//! Dead letters: records that a mapping rejected, and rows that a table rejected. They are stored in
//! blocks of the log.

mod block_format;

use std::sync::Arc;

use bytes::Bytes;
use forebay_model::MappingColumn;
use serde::{Deserialize, Serialize};

pub use block_format::{
    RejectedRowsHeader, decode_block, encode_block, encode_rows, source_file_of_block,
};

use crate::{BodyFormat, RecordContext, RecordError, RequestInfo};

/// A record that a mapping has rejected, with all that is needed to map it again.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Time of receipt, client and headers of the request.
    pub request: Arc<RequestInfo>,
    /// Whether the record is from a batch: JSON, whatever the content type.
    pub of_batch: bool,
    /// Line in the batch, from 1, if the batch has lines.
    pub line: Option<usize>,
    pub body: Bytes,
    /// Column that could not be rendered.
    pub column: String,
    /// Error name, like `pathNotFound`.
    pub error: String,
    /// Error message, with the column's name.
    pub message: String,
    /// Set for a row that its table rejected after the mapping had accepted the record.
    pub row: Option<RejectedRow>,
}

/// A row that its table rejected.
#[derive(Clone, Debug)]
pub struct RejectedRow {
    /// Columns by which the row was made.
    pub columns: Arc<[RowColumn]>,
    /// Cells, one per column.
    pub cells: Vec<Bytes>,
}

/// Column of a rejected row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RowColumn {
    pub name: String,
    /// Says which columns accept the cell
    /// ([`content_id`](MappingColumn::content_id)).
    pub content: String,
}

impl RowColumn {
    fn new(column: &MappingColumn) -> Self {
        Self {
            name: column.name.clone(),
            content: column.content_id(),
        }
    }
}

impl DeadLetter {
    /// Creates a dead letter of a record and its error.
    pub fn new(record: &RecordContext, error: &RecordError) -> Self {
        Self {
            request: Arc::clone(record.request()),
            of_batch: record.is_of_batch(),
            line: record.line(),
            body: record.body().clone(),
            column: error.column.clone(),
            error: error.kind.name().to_owned(),
            message: error.to_string(),
            row: None,
        }
    }

    /// Restores the record as it was received.
    pub fn record(&self) -> RecordContext {
        let headers = &self.request.headers;
        let format = if self.of_batch {
            BodyFormat::Json
        } else {
            BodyFormat::from_content_type(headers.get("content-type").map(str::as_bytes))
        };
        RecordContext::with_format(Arc::clone(&self.request), self.body.clone(), format)
    }
}
