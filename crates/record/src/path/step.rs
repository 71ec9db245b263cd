//! One step of a path, from a value to one of its members.

use crate::json::{JsonDocument, JsonKind, JsonNodeId, unescape};

/// One step to one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathStep {
    /// Key in an object.
    pub(super) key: Option<Box<[u8]>>,
    /// Index in an array, negative from its end.
    pub(super) index: Option<i64>,
}

impl PathStep {
    /// `scratch` is for keys with escapes.
    pub(super) fn find(
        &self,
        document: &JsonDocument,
        at: JsonNodeId,
        scratch: &mut Vec<u8>,
    ) -> Option<JsonNodeId> {
        match document.kind(at) {
            JsonKind::Object => {
                let key = self.key.as_deref()?;
                let mut entries = document.entries(at);
                let entry = entries.find(|(k, _)| key_of(document, *k, scratch) == key);
                entry.map(|(_, value)| value)
            }
            JsonKind::Array => element(document, at, self.index?),
            _ => None,
        }
    }
}

/// The element of an array; a negative index counts from its end.
pub(super) fn element(
    document: &JsonDocument,
    array: JsonNodeId,
    index: i64,
) -> Option<JsonNodeId> {
    let index = match usize::try_from(index) {
        Ok(index) => index,
        Err(_) => {
            let back = usize::try_from(index.unsigned_abs()).ok()?;
            document.members(array).count().checked_sub(back)?
        }
    };
    document.members(array).nth(index)
}

/// A key without its escapes.
pub(super) fn key_of<'a>(
    document: &'a JsonDocument,
    key: JsonNodeId,
    scratch: &'a mut Vec<u8>,
) -> &'a [u8] {
    match document.string(key) {
        (plain, false) => plain,
        (escaped, true) => {
            scratch.clear();
            unescape(escaped, |part| scratch.extend_from_slice(part));
            scratch
        }
    }
}
