//! JSON schemas of wire types.

use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Where references of the OpenAPI document point to.
const COMPONENTS: &str = "#/components/schemas/";

/// JSON schema (draft 2020-12) of a wire type; the schemas that it refers to are below `$defs`.
pub fn json_schema<T: ToSchema>() -> Value {
    let mut named = Vec::new();
    T::schemas(&mut named);
    // It contains only strings, numbers and lists.
    let mut schema = serde_json::to_value(T::schema()).unwrap_or_default();
    let named = named.into_iter();
    let named =
        named.map(|(name, schema)| (name, serde_json::to_value(schema).unwrap_or_default()));
    let named: Map<String, Value> = named.collect();
    if let Value::Object(fields) = &mut schema {
        fields.insert("$defs".to_owned(), Value::Object(named));
    }
    point_to_definitions(&mut schema);
    schema
}

fn point_to_definitions(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "$ref" => {
                        *text = text.replace(COMPONENTS, "#/$defs/");
                    }
                    other => point_to_definitions(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(point_to_definitions),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
