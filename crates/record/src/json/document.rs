//! A scanned JSON text and the index of its values.

use bytes::Bytes;

use super::error::{JsonError, JsonErrorKind};
use super::node::{JsonKind, JsonNode, JsonNodeId};
use super::scan::{JsonScanner, ScanError};

/// A well-formed JSON text with an index of its values. The index takes at most 8 bytes per byte of
/// text (for `[1,1,1,…`).
#[derive(Clone, Debug)]
pub struct JsonDocument {
    text: Bytes,
    nodes: Vec<JsonNode>,
}

impl JsonDocument {
    /// Scans one JSON value in UTF-8, nested at most [`super::MAX_DEPTH`] deep.
    pub fn parse(text: Bytes) -> Result<Self, JsonError> {
        let start = start_of(&text)?;
        match JsonScanner::new(&text).run(start) {
            Ok(nodes) => Ok(Self { text, nodes }),
            Err(ScanError(kind, offset)) => Err(JsonError::at(kind, &text, offset)),
        }
    }

    /// Whether the document was parsed from this very buffer, not from a converted text.
    pub(crate) fn is_of(&self, text: &Bytes) -> bool {
        self.text.as_ptr() == text.as_ptr() && self.text.len() == text.len()
    }

    pub fn root(&self) -> JsonNodeId {
        JsonNodeId::ROOT
    }

    fn node(&self, id: JsonNodeId) -> &JsonNode {
        &self.nodes[id.0 as usize]
    }

    pub fn kind(&self, id: JsonNodeId) -> JsonKind {
        self.node(id).kind()
    }

    /// Text of a value as sent, with quotes and inner spaces.
    pub fn text(&self, id: JsonNodeId) -> &[u8] {
        let node = self.node(id);
        &self.text[node.start as usize..node.end as usize]
    }

    /// As [`Self::text`], sharing the buffer.
    pub fn slice(&self, id: JsonNodeId) -> Bytes {
        let node = self.node(id);
        self.text.slice(node.start as usize..node.end as usize)
    }

    /// Byte of the text at which a value starts.
    pub fn offset(&self, id: JsonNodeId) -> usize {
        self.node(id).start as usize
    }

    /// Inside of a string's quotes, and whether it has escapes.
    pub fn string(&self, id: JsonNodeId) -> (&[u8], bool) {
        let text = self.text(id);
        debug_assert_eq!(self.kind(id), JsonKind::String);
        (&text[1..text.len() - 1], self.node(id).flag)
    }

    /// Whether a container has spaces between its tokens.
    pub fn has_space(&self, id: JsonNodeId) -> bool {
        let node = self.node(id);
        node.flag && matches!(node.kind, JsonKind::Array | JsonKind::Object)
    }

    /// The values of an array, or alternating keys and values of an object; empty for a scalar.
    pub fn members(&self, id: JsonNodeId) -> impl Iterator<Item = JsonNodeId> + '_ {
        let end = self.node(id).next;
        let mut at = id.0 + 1;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let member = JsonNodeId(at);
            at = self.node(member).next;
            Some(member)
        })
    }

    /// Keys and values of an object.
    pub fn entries(&self, id: JsonNodeId) -> impl Iterator<Item = (JsonNodeId, JsonNodeId)> + '_ {
        let mut members = self.members(id);
        std::iter::from_fn(move || Some((members.next()?, members.next()?)))
    }

    /// The values of an array or an object, without its keys.
    pub fn values(&self, id: JsonNodeId) -> impl Iterator<Item = JsonNodeId> + '_ {
        let is_object = self.kind(id) == JsonKind::Object;
        let mut members = self.members(id);
        std::iter::from_fn(move || {
            if is_object {
                members.next()?;
            }
            members.next()
        })
    }

    /// All values inside a value, in the order of the text.
    pub(crate) fn descendants(&self, id: JsonNodeId) -> impl Iterator<Item = JsonNodeId> + '_ {
        // End of each open container, and whether it has keys.
        let open = |id: JsonNodeId| (self.node(id).next, self.kind(id) == JsonKind::Object);
        let mut stack = vec![open(id)];
        let mut at = id.0 + 1;
        std::iter::from_fn(move || {
            while stack.last().is_some_and(|(end, _)| at >= *end) {
                stack.pop();
            }
            let (_, has_keys) = stack.last()?;
            let value = JsonNodeId(at + u32::from(*has_keys));
            at = value.0 + 1;
            if at < self.node(value).next {
                stack.push(open(value));
            }
            Some(value)
        })
    }

    /// Calls `out` with the parts of the value's text, without spaces between tokens.
    pub fn compact(&self, id: JsonNodeId, mut out: impl FnMut(&[u8])) {
        let text = self.text(id);
        if !self.has_space(id) {
            out(text);
            return;
        }
        let (mut from, mut i) = (0, 0);
        while let Some(&byte) = text.get(i) {
            match byte {
                b'"' => i += string_len(&text[i..]),
                b' ' | b'\n' | b'\t' | b'\r' => {
                    if from < i {
                        out(&text[from..i]);
                    }
                    i += 1;
                    from = i;
                }
                _ => i += 1,
            }
        }
        out(&text[from..]);
    }
}

/// Checks encoding and length; returns the offset after a byte order mark.
pub(super) fn start_of(text: &[u8]) -> Result<usize, JsonError> {
    if u32::try_from(text.len()).is_err() {
        return Err(JsonError::too_large());
    }
    if let Err(e) = std::str::from_utf8(text) {
        return Err(JsonError::at(JsonErrorKind::Utf8, text, e.valid_up_to()));
    }
    let mark = text.starts_with(b"\xEF\xBB\xBF");
    Ok(if mark { 3 } else { 0 })
}

/// Calls `take` with the range of each element of an array until it returns `false`: then the rest
/// is not scanned and the result is `false`. Indexes only one element at a time.
pub(crate) fn elements(text: &[u8], take: impl FnMut(u32, u32) -> bool) -> Result<bool, JsonError> {
    let start = start_of(text)?;
    JsonScanner::for_parts(text)
        .run_elements(start, take)
        .map_err(|ScanError(kind, offset)| JsonError::at(kind, text, offset))
}

/// Length of the string at the start of `text`, with quotes; the text is well-formed.
fn string_len(text: &[u8]) -> usize {
    let mut i = 1;
    while let Some(found) = text.get(i..).and_then(|t| memchr::memchr2(b'"', b'\\', t)) {
        i += found;
        if text[i] == b'"' {
            return i + 1;
        }
        i += 2;
    }
    text.len()
}
