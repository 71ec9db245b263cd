//! JSON parsed in one pass into an index of value positions, without building values.
//!
//! Values are slices of the text: numbers keep their digits, objects their order and duplicates,
//! strings their escapes. The grammar is strictly RFC 8259, except that a leading byte order mark
//! is skipped.

mod document;
mod error;
mod node;
mod scan;
mod text;
mod values;

pub use document::JsonDocument;
pub(crate) use document::elements;
pub use error::{JsonError, JsonErrorKind};
pub use node::{JsonKind, JsonNodeId};
pub(crate) use scan::{BYTE_ORDER_MARK, is_space};
pub use text::{unescape, write_string};
pub use values::{JsonValues, may_hold_several};

/// Maximum nesting of arrays and objects, as in the reference service. Deeper documents are
/// rejected, so that recursion over a document can't overflow the stack.
pub const MAX_DEPTH: usize = 300;
