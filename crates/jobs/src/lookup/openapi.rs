//! The OpenAPI document of the service, generated from the tables.

use forebay_connect::keyed::{DataType, TableSchema};
use serde_json::{Map, Value, json};

pub(super) fn document(tables: &[(String, TableSchema)]) -> Value {
    let mut paths = Map::new();
    for (path, shape) in tables {
        paths.insert(format!("{path}/{{key}}"), route(shape));
    }
    let plain = |summary: &str, kind: &str| {
        json!({ "get": { "summary": summary, "responses": {
            "200": { "description": "OK.", "content": { kind: {} } },
            "503": { "description": "The table is unavailable." }
        } } })
    };
    paths.insert(
        "/health".to_owned(),
        plain("Health of the table", "application/json"),
    );
    paths.insert("/metrics".to_owned(), plain("Metrics", "text/plain"));
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Forebay lookup", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": { "Error": {
            "type": "object",
            "required": ["statusCode", "error", "message"],
            "properties": {
                "statusCode": { "type": "integer" },
                "error": { "type": "string" },
                "message": { "type": "string" }
            }
        } } }
    })
}

fn route(shape: &TableSchema) -> Value {
    let mut properties = Map::new();
    for column in &shape.columns {
        let schema = schema(column.kind);
        let nullable = match (column.is_key, schema.get("type")) {
            (false, Some(Value::String(name))) => {
                let mut schema = schema.clone();
                schema["type"] = json!([name, "null"]);
                schema
            }
            _ => schema,
        };
        properties.insert(column.name.clone(), nullable);
    }
    let key = shape.key().next();
    let key_schema = key.map_or(json!({ "type": "string" }), |c| schema(c.kind));
    let problem = |text: &str| {
        json!({ "description": text, "content": { "application/json": {
            "schema": { "$ref": "#/components/schemas/Error" }
        } } })
    };
    json!({ "get": {
        "summary": format!("A row of {}", shape.table),
        "parameters": [
            { "name": "key", "in": "path", "required": true, "schema": key_schema,
              "description": key.map_or("", |c| c.name.as_str()) },
            { "name": "If-None-Match", "in": "header", "schema": { "type": "string" } }
        ],
        "responses": {
            "200": {
                "description": "The row.",
                "headers": { "ETag": { "schema": { "type": "string" } } },
                "content": { "application/json": { "schema": {
                    "type": "object", "properties": properties
                } } }
            },
            "304": { "description": "The row matches If-None-Match." },
            "400": problem("The key is not of the column's type, or not UTF-8."),
            "404": problem("There is no such row."),
            "503": problem("The table is unavailable.")
        }
    } })
}

fn schema(kind: DataType) -> Value {
    match kind {
        DataType::Text => json!({ "type": "string" }),
        DataType::Integer => json!({ "type": "integer", "format": "int64" }),
        DataType::Double => json!({
            "type": "number", "format": "double",
            "description": "Infinity, -Infinity and NaN are strings."
        }),
        DataType::Boolean => json!({ "type": "boolean" }),
        DataType::Timestamp => json!({
            "type": "string", "format": "date-time",
            "description": "Outside of the years 0001 to 9999 it is the store's own text, such as infinity."
        }),
        DataType::Json => json!({}),
    }
}
