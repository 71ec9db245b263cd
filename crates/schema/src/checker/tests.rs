//! Each rule, in both meanings of null.

use serde_json::json;

use super::*;

/// A schema in the forms in which schemars and utoipa write types.
fn schema() -> Value {
    json!({
        "$defs": {
            "Mode": { "oneOf": [
                { "const": "fast", "description": "Fast." },
                { "enum": ["slow", "none"] },
            ] },
            "Target": { "oneOf": [
                {
                    "type": "object", "additionalProperties": false, "required": ["type", "url"],
                    "properties": { "type": { "const": "http" }, "url": { "type": "string" } },
                },
                {
                    "$ref": "#/$defs/Table", "type": "object", "required": ["type"],
                    "properties": { "type": { "const": "table" } },
                },
            ] },
            "Table": {
                "type": "object", "additionalProperties": false,
                "properties": { "rows": { "type": ["integer", "null"], "maximum": 9 } },
            },
            "Secret": { "type": "string", "writeOnly": true },
        },
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "mode"],
        "properties": {
            "name": { "type": "string", "minLength": 1, "maxLength": 4 },
            "mode": { "$ref": "#/$defs/Mode", "description": "The mode." },
            "other": { "anyOf": [{ "$ref": "#/$defs/Mode" }, { "type": "null" }] },
            "target": { "$ref": "#/$defs/Target" },
            "token": { "$ref": "#/$defs/Secret" },
            "ratio": { "type": "number", "minimum": 0, "maximum": 1 },
            "maxErrors": { "type": "integer", "x-aliases": ["max_errors"] },
            "items": { "type": "array", "minItems": 1, "items": { "type": "boolean" } },
            "headers": { "type": "object", "additionalProperties": { "type": "string" } },
        },
    })
}

fn messages(nulls: NullRule, value: &Value) -> Vec<String> {
    let schema = schema();
    let mut checker = SchemaChecker::new(nulls);
    checker.check(&SchemaView::root(&schema), value, "");
    checker.violations.iter().map(|v| v.message(None)).collect()
}

#[test]
fn a_valid_value_has_no_violations() {
    let value = json!({
        "name": "čtyř", "mode": "slow", "other": null, "target": { "type": "table", "rows": null },
        "token": "s3cret", "ratio": 1, "max_errors": 3, "items": [true], "headers": { "x": "y" },
    });
    assert_eq!(messages(NullRule::WrongType, &value), Vec::<String>::new());
    assert_eq!(messages(NullRule::Absent, &value), Vec::<String>::new());
}

#[test]
fn every_violation_is_found_in_the_order_of_the_schema() {
    let value = json!({
        "itms": [], "items": [1, "x"], "headers": { "x": 1 }, "ratio": 1.5, "token": { "s3cret": 1 },
        "target": { "type": "tabel" }, "other": "fats", "name": "fünfe",
    });
    assert_eq!(
        messages(NullRule::WrongType, &value),
        [
            "mode is missing; allowed is fast, slow, none",
            "name has the length 5, allowed is 1 to 4",
            "other is \"fats\", allowed is fast, slow, none; did you mean fast?",
            "target.type is \"tabel\", allowed is http, table; did you mean table?",
            "token is ***, it has to be a string",
            "ratio is 1.5, allowed is 0 to 1",
            "items[0] is 1, it has to be true or false",
            "items[1] is \"x\", it has to be true or false",
            "headers.x is 1, it has to be a string",
            "itms is not a known key; did you mean items?",
        ]
    );
    let far = json!({ "name": "", "mode": "fast", "zzzzz": 1, "items": [], "target": {} });
    assert_eq!(
        messages(NullRule::WrongType, &far),
        [
            "name is empty",
            "target.type is missing; allowed is http, table",
            "items is empty",
            "zzzzz is not a known key; known keys are headers, items, maxErrors, mode, name, other, ratio, target, token",
        ]
    );
}

#[test]
fn tagged_objects_have_the_keys_of_their_variant() {
    let target = |target: Value| {
        let value = json!({ "name": "a", "mode": "fast", "target": target });
        messages(NullRule::WrongType, &value)
    };
    assert_eq!(target(json!({ "type": "http" })), ["target.url is missing"]);
    assert_eq!(
        target(json!({ "type": "table", "rows": 10, "url": "x" })),
        [
            "target.rows is 10, allowed is at most 9",
            "target.url is not a known key; known keys are rows, type",
        ]
    );
    assert_eq!(
        target(json!("http")),
        ["target is \"http\", it has to be a mapping"]
    );
}

#[test]
fn null_is_a_wrong_type_or_no_value() {
    let value = json!({ "name": null, "mode": "fast", "ratio": null, "items": [null] });
    assert_eq!(
        messages(NullRule::WrongType, &value),
        [
            "name is empty, it has to be a string",
            "ratio is empty, it has to be a number",
            "items[0] is empty, it has to be true or false",
        ]
    );
    assert_eq!(
        messages(NullRule::Absent, &value),
        ["name is missing", "items[0] is empty"]
    );
}

#[test]
fn circular_references_end() {
    let schema = json!({ "$defs": { "A": { "$ref": "#/$defs/A" } }, "$ref": "#/$defs/A" });
    let value = json!(1);
    let mut checker = SchemaChecker::new(NullRule::WrongType);
    checker.check(&SchemaView::root(&schema), &value, "");
    assert!(checker.violations.is_empty());
}
