//! The JSON schema of a definition file, from the types that it is read into and the wire types of the API.

use std::sync::LazyLock;

use forebay_api::json_schema;
use forebay_api::sink::SinkCreate;
use forebay_api::source::SourceCreate;
use forebay_model::settings::{SettingRegistry, SettingScope};
use forebay_schema::SchemaView;
use serde_json::{Map, Value, json};

use super::DefinitionFile;
use super::file::SETTINGS;
use super::wire_fields::{sink_wire_fields, source_wire_fields};
use crate::config::reference;

static SCHEMA: LazyLock<Value> = LazyLock::new(build);
/// JSON Schema (draft 2020-12) of a definition file. The same schema validates the files.
pub(crate) fn definition_schema() -> &'static Value {
    &SCHEMA
}

/// The schema for editors. Where a text is expected it allows numbers and booleans, too: they are read
/// as the text that is written in the file.
pub(crate) fn editor_schema() -> Value {
    let mut schema = definition_schema().clone();
    widen_texts(&mut schema);
    schema
}

fn widen_texts(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let is_free = !["enum", "pattern", "writeOnly"]
                .iter()
                .any(|k| fields.contains_key(*k));
            if let Some(kind) = fields.get_mut("type").filter(|_| is_free) {
                let scalars = ["string", "number", "boolean"];
                if *kind == "string" {
                    *kind = json!(scalars);
                } else if *kind == json!(["string", "null"]) {
                    *kind = json!([&scalars[..], &["null"]].concat());
                }
            }
            fields.values_mut().for_each(widen_texts);
        }
        Value::Array(items) => items.iter_mut().for_each(widen_texts),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

fn build() -> Value {
    let mut schema = schemars::schema_for!(DefinitionFile).to_value();
    add_wire_fields(
        &mut schema,
        "SourceDefinition",
        json_schema::<SourceCreate>(),
        source_wire_fields(),
    );
    add_wire_fields(
        &mut schema,
        "SinkDefinition",
        json_schema::<SinkCreate>(),
        sink_wire_fields(),
    );
    add_settings(&mut schema, "SourceDefinition", SettingScope::Source);
    add_settings(&mut schema, "SinkDefinition", SettingScope::Sink);
    let sink = &mut schema["$defs"]["SinkDefinition"];
    sink["oneOf"] = ["table", "kafka", "http"]
        .iter()
        .map(|name| json!({ "required": [name] }))
        .collect();
    sink["dependentRequired"] =
        json!({ "table": ["columns"], "columns": ["table"], "backend": ["table"] });
    schema
}

/// Adds fields of a request, and the named schemas that they refer to.
fn add_wire_fields(schema: &mut Value, to: &str, mut request: Value, fields: &[String]) {
    for name in fields {
        schema["$defs"][to]["properties"][name] = request["properties"][name].take();
    }
    if fields.is_empty() {
        return;
    }
    if let Value::Object(named) = request["$defs"].take() {
        for (name, value) in named {
            schema["$defs"][name] = value;
        }
    }
}

/// Adds the names and meanings of the settings. The server checks names and values.
fn add_settings(schema: &mut Value, to: &str, scope: SettingScope) {
    let known = SettingRegistry::all().iter();
    let known = known.filter(|s| scope == SettingScope::Source || s.scope == SettingScope::Sink);
    let known = known.map(|setting| {
        let name = setting.key.strip_prefix(SETTINGS).unwrap_or(setting.key);
        (
            name.to_owned(),
            json!({ "description": setting.description }),
        )
    });
    let known: Map<String, Value> = known.collect();
    schema["$defs"][to]["properties"]["settings"]["properties"] = Value::Object(known);
}

