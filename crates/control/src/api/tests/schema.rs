//! Valid and invalid values of OpenAPI schemas.

use serde_json::{Value, json};

/// Resolves references; for a choice with null the other schema.
pub(super) fn resolved(document: &Value, schema: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).unwrap();
        return resolved(document, target);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let choice = choices.iter().find(|c| c["type"] != "null").unwrap();
        return resolved(document, choice);
    }
    let mut schema = schema.clone();
    for (_, property) in schema["properties"].as_object_mut().into_iter().flatten() {
        *property = resolved(document, property);
    }
    if schema.get("items").is_some() {
        schema["items"] = resolved(document, &schema["items"]);
    }
    schema
}

/// A valid value with all fields.
pub(super) fn sample(schema: &Value) -> Value {
    if let Some(value) = schema["enum"].get(0).or(schema.get("example")) {
        return value.clone();
    }
    match kind(schema) {
        "object" => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            properties
                .map(|(name, s)| (name.clone(), sample(s)))
                .collect()
        }
        "array" => json!([sample(&schema["items"])]),
        "integer" | "number" => schema.get("minimum").cloned().unwrap_or(json!(1)),
        "boolean" => json!(true),
        _ => json!("x"),
    }
}

pub(super) fn kind(schema: &Value) -> &str {
    let kinds = schema["type"].as_array().into_iter().flatten();
    let kind = kinds.filter_map(Value::as_str).find(|k| *k != "null");
    kind.or(schema["type"].as_str()).unwrap_or("any")
}

/// Invalid values of a schema, and valid ones at its limits.
pub(super) fn variants(schema: &Value) -> (Vec<Value>, Vec<Value>) {
    let (mut wrong, mut right) = (Vec::new(), Vec::new());
    let kinds = [
        ("boolean", json!(true)),
        ("number", json!(1.5)),
        ("integer", json!(7)),
        ("string", json!("text")),
        ("array", json!([])),
        ("object", json!({})),
    ];
    for (of, value) in kinds {
        let fits = of == kind(schema)
            || kind(schema) == "any"
            || (kind(schema), of) == ("number", "integer");
        if !fits {
            wrong.push(value);
        }
    }
    let bound = |word: &str| schema[word].as_u64();
    let text = |n: u64| json!("é".repeat(usize::try_from(n).unwrap()));
    if schema.get("enum").is_some() {
        wrong.extend([json!("nonsense"), json!(""), json!("HTTP")]);
        right.extend(schema["enum"].as_array().unwrap().iter().cloned());
    } else if kind(schema) == "string" {
        wrong.extend(bound("maxLength").map(|n| text(n + 1)));
        wrong.extend(bound("minLength").filter(|n| *n > 0).map(|n| text(n - 1)));
        right.extend(bound("maxLength").map(text));
        right.extend(bound("minLength").map(text));
        right.extend([json!("a\u{0}b"), json!("\u{10ffff}🦀"), json!("../a/b")]);
    }
    let items = |n: u64| Value::Array((0..n).map(|_| sample(&schema["items"])).collect());
    wrong.extend(bound("maxItems").map(|n| items(n + 1)));
    wrong.extend(bound("minItems").filter(|n| *n > 0).map(|n| items(n - 1)));
    right.extend(bound("maxItems").map(items));
    if let Some(n) = schema["minimum"].as_i64() {
        wrong.push(json!(n - 1));
        right.push(json!(n));
    }
    if let Some(n) = schema["maximum"].as_i64() {
        wrong.push(json!(n + 1));
        right.push(json!(n));
    }
    (wrong, right)
}

/// All fields of a body below `schema`: pointer, schema, whether it is required.
pub(super) fn places(
    schema: &Value,
    at: &str,
    required: bool,
    found: &mut Vec<(String, Value, bool)>,
) {
    found.push((at.to_owned(), schema.clone(), required));
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let names = schema["required"].as_array().into_iter().flatten();
        let required = names.into_iter().any(|n| n == name);
        places(property, &format!("{at}/{name}"), required, found);
    }
    if let Some(items) = schema.get("items") {
        places(items, &format!("{at}/0"), true, found);
    }
}
