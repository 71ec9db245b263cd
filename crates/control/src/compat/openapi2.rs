//! The document as OpenAPI 2 ("Swagger"), for older clients. It is generated from the OpenAPI 3
//! document, so the two can't differ.

use serde_json::{Map, Value, json};

/// Converts an OpenAPI 3 document of this crate to OpenAPI 2.
pub(crate) fn from_openapi(document: &Value) -> Value {
    let server = document
        .pointer("/servers/0/url")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let (scheme, rest) = server.split_once("://").unwrap_or(("http", server));
    let (host, base) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let mut info = document["info"].clone();
    if let Some(license) = info.get_mut("license").and_then(Value::as_object_mut) {
        license.remove("identifier");
    }
    let paths = document["paths"].as_object().into_iter().flatten();
    let paths: Map<String, Value> = paths
        .map(|(path, item)| {
            let operations = item.as_object().into_iter().flatten();
            let operations = operations.map(|(method, o)| (method.clone(), operation(o)));
            (path.clone(), Value::Object(operations.collect()))
        })
        .collect();
    let shared = document["components"]["responses"].as_object();
    let shared = shared.into_iter().flatten();
    json!({
        "swagger": "2.0",
        "info": info,
        "host": host,
        "basePath": if base.is_empty() { "/" } else { base },
        "schemes": [scheme],
        "tags": document["tags"],
        "paths": paths,
        "responses": shared.map(|(name, given)| (name.clone(), response(given))).collect::<Map<_, _>>(),
        "definitions": schema(&document["components"]["schemas"]),
        "securityDefinitions": {
            "token": document["components"]["securitySchemes"]["token"],
            "bearer": {
                "type": "apiKey", "in": "header", "name": "Authorization",
                "description": "`Bearer` and the same token, as an alternative."
            }
        }
    })
}

fn operation(operation: &Value) -> Value {
    let mut made = operation.clone();
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let mut parameters: Vec<Value> = parameters.map(parameter).collect();
    if let Some(body) = operation.get("requestBody") {
        let contents = body["content"].as_object();
        let kinds: Vec<&String> = contents.into_iter().flat_map(Map::keys).collect();
        if let Some(content) = contents.and_then(|c| c.values().next()) {
            parameters.push(json!({
                "name": "body", "in": "body", "required": true, "schema": schema(&content["schema"]),
            }));
            made["consumes"] = json!(kinds);
        }
    }
    if !parameters.is_empty() {
        made["parameters"] = Value::Array(parameters);
    }
    let responses = operation["responses"].as_object().into_iter().flatten();
    let mut produces: Vec<String> = Vec::new();
    for (_, response) in responses.clone() {
        let kinds = response["content"].as_object().into_iter();
        for kind in kinds.flat_map(Map::keys) {
            if !produces.contains(kind) {
                produces.push(kind.clone());
            }
        }
    }
    let responses: Map<String, Value> = responses
        .map(|(status, given)| (status.clone(), response(given)))
        .collect();
    made["responses"] = Value::Object(responses);
    if !produces.is_empty() {
        made["produces"] = json!(produces);
    }
    if let Some(made) = made.as_object_mut() {
        made.remove("requestBody");
    }
    made
}

fn response(given: &Value) -> Value {
    if let Some(reference) = given["$ref"].as_str() {
        return json!({ "$ref": reference.replace("#/components/", "#/") });
    }
    let mut made = json!({ "description": given["description"] });
    let content = given["content"].as_object().into_iter().flatten().next();
    if let Some((_, content)) = content {
        made["schema"] = schema(&content["schema"]);
    }
    made
}

/// Moves a parameter's schema into the parameter itself.
fn parameter(parameter: &Value) -> Value {
    let mut made = parameter.as_object().cloned().unwrap_or_default();
    let of_value = made.remove("schema").unwrap_or_default();
    made.remove("example");
    if let Value::Object(of_value) = schema(&of_value) {
        for (word, value) in of_value {
            made.entry(word).or_insert(value);
        }
    }
    Value::Object(made)
}

/// Rewrites references; a nullable value becomes an optional one.
fn schema(value: &Value) -> Value {
    match value {
        Value::Object(words) => {
            let choices = words.get("oneOf").and_then(Value::as_array);
            let is_null = |s: &&Value| s["type"] == "null";
            if let Some(choice) = choices.and_then(|c| c.iter().find(|s| !is_null(s))) {
                return schema(choice);
            }
            // A reference can have no siblings, not even a description.
            if let Some(Value::String(to)) = words.get("$ref") {
                let to = to.replace("#/components/schemas/", "#/definitions/");
                return json!({ "$ref": to });
            }
            // Names are always strings.
            let words = words.iter().filter(|(word, _)| *word != "propertyNames");
            let made = words.map(|(word, value)| {
                let value = match (word.as_str(), value) {
                    ("type", Value::Array(kinds)) => {
                        let kind = kinds.iter().find(|k| *k != "null");
                        kind.cloned().unwrap_or_default()
                    }
                    _ => schema(value),
                };
                (word.clone(), value)
            });
            Value::Object(made.collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(schema).collect()),
        other => other.clone(),
    }
}
