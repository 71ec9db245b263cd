//! Parsing of records and rendering of rows and messages. No IO, no async.
//!
//! A request becomes one [`RecordContext`], or one per record of a batch ([`body::split`]). A
//! sink's [`CompiledMapping`] renders it as a CSV row; [`BlockEncoder`] encodes the rows of a block
//! as one gzip member, one Zstandard frame or uncompressed rows. [`BlockDecoder`] and [`CsvReader`]
//! read them back for the import.
//!
//! Templates are evaluated in a worker process (`forebay_ingest::template`), because a program may
//! never end; [`jsonnet`] is the evaluator that runs there.

pub mod block;
pub mod body;
mod cell_output;
pub mod charset;
pub mod coding;
pub mod content_type;
pub mod context;
pub mod csv;
pub mod csv_reader;
pub mod dead_letter;
pub mod encoding;
pub mod error;
pub mod form;
pub mod headers;
pub mod json;
pub mod jsonnet;
pub mod line;
pub mod message;
pub mod path;
pub mod row;
mod typed;
mod usage;
pub mod uuid;

pub use block::{BlockDecoder, BlockEncoder, SealedBlock};
pub use body::{BodyParseError, BodyPart, BodyParts, InflateError, SplitError};
pub use content_type::{BodyFormat, BodyMode, ContentType};
pub use context::{RecordContext, RequestInfo};
pub use csv_reader::{CsvError, CsvReader, CsvRecord};
pub use dead_letter::{DeadLetter, RejectedRow, RowColumn};
pub use encoding::{BodyEncoding, DecodeError};
pub use error::{ColumnError, RecordError, RecordErrorKind, TemplateError};
pub use headers::RequestHeaders;
pub use jsonnet::{TemplateId, TemplateProgram};
pub use message::{CompiledMessage, RenderedMessage};
pub use row::{CompiledMapping, RowLimits};
pub use uuid::RandomBits;
