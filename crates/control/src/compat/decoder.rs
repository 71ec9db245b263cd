//! Texts of the reference's decoders, which are those of Go, and the values that it decodes.

use std::fmt::Display;

use serde_json::Value;

/// Format of a duration as Go writes it; the format `duration` would be ISO 8601.
pub(crate) const DURATION_FORMAT: &str = "go-duration";

/// Media types that the reference reads as another format; it reads all others as JSON.
const OTHER_FORMATS: [&str; 4] = [
    "text/plain",
    "text/html",
    "application/xml",
    "application/gob",
];

/// Error of a body whose media type the reference reads as another format; `None` if it is read as JSON.
pub(crate) fn other_format(media_type: &str, schema: &str) -> Option<String> {
    let is_other = OTHER_FORMATS.contains(&media_type);
    is_other.then(|| format!("can't decode {media_type} to *server.{schema}"))
}

/// A body that is not JSON.
pub(crate) fn syntax_error(error: &serde_json::Error) -> String {
    if error.is_eof() {
        "unexpected EOF".to_owned()
    } else {
        decode_error(error)
    }
}

/// A body that can't be decoded.
pub(crate) fn decode_error(cause: impl Display) -> String {
    format!("json: {cause}")
}

/// A value of a wrong type at `path` of a schema's value. `types` are those of the path's schema:
/// its own, and of a list also that of its items.
pub(crate) fn wrong_type(schema: &str, path: &str, found: &Value, types: &[&str]) -> String {
    let found = kind_name(found);
    if path.is_empty() {
        format!("json: cannot unmarshal {found} into Go value of type server.{schema}")
    } else {
        let wanted: String = types.iter().map(|name| type_name(name)).collect();
        format!(
            "json: cannot unmarshal {found} into Go struct field {schema}{path} of type {wanted}"
        )
    }
}

/// Go's name of a JSON Schema type; that of a list stands before the name of its items.
fn type_name(schema_type: &str) -> &str {
    match schema_type {
        "integer" => "int",
        "boolean" => "bool",
        "number" => "float64",
        "array" => "[]",
        other => other,
    }
}

fn kind_name(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(n) if n.is_f64() => format!("number {n}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// A boolean parameter, in any of the forms that Go reads.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn wrong_types_are_named_as_in_go() {
        let text = wrong_type("T", ".a[1]", &json!(1.5), &["array", "array", "integer"]);
        assert_eq!(
            text,
            "json: cannot unmarshal number 1.5 into Go struct field T.a[1] of type [][]int"
        );
        let text = wrong_type("T", "", &json!([]), &["object"]);
        assert_eq!(
            text,
            "json: cannot unmarshal array into Go value of type server.T"
        );
    }
}
