//! Columns in arguments, in files and in the API.

use forebay_api::sink::ColumnView;
use forebay_api::topic::MessagePartView;
use forebay_schema::add_second_name;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

/// Types of cells.
pub(crate) const DATA_TYPES: [&str; 6] =
    ["text", "integer", "double", "boolean", "timestamp", "json"];
const UNITS: [&str; 4] = ["s", "ms", "us", "ns"];

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

/// Parses `NAME=TYPE[,OPTION…][:ARGUMENT]`; errors have an example.
pub(crate) fn parse_column(text: &str) -> Result<ColumnDefinition, String> {
    let Some((name, rest)) = text.split_once('=') else {
        return Err("a column is NAME=TYPE, like user=path:user.id".to_owned());
    };
    if name.is_empty() {
        return Err("the column has no name: NAME=TYPE, like user=path:user.id".to_owned());
    }
    let (kind, options, argument) = parts(rest)?;
    let mut column = ColumnDefinition {
        name: name.to_owned(),
        kind,
        ..ColumnDefinition::default()
    };
    set_argument(&mut column, argument)?;
    for option in options {
        set_option(&mut column, &option)?;
    }
    Ok(column)
}

/// Type, options and argument; the text of an option may be in double quotes.
fn parts(text: &str) -> Result<(String, Vec<String>, Option<String>), String> {
    let mut words = vec![String::new()];
    let mut in_quotes = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => in_quotes = !in_quotes,
            ',' if !in_quotes => words.push(String::new()),
            ':' if !in_quotes => {
                let argument = text.get(at + 1..).unwrap_or_default().to_owned();
                let kind = words.remove(0);
                return Ok((kind, words, Some(argument)));
            }
            c => {
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    if in_quotes {
        return Err("a quote is not closed".to_owned());
    }
    let kind = words.remove(0);
    Ok((kind, words, None))
}

fn set_argument(column: &mut ColumnDefinition, argument: Option<String>) -> Result<(), String> {
    let kind = column.kind.clone();
    match (kind.as_str(), argument) {
        ("path", Some(path)) => {
            forebay_record::path::CompiledPath::compile(&path)
                .map_err(|e| format!("\"{path}\" is no path: {e}"))?;
            column.path = Some(path);
        }
        ("template", Some(text)) if !text.is_empty() => column.template = Some(text),
        ("static", Some(text)) => column.value = Some(text),
        ("path", None) => return Err("type path needs a path, like user=path:user.id".to_owned()),
        ("template", _) => {
            return Err(
                "type template needs a program, like 'total=template:Body(\"a\") + Body(\"b\")'"
                    .to_owned(),
            );
        }
        ("static", None) => return Err("type static needs a text, like env=static:prod".to_owned()),
        (kind, _) if !TYPES.contains(&kind) => {
            let near = forebay_schema::nearest(kind, TYPES);
            let near = near
                .map(|n| format!("; did you mean {n}?"))
                .unwrap_or_default();
            return Err(format!(
                "there is no column type \"{kind}\", allowed are {}{near}",
                TYPES.join(", ")
            ));
        }
        (_, None) => {}
        (kind, Some(_)) => return Err(format!("type {kind} has no argument after a colon")),
    }
    Ok(())
}

fn set_option(column: &mut ColumnDefinition, option: &str) -> Result<(), String> {
    let takes_json = matches!(column.kind.as_str(), "path" | "template");
    match option.split_once('=') {
        None if option == "key" => column.primary_key = true,
        None if option == "json" && takes_json => column.raw_string = Some(false),
        Some(("default", text)) if column.kind == "path" => {
            column.default_value = Some(text.to_owned())
        }
        Some(("as", data_type)) if DATA_TYPES.contains(&data_type) => {
            column.data_type = Some(data_type.to_owned());
        }
        Some(("as", other)) => {
            let allowed = DATA_TYPES.join(", ");
            return Err(format!(
                "there is no data type \"{other}\", allowed are {allowed}"
            ));
        }
        Some(("unit", unit)) if UNITS.contains(&unit) => column.unit = Some(unit.to_owned()),
        Some(("unit", other)) => {
            let allowed = UNITS.join(", ");
            return Err(format!(
                "there is no unit \"{other}\", allowed are {allowed}"
            ));
        }
        _ => {
            let kind = &column.kind;
            return Err(format!(
                "type {kind} has no option \"{option}\"; allowed are key, as=TYPE, unit=UNIT, json (path, template) and default=TEXT (path)"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Value {
        parse_column(text).unwrap().request()
    }

    #[test]
    fn column_arguments_are_parsed() {
        assert_eq!(request("id=uuid"), json!({"type": "uuid", "name": "id"}));
        assert_eq!(
            request("user=path:user.id"),
            json!({"type": "path", "name": "user", "path": "user.id", "rawString": true})
        );
        assert_eq!(
            request("u=path,key,json,default=\"a,b:c\":x[0]"),
            json!({"type": "path", "name": "u", "path": "x[0]", "defaultValue": "a,b:c", "rawString": false, "primaryKey": true})
        );
        assert_eq!(
            request("t=template:Body(\"a\")+Body(\"b:c\")"),
            json!({"type": "template", "name": "t", "rawString": true,
                   "template": {"language": "jsonnet", "content": "Body(\"a\")+Body(\"b:c\")"}})
        );
        assert_eq!(
            request("e=static:a:b"),
            json!({"type": "static", "name": "e", "value": "a:b"})
        );
        assert_eq!(
            request("u=path:[\"utm.source\"].x"),
            json!({"type": "path", "name": "u", "path": "[\"utm.source\"].x", "rawString": true})
        );
        assert_eq!(
            request("u=path:$.a[1:2, 'b:c']"),
            json!({"type": "path", "name": "u", "path": "$.a[1:2, 'b:c']", "rawString": true})
        );
        assert_eq!(
            request("at=path,as=timestamp,unit=ms:at"),
            json!({"type": "path", "name": "at", "path": "at", "rawString": true,
                   "dataType": "timestamp", "unit": "ms"})
        );
        assert_eq!(
            request("all=path:"),
            json!({"type": "path", "name": "all", "path": "", "rawString": true})
        );
    }

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

    #[test]
    fn errors_have_an_example_or_a_suggestion() {
        for (text, said) in [
            ("id", "NAME=TYPE"),
            ("=uuid", "has no name"),
            ("id=uid", "did you mean uuid?"),
            ("id=uuid:x", "has no argument after a colon"),
            ("p=path", "needs a path"),
            ("t=template:", "needs a program"),
            ("s=static", "needs a text"),
            ("id=uuid,default=x", "has no option \"default=x\""),
            ("p=path,kee:x", "has no option \"kee\""),
            (
                "p=path,as=number:x",
                "allowed are text, integer, double, boolean, timestamp, json",
            ),
            ("p=path,unit=h:x", "allowed are s, ms, us, ns"),
            ("p=path,default=\"x:y", "quote is not closed"),
            ("p=path:a[*]", "\"a[*]\" is no path: character 3: "),
            ("p=path:$.a[", "character 5: expected a selector"),
            ("p=path:$ref", "[\"$ref\"]"),
        ] {
            let error = parse_column(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
