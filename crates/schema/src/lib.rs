//! Documents that people write: YAML with positions, checks against a JSON schema, secrets, and
//! suggestions for misspelled names.
//!
//! Knows no key of any document. The schema is generated from the types that a document is read
//! into, so a rule is written once, at its field.

#![warn(missing_docs)]

mod checker;
mod document;
mod nearest;
mod schema_view;
mod second_name;
mod secret_text;
pub mod yaml;

pub use checker::{BrokenRule, NullRule, SchemaChecker, SchemaViolation};
pub use document::{DocumentViolation, check_document, document_violations};
pub use nearest::nearest;
pub use schema_view::SchemaView;
pub use second_name::add_second_name;
pub use secret_text::{MASK, SecretText};
