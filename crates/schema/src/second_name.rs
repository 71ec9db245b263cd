//! Second names of fields, for `#[serde(alias = "…")]`, of which a generated schema knows nothing.

use schemars::Schema;
use serde_json::{Value, json};

/// Adds the field `name`, which is the same as `of`, to the schema of an object. One of them is required
/// if `of` was; a document with both is rejected when it is read.
pub fn add_second_name(schema: &mut Schema, of: &str, name: &str) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    let properties = object.get_mut("properties").and_then(Value::as_object_mut);
    let Some(properties) = properties else { return };
    let Some(mut field) = properties.get(of).cloned() else {
        return;
    };
    if let Some(field) = field.as_object_mut() {
        field.insert(
            "description".to_owned(),
            format!("The same as `{of}`.").into(),
        );
    }
    properties.insert(name.to_owned(), field);
    let required = object.get_mut("required").and_then(Value::as_array_mut);
    let Some(required) = required else { return };
    let before = required.len();
    required.retain(|field| field != of);
    if required.len() < before {
        let either = json!([{ "required": [of] }, { "required": [name] }]);
        object.insert("oneOf".to_owned(), either);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_name_has_the_same_schema() {
        let mut schema = schemars::json_schema!({
            "type": "object",
            "properties": { "a": { "type": "string", "description": "Text." }, "b": { "type": "null" } },
            "required": ["a", "b"],
        });
        add_second_name(&mut schema, "a", "other");
        add_second_name(&mut schema, "none", "x");
        assert_eq!(
            schema.to_value(),
            json!({
                "type": "object",
                "properties": {
                    "a": { "type": "string", "description": "Text." },
                    "b": { "type": "null" },
                    "other": { "type": "string", "description": "The same as `a`." },
                },
                "required": ["b"],
                "oneOf": [{ "required": ["a"] }, { "required": ["other"] }],
            })
        );
    }
}
