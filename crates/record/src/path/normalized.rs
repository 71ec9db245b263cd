//! Normalized paths (RFC 9535, 2.7).

use std::fmt::Write;

use crate::json::{JsonDocument, JsonKind, JsonNodeId};

use super::step::key_of;

/// The normalized path of a value. With duplicate keys the values have the same path.
pub fn normalized(document: &JsonDocument, node: JsonNodeId) -> String {
    let mut path = "$".to_owned();
    let (mut at, mut scratch) = (document.root(), Vec::new());
    while at != node {
        let is_object = document.kind(at) == JsonKind::Object;
        let members: Vec<JsonNodeId> = document.members(at).collect();
        // Members are in the order of the text, each before its own members.
        let holds = members.partition_point(|m| *m <= node);
        let Some(member) = holds.checked_sub(1) else {
            return path;
        };
        if is_object {
            let (key, value) = (member & !1, member | 1);
            push_name(key_of(document, members[key], &mut scratch), &mut path);
            let Some(value) = members.get(value) else {
                return path;
            };
            at = *value;
            if members[key] == node {
                return path;
            }
        } else {
            // Writing to a string can't fail.
            write!(path, "[{member}]").unwrap_or_default();
            at = members[member];
        }
    }
    path
}

fn push_name(name: &[u8], path: &mut String) {
    path.push_str("['");
    for c in String::from_utf8_lossy(name).chars() {
        match c {
            '\u{8}' => path.push_str("\\b"),
            '\u{c}' => path.push_str("\\f"),
            '\n' => path.push_str("\\n"),
            '\r' => path.push_str("\\r"),
            '\t' => path.push_str("\\t"),
            '\'' => path.push_str("\\'"),
            '\\' => path.push_str("\\\\"),
            c if c < ' ' => write!(path, "\\u{:04x}", u32::from(c)).unwrap_or_default(),
            c => path.push(c),
        }
    }
    path.push_str("']");
}
