//! Validates request bodies and parameters against the schemas of the OpenAPI document, so that the
//! documented rules are the enforced ones.
//!
//! Supports the keywords that the document uses for requests; a test fails when a schema uses an
//! unsupported one.

use std::fmt::Display;

use serde_json::{Map, Value};

use super::error::{ApiError, ErrorName};
use crate::compat::decoder;

/// Extension of a schema: the setting that defines its limit.
pub(super) const SETTING: &str = "x-setting";
/// Maximum characters of a rejected value in a message.
const SHOWN_CHARS_MAX: usize = 256;

/// Keywords that restrict values.
#[cfg(test)]
pub(super) const CHECKED: [&str; 15] = [
    SETTING,
    super::operation::MAXIMUM,
    "$ref",
    "type",
    "enum",
    "properties",
    "required",
    "items",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "oneOf",
];
/// Keywords that are only informative.
#[cfg(test)]
pub(super) const INFORMATIVE: [&str; 5] = ["description", "example", "default", "format", "title"];

/// Named schemas of the document.
#[derive(Clone, Debug, Default)]
pub(super) struct NamedSchemas(Map<String, Value>);

impl NamedSchemas {
    pub(super) fn new(components: &Value) -> Self {
        let schemas = components.get("schemas").and_then(Value::as_object);
        Self(schemas.cloned().unwrap_or_default())
    }

    /// Follows a reference; for `oneOf` with null takes the other schema.
    fn resolve<'s>(&'s self, schema: &'s Value) -> &'s Value {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            let name = name.rsplit('/').next().unwrap_or_default();
            return self.0.get(name).map_or(&Value::Null, |s| self.resolve(s));
        }
        let is_null = |s: &&Value| s.get("type").and_then(Value::as_str) == Some("null");
        match schema.get("oneOf").and_then(Value::as_array) {
            Some(choices) => choices
                .iter()
                .find(|s| !is_null(s))
                .map_or(&Value::Null, |s| self.resolve(s)),
            None => schema,
        }
    }

    /// Validates a body against a named schema. A null field counts as absent.
    pub(super) fn check_body(&self, name: &str, body: &Value) -> Result<(), ApiError> {
        let Some(schema) = self.0.get(name) else {
            return Err(ApiError::internal(format!("no schema {name}")));
        };
        if let Some(error) = self.wrong_type(schema, body, name, "") {
            return Err(error);
        }
        let mut findings = Vec::new();
        self.check(schema, body, "body", &mut findings);
        match ApiError::combine(findings) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// The first value of a wrong type: reported alone, since a decoder stops there.
    fn wrong_type(&self, schema: &Value, value: &Value, of: &str, at: &str) -> Option<ApiError> {
        let schema = self.resolve(schema);
        let wanted = type_of(schema);
        let fits = match (wanted, value) {
            (_, Value::Null) | (None, _) => return None,
            (Some("string"), Value::String(_))
            | (Some("boolean"), Value::Bool(_))
            | (Some("number"), Value::Number(_))
            | (Some("object"), Value::Object(_))
            | (Some("array"), Value::Array(_)) => true,
            (Some("integer"), Value::Number(n)) => n.is_i64() || n.is_u64(),
            _ => false,
        };
        if !fits {
            let types = self.types_of(schema);
            let message = decoder::wrong_type(of, at, value, &types);
            return Some(ApiError::new(ErrorName::DecodePayload, message));
        }
        match value {
            Value::Object(fields) => properties(schema).find_map(|(name, schema)| {
                let value = fields.get(name)?;
                self.wrong_type(schema, value, of, &format!("{at}.{name}"))
            }),
            Value::Array(items) => items.iter().enumerate().find_map(|(i, item)| {
                self.wrong_type(schema.get("items")?, item, of, &format!("{at}[{i}]"))
            }),
            _ => None,
        }
    }

    /// The type of a schema; of a list followed by that of its items.
    fn types_of<'s>(&'s self, schema: &'s Value) -> Vec<&'s str> {
        let mut types = vec![type_of(schema).unwrap_or("any")];
        if types[0] == "array" {
            let items = schema.get("items").unwrap_or(&Value::Null);
            types.extend(self.types_of(self.resolve(items)));
        }
        types
    }

    /// All violations, given that the types are right.
    fn check(&self, schema: &Value, value: &Value, at: &str, findings: &mut Vec<ApiError>) {
        let schema = self.resolve(schema);
        match value {
            Value::Object(fields) => {
                for name in required(schema) {
                    if fields.get(name).is_none_or(Value::is_null) {
                        findings.push(missing(name, at));
                    }
                }
                for (name, schema) in properties(schema) {
                    if let Some(value) = fields.get(name).filter(|v| !v.is_null()) {
                        self.check(schema, value, &format!("{at}.{name}"), findings);
                    }
                }
            }
            Value::Array(items) => {
                let shown = if items.is_empty() { "[]" } else { "[...]" };
                check_length(schema, "Items", items.len(), shown, at, findings);
                for (i, item) in items.iter().enumerate() {
                    if let Some(schema) = schema.get("items") {
                        self.check(schema, item, &format!("{at}[{i}]"), findings);
                    }
                }
            }
            Value::Null if at == "body" => {
                findings.extend(required(schema).map(|name| missing(name, at)));
            }
            // In an array, where it can't be left out.
            Value::Null if type_of(schema).is_some() => findings.push(missing_item(at)),
            scalar => check_scalar(schema, scalar, at, findings),
        }
    }
}

