//! Columns in files and in the API.

use forebay_api::mapping::ColumnView;
use forebay_api::topic::MessagePartView;
use forebay_schema::add_second_name;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

/// Types of cells.
pub(crate) const DATA_TYPES: [&str; 6] =
    ["text", "integer", "double", "boolean", "timestamp", "json"];
pub(super) const UNITS: [&str; 4] = ["s", "ms", "us", "ns"];

pub(crate) const TYPES: [&str; 8] = [
    "uuid", "datetime", "ip", "body", "headers", "path", "template", "static",
];

/// A column of a table, a field or a header of a message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = second_names)]
pub(crate) struct ColumnDefinition {
    /// Name of the column.
    pub(crate) name: String,
    /// Source of the text.
    #[serde(rename = "type", alias = "from")]
    #[schemars(extend("enum" = TYPES))]
    pub(crate) kind: String,
    /// Of type `path`: path of a value in the body, like `user.tags[0]`, or JSONPath.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "String")]
    pub(crate) path: Option<String>,
    /// Of type `path`: text if the body has no value there.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "String")]
    pub(crate) default_value: Option<String>,
    /// Of types `path` and `template`: strings without their JSON quotes. The default is true where
    /// text is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) raw_string: Option<bool>,
    /// Of type `template`: the program, in Jsonnet.
    #[serde(
        default,
        deserialize_with = "template_text",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "template_schema")]
    pub(crate) template: Option<String>,
    /// Of type `static`: the text.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "String")]
    pub(crate) value: Option<String>,
    /// Part of the table's primary key: a later row with the same key replaces the earlier one.
    #[serde(default, alias = "key", skip_serializing_if = "is_false")]
    pub(crate) primary_key: bool,
    /// Only in a table: type of the cells. Records with a value of another type are rejected. The
    /// default is `text`.
    #[serde(default, alias = "as", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("enum" = DATA_TYPES))]
    pub(crate) data_type: Option<String>,
    /// Of `dataType: timestamp`: unit of times that are numbers, since 1970. By default it is derived
    /// from their magnitude.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("enum" = UNITS))]
    pub(crate) unit: Option<String>,
}

/// The names that columns of sinks and of jobs share.
fn second_names(schema: &mut Schema) {
    add_second_name(schema, "type", "from");
    add_second_name(schema, "dataType", "as");
    add_second_name(schema, "primaryKey", "key");
}

/// For `skip_serializing_if`.
#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
pub(super) fn is_false(value: &bool) -> bool {
    !value
}

/// A template as text, or in its API form. The pattern keeps a number from being read as text.
pub(super) fn template_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "object"],
        "pattern": "\\S",
        "properties": {
            "language": { "type": "string", "enum": ["jsonnet"] },
            "content": { "type": "string" },
        },
        "required": ["content"],
        "additionalProperties": false,
    })
}

/// The text as written in YAML, even if it could be another type (`0`, `no`, `1.10`). Null is rejected:
/// it may be an intended text or an omitted key.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

/// A template as text, or in its API form.
pub(super) fn template_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let wrong = || {
        serde::de::Error::custom(
            "a template must be text, or {language: jsonnet, content: text}; quote one that YAML reads as a number",
        )
    };
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(Some(text)),
        Value::Object(map) => match (
            map.get("language"),
            map.get("content").and_then(Value::as_str),
        ) {
            (None | Some(Value::String(_)), Some(text)) => Ok(Some(text.to_owned())),
            _ => Err(wrong()),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => Err(wrong()),
    }
}

impl From<&ColumnView> for ColumnDefinition {
    fn from(column: &ColumnView) -> Self {
        Self {
            name: column.name.clone(),
            kind: column.r#type.to_string(),
            path: column.path.clone(),
            default_value: column.default_value.clone(),
            raw_string: column.raw_string,
            template: column.template.as_ref().map(|t| t.content.clone()),
            value: column.value.clone(),
            primary_key: column.primary_key.unwrap_or_default(),
            data_type: column.data_type.map(|t| t.to_string()),
            unit: column.unit.map(|u| u.to_string()),
        }
    }
}

/// A column without a name.
impl From<&MessagePartView> for ColumnDefinition {
    fn from(part: &MessagePartView) -> Self {
        Self {
            name: String::new(),
            kind: part.r#type.to_string(),
            path: part.path.clone(),
            default_value: part.default_value.clone(),
            raw_string: part.raw_string,
            template: part.template.as_ref().map(|t| t.content.clone()),
            value: part.value.clone(),
            ..Self::default()
        }
    }
}

impl ColumnDefinition {
    /// Sets `rawString` of types that have it.
    pub(super) fn set_raw(&mut self, default: bool) {
        if matches!(self.kind.as_str(), "path" | "template") {
            self.raw_string.get_or_insert(default);
        }
    }

    /// Removes the type of cells if it is the default.
    pub(super) fn remove_text(&mut self) {
        self.data_type = self.data_type.take().filter(|t| t != "text");
    }

    /// Removes `rawString` if it is the default.
    pub(super) fn remove_raw(&mut self, default: bool) {
        self.raw_string = self.raw_string.filter(|raw| *raw != default);
    }

    /// API form where text is expected: in a table, or in a message except for its fields.
    pub(crate) fn request(&self) -> Value {
        self.request_with(true)
    }

    /// API form where JSON is expected.
    pub(crate) fn field_request(&self) -> Value {
        self.request_with(false)
    }

    /// Always sets `rawString`, so that a definition does not depend on the server's settings.
    fn request_with(&self, is_raw: bool) -> Value {
        let mut request = json!({ "type": self.kind, "name": self.name });
        let mut set = |name: &str, value: Value| request[name] = value;
        if let Some(path) = &self.path {
            set("path", path.as_str().into());
        }
        if let Some(text) = &self.default_value {
            set("defaultValue", text.as_str().into());
        }
        if matches!(self.kind.as_str(), "path" | "template") {
            set("rawString", self.raw_string.unwrap_or(is_raw).into());
        }
        if let Some(text) = &self.template {
            set(
                "template",
                json!({ "language": "jsonnet", "content": text }),
            );
        }
        if let Some(text) = &self.value {
            set("value", text.as_str().into());
        }
        if self.primary_key {
            set("primaryKey", true.into());
        }
        if let Some(data_type) = &self.data_type {
            set("dataType", data_type.as_str().into());
        }
        if let Some(unit) = &self.unit {
            set("unit", unit.as_str().into());
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_the_names_of_jobs_too() {
        let read = |text: &str| serde_json::from_str::<ColumnDefinition>(text);
        let old = r#"{"name":"a","type":"path","path":"x","dataType":"json","primaryKey":true}"#;
        let new = r#"{"name":"a","from":"path","path":"x","as":"json","key":true}"#;
        assert_eq!(read(new).unwrap(), read(old).unwrap());
        for (text, said) in [
            (
                r#"{"name":"a","from":"uuid","type":"uuid"}"#,
                "duplicate field `type`",
            ),
            (r#"{"name":"a"}"#, "missing field `type`"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
