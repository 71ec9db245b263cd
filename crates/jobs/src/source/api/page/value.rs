//! Values of a response.

use forebay_record::json::{JsonDocument, JsonKind, JsonNodeId, unescape};
use forebay_record::path::{CompiledPath, OwnedSelection};
use serde_json::Value;

/// Whether a value of a response equals one of a definition; numbers by value.
pub(super) fn is_value(document: &JsonDocument, node: JsonNodeId, value: &Value) -> bool {
    match (document.kind(node), value) {
        (JsonKind::Null, Value::Null) => true,
        (JsonKind::Bool, Value::Bool(b)) => text(document, node) == b.to_string(),
        (JsonKind::String, Value::String(s)) => string(document, node) == *s,
        (JsonKind::Number, Value::Number(n)) => {
            let number = text(document, node);
            number == n.to_string() || number.parse::<f64>().ok() == n.as_f64()
        }
        _ => false,
    }
}

/// The single value at a path.
pub(super) fn one(
    path: &CompiledPath,
    document: &JsonDocument,
) -> Result<Option<JsonNodeId>, String> {
    match path.select(document).map_err(|e| e.to_string())? {
        OwnedSelection::Nothing => Ok(None),
        OwnedSelection::One(node) => Ok(Some(node)),
        OwnedSelection::Many(nodes) => match nodes.as_slice() {
            [] => Ok(None),
            [node] => Ok(Some(*node)),
            nodes => Err(format!(
                "selects {} values, but has to select one",
                nodes.len()
            )),
        },
    }
}

pub(super) fn text(document: &JsonDocument, node: JsonNodeId) -> String {
    String::from_utf8_lossy(document.text(node)).into_owned()
}

/// A string without its escapes.
pub(super) fn string(document: &JsonDocument, node: JsonNodeId) -> String {
    let mut out = Vec::new();
    unescape(document.string(node).0, |part| out.extend_from_slice(part));
    String::from_utf8_lossy(&out).into_owned()
}
