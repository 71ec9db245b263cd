//! What exists only to answer as the reference does: texts of its JSON decoder, forms of its
//! settings and lists, and its OpenAPI 2 document. `docs/compat.md` compares the two services.
//!
//! The modules here format values that the API has determined. They check nothing themselves and
//! know neither requests nor the store.

pub(crate) mod decoder;
pub(crate) mod openapi2;
pub(crate) mod settings;
pub(crate) mod versions;