fn type_of(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        // Nullable; null counts as absent.
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .find(|n| *n != "null"),
        _ => None,
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten()
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    let names = schema.get("required").and_then(Value::as_array);
    names.into_iter().flatten().filter_map(Value::as_str)
}

fn missing(name: &str, at: &str) -> ApiError {
    ApiError::from_template(ErrorName::MissingField, &[&name, &at])
}

fn missing_item(at: &str) -> ApiError {
    ApiError::new(ErrorName::MissingField, format!("{at} must not be null"))
}

/// Rules of strings and numbers; `at` is the name of the value in messages.
pub(super) fn check_scalar(schema: &Value, value: &Value, at: &str, findings: &mut Vec<ApiError>) {
    match value {
        Value::String(text) => {
            let allowed = schema.get("enum").and_then(Value::as_array);
            if let Some(allowed) = allowed.filter(|a| !a.contains(value)) {
                let names: Vec<String> = allowed.iter().map(ToString::to_string).collect();
                let (names, shown) = (names.join(", "), shown(text));
                let values: [&dyn Display; 3] = [&at, &names, &shown];
                findings.push(ApiError::from_template(
                    ErrorName::InvalidEnumValue,
                    &values,
                ));
            }
            let chars = text.chars().count();
            check_length(schema, "Length", chars, &shown(text), at, findings);
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
            let mut report = |word: &str, bound: f64| {
                let values: [&dyn Display; 4] = [&at, &word, &bound, value];
                findings.push(ApiError::from_template(ErrorName::InvalidRange, &values));
            };
            if let Some(min) = bound("minimum").filter(|min| number < *min) {
                report("greater", min);
            }
            if let Some(max) = bound("maximum").filter(|max| number > *max) {
                report("lesser", max);
            }
        }
        _ => {}
    }
}

/// `unit` is `Length` or `Items`, the suffix of the keywords.
fn check_length(
    schema: &Value,
    unit: &str,
    length: usize,
    shown: &str,
    at: &str,
    findings: &mut Vec<ApiError>,
) {
    let bound = |prefix: &str| {
        let bound = schema
            .get(format!("{prefix}{unit}"))
            .and_then(Value::as_u64);
        bound.and_then(|n| usize::try_from(n).ok())
    };
    let mut report = |word: &str, bound: usize| {
        let values: [&dyn Display; 5] = [&at, &word, &bound, &shown, &length];
        let mut finding = ApiError::from_template(ErrorName::InvalidLength, &values);
        if word == "lesser"
            && let Some(setting) = schema.get(SETTING).and_then(Value::as_str)
        {
            finding
                .message
                .push_str(&format!(", by the setting {setting}"));
        }
        findings.push(finding);
    };
    if let Some(min) = bound("min").filter(|min| length < *min) {
        report("greater", min);
    }
    if let Some(max) = bound("max").filter(|max| length > *max) {
        report("lesser", max);
    }
}

/// A quoted text; a long one is cut, since it may be as large as the request.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!(
            "{:?}",
            format!("{}...", text.get(..end).unwrap_or_default())
        ),
        None => format!("{text:?}"),
    }
}
