//! The values of a document, as the scanner finds them.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum JsonKind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// One value, 16 bytes. Nodes are in the order of the text: a container before its members, a key
/// before its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonNode {
    pub(super) start: u32,
    pub(super) end: u32,
    /// The first node after this one and its members.
    pub(super) next: u32,
    pub(super) kind: JsonKind,
    pub(super) flag: bool,
}

impl JsonNode {
    pub(super) fn new(kind: JsonKind, flag: bool, start: u32, end: u32, next: u32) -> Self {
        Self {
            start,
            end,
            next,
            kind,
            flag,
        }
    }

    pub(super) fn kind(&self) -> JsonKind {
        self.kind
    }
}

/// A value of a JSON document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JsonNodeId(pub(super) u32);

impl JsonNodeId {
    pub(crate) const ROOT: Self = Self(0);
    /// No value, without the space of an option.
    pub(crate) const NONE: Self = Self(u32::MAX);
}