/// Calls `change` for each secret text in a value, with its path.
pub(super) fn for_each_secret(
    schema: &SchemaView<'_>,
    value: &mut Value,
    path: &str,
    change: &mut dyn FnMut(&str, &mut String),
) {
    match value {
        Value::String(text) if schema.has_secrets() => change(path, text),
        // A secret in the wrong form, of which only the position is of use.
        Value::Number(_) | Value::Bool(_) | Value::Object(_) if schema.has_secrets() => {
            change(path, &mut String::new());
        }
        Value::Array(_) if schema.is_secret() => change(path, &mut String::new()),
        Value::Array(items) => {
            let Some(schema) = schema.items() else { return };
            for (i, item) in items.iter_mut().enumerate() {
                for_each_secret(&schema, item, &format!("{path}[{i}]"), change);
            }
        }
        Value::Object(fields) => {
            let tag = fields.get("type").and_then(Value::as_str);
            let variants = schema.variants().unwrap_or_default();
            let variant = variants.iter().find(|(name, _)| Some(*name) == tag);
            let properties = variant.map_or(schema, |(_, variant)| variant).properties();
            for (name, schema) in properties {
                if let Some(below) = fields.get_mut(name) {
                    let path = if path.is_empty() {
                        name.to_owned()
                    } else {
                        format!("{path}.{name}")
                    };
                    for_each_secret(&schema, below, &path, change);
                }
            }
        }
        _ => {}
    }
}

/// Paths of the secrets in a source or sink, by the name of its schema.
pub(super) fn secret_paths(definition: &str, value: &Value) -> Vec<String> {
    let schema = &definition_schema()["$defs"];
    let schema = SchemaView::new(&schema[definition], schema.as_object());
    let mut paths = Vec::new();
    let mut collect = |path: &str, _: &mut String| paths.push(path.to_owned());
    for_each_secret(&schema, &mut value.clone(), "", &mut collect);
    paths
}

/// Replaces the secrets of a source or sink by references to variables, and adds them where they are
/// required: the API does not return them. `name` is the start of the variables' names.
pub(super) fn refer_to_secrets(definition: &str, fields: &mut Map<String, Value>, name: &str) {
    let schema = &definition_schema()["$defs"];
    let schema = SchemaView::new(&schema[definition], schema.as_object());
    let mut value = Value::Object(std::mem::take(fields));
    add_references(&schema, &mut value, name);
    if let Value::Object(changed) = value {
        *fields = changed;
    }
}

