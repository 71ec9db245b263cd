//! JSON read once, without building values: an index of where each value lies in the text.
//!
//! The text is the truth. Numbers keep their digits, objects their order and their duplicates,
//! strings their escapes; whoever wants a part copies it out of the text. The grammar is RFC 8259,
//! strictly, except that a byte order mark before the document is skipped.

mod document;
mod error;
mod scan;
mod text;
mod values;

pub(crate) use document::elements;
pub use document::{JsonDocument, JsonKind, JsonNodeId};
pub use error::{JsonError, JsonErrorKind};
pub use text::{unescape, write_string};
pub use values::{JsonValues, may_hold_several};

/// Deepest nesting of arrays and objects. The reference service's parser stops here too; a deeper
/// document is refused, so no reader of one can run out of stack.
pub const MAX_DEPTH: usize = 300;