fn add_references(schema: &SchemaView<'_>, value: &mut Value, name: &str) {
    match value {
        Value::Array(items) => {
            let Some(schema) = schema.items() else { return };
            for (i, item) in items.iter_mut().enumerate() {
                add_references(&schema, item, &format!("{name}_{i}"));
            }
        }
        Value::Object(fields) => {
            let tag = fields.get("type").and_then(Value::as_str);
            let variants = schema.variants().unwrap_or_default();
            let variant = variants.iter().find(|(name, _)| Some(*name) == tag);
            let schema = variant.map_or(schema, |(_, variant)| variant);
            let required = schema.required();
            for (field, below) in schema.properties() {
                let name = format!("{name}_{field}");
                let is_needed = required.contains(&field) || fields.contains_key(field);
                if below.is_secret() && is_needed {
                    fields.insert(field.to_owned(), reference(&name).into());
                } else if let Some(value) = fields.get_mut(field) {
                    add_references(&below, value, &name);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Names of the properties that are or have secrets, anywhere in a definition.
pub(super) fn secret_names() -> &'static [String] {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let mut names = Vec::new();
        collect_secret_names(definition_schema(), &mut names);
        names
    });
    &NAMES
}

fn collect_secret_names(schema: &Value, names: &mut Vec<String>) {
    let Value::Object(entries) = schema else {
        if let Value::Array(items) = schema {
            items
                .iter()
                .for_each(|item| collect_secret_names(item, names));
        }
        return;
    };
    let root = SCHEMA.get("$defs").and_then(Value::as_object);
    for (name, below) in properties(schema).into_iter().flatten() {
        if SchemaView::new(below, root).has_secrets() {
            names.push(name.clone());
        }
    }
    entries
        .values()
        .for_each(|below| collect_secret_names(below, names));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Request fields below a source or sink, and where a definition has them.
    #[test]
    fn each_field_of_a_request_is_in_the_schema() {
        let named = |name: &str| &definition_schema()["$defs"][name]["properties"];
        let has = |within: &Value, names: &[String], mapped: &[(&str, &str)]| {
            for name in names {
                let mapped = mapped.iter().find(|(n, _)| n == name);
                let name = mapped.map_or(name.as_str(), |(_, to)| *to);
                assert!(within.get(name).is_some(), "{name} is not in {within:#}");
            }
        };
        let fields = |schema: &Value| -> Vec<String> {
            properties(schema).unwrap().keys().cloned().collect()
        };
        for (definition, request, mapped) in [
            (
                "SourceDefinition",
                json_schema::<SourceCreate>(),
                &[
                    ("sourceId", "id"),
                    ("type", "name"),
                    ("definitionSet", "name"),
                ][..],
            ),
            (
                "VerifyDefinition",
                json_schema::<forebay_api::source::SourceVerifyRequest>(),
                &[],
            ),
            (
                "SinkDefinition",
                json_schema::<SinkCreate>(),
                &[
                    ("sinkId", "id"),
                    ("type", "table"),
                    ("topic", "kafka"),
                    ("definitionSet", "name"),
                ],
            ),
            (
                "SinkDefinition",
                json_schema::<forebay_api::sink::TableCreate>(),
                &[
                    ("type", "backend"),
                    ("tableId", "table"),
                    ("mapping", "columns"),
                ],
            ),
            (
                "ColumnDefinition",
                json_schema::<forebay_api::mapping::ColumnRequest>(),
                &[],
            ),
            (
                "TopicDefinition",
                json_schema::<forebay_api::topic::TopicCreate>(),
                &[],
            ),
            (
                "MessageDefinition",
                json_schema::<forebay_api::topic::MessageRequest>(),
                &[],
            ),
            (
                "MessagePart",
                json_schema::<forebay_api::topic::MessagePartRequest>(),
                &[],
            ),
        ] {
            let all = fields(&request);
            assert!(all.len() > 2, "{definition}: {request}");
            has(named(definition), &all, mapped);
        }
    }

    #[test]
    fn secrets_are_found_and_become_references() {
        let schema = json!({
            "type": "object",
            "properties": { "verify": { "$ref": "#/$defs/Verify" } },
            "$defs": {
                "Verify": { "oneOf": [
                    { "properties": { "type": { "const": "github" }, "secret": { "$ref": "#/$defs/Secret" } },
                      "required": ["type", "secret"] },
                    { "properties": { "type": { "const": "none" } }, "required": ["type"] },
                ] },
                "Secret": { "type": "string", "writeOnly": true },
            },
        });
        let schema = SchemaView::root(&schema);
        let mut value = json!({ "verify": { "type": "github", "secret": "s3cret" } });
        let mut found = Vec::new();
        for_each_secret(&schema, &mut value, "", &mut |path, text| {
            found.push(format!("{path}={text}"));
        });
        assert_eq!(found, ["verify.secret=s3cret"]);
        // The API returns a mask, or nothing.
        for shown in [
            json!({ "type": "github", "secret": "***" }),
            json!({ "type": "github" }),
        ] {
            let mut value = json!({ "verify": shown });
            add_references(&schema, &mut value, "my-shop");
            assert_eq!(value["verify"]["secret"], "${MY_SHOP_VERIFY_SECRET}");
        }
        let mut value = json!({ "verify": { "type": "none" } });
        add_references(&schema, &mut value, "my-shop");
        assert_eq!(value, json!({ "verify": { "type": "none" } }));
    }

    #[test]
    fn the_schema_names_its_draft_and_every_setting() {
        let schema = definition_schema();
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        let settings = &schema["$defs"]["SinkDefinition"]["properties"]["settings"]["properties"];
        assert!(
            settings.get("local.mapping.rejected.action").is_some(),
            "{settings}"
        );
    }
}
