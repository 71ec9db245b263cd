//! Validates request bodies and parameters against the schemas of the OpenAPI document, so that the
//! documented rules are the enforced ones. Messages are those of the compatible API.

use std::fmt::Display;

use forebay_schema::{BrokenRule, NullRule, SchemaChecker, SchemaView, SchemaViolation};
use serde_json::{Map, Value};

use crate::compat::decoder;

use super::error::{ApiError, ErrorName};

/// Extension of a schema: the setting that defines its limit.
pub(super) const SETTING: &str = "x-setting";
/// Extension of a duration's schema: its maximum.
pub(super) const MAXIMUM: &str = "x-maximum";
/// Maximum characters of a rejected value in a message.
const SHOWN_CHARS_MAX: usize = 256;
/// Path of a request body.
const BODY: &str = "body";

/// Keywords that restrict values; a test fails when a request schema uses another one.
#[cfg(test)]
pub(super) const CHECKED: [&str; 15] = [
    SETTING,
    MAXIMUM,
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

    /// Validates a body against a named schema. A null field counts as absent.
    pub(super) fn check_body(&self, name: &str, body: &Value) -> Result<(), ApiError> {
        let Some(schema) = self.0.get(name) else {
            return Err(ApiError::internal(format!("no schema {name}")));
        };
        let empty = Value::Object(Map::new());
        let body = if body.is_null() { &empty } else { body };
        let mut checker = SchemaChecker::new(NullRule::Absent);
        checker.check(&SchemaView::new(schema, Some(&self.0)), body, BODY);
        // The compatible service decodes a body before it validates it.
        if let Some(violation) = checker.violations.iter().find(|v| is_wrong_type(v)) {
            return Err(wrong_type(violation, name));
        }
        let at_field = |violation: &SchemaViolation<'_>| {
            let field = violation.path.strip_prefix("body.");
            finding(violation).at(field.unwrap_or_default())
        };
        let findings = checker.violations.iter().map(at_field).collect();
        ApiError::combine(findings).map_or(Ok(()), Err)
    }
}

/// Checks a parameter that was read by its type; `name` is its name in messages.
pub(super) fn check_parameter(
    schema: &Value,
    value: &Value,
    name: &str,
    findings: &mut Vec<ApiError>,
) {
    let mut checker = SchemaChecker::new(NullRule::Absent);
    checker.check(&SchemaView::new(schema, None), value, name);
    let rules = checker.violations.iter().filter(|v| !is_wrong_type(v));
    findings.extend(rules.map(finding));
}

fn is_wrong_type(violation: &SchemaViolation<'_>) -> bool {
    match violation.rule {
        BrokenRule::Type => true,
        BrokenRule::Words(_) => !violation.value.is_string(),
        _ => false,
    }
}

/// A value of a wrong type, reported like a decoder. `of` is the name of the body's schema.
fn wrong_type(violation: &SchemaViolation<'_>, of: &str) -> ApiError {
    let path = violation.path.strip_prefix(BODY).unwrap_or_default();
    let message = decoder::wrong_type(of, path, violation.value, &types_of(&violation.schema));
    let field = path.trim_start_matches('.');
    ApiError::new(ErrorName::DecodePayload, message).at(field)
}

/// The type of a schema; of a list followed by that of its items.
fn types_of<'s>(schema: &SchemaView<'s>) -> Vec<&'s str> {
    let mut types = vec![schema.types().first().copied().unwrap_or("any")];
    if types[0] == "array" {
        types.extend(schema.items().map_or(vec!["any"], |items| types_of(&items)));
    }
    types
}

/// Message of a violation, given that the types are right.
fn finding(violation: &SchemaViolation<'_>) -> ApiError {
    let SchemaViolation {
        path, value, rule, ..
    } = violation;
    match rule {
        BrokenRule::Required(_) => {
            let (at, name) = path.rsplit_once('.').unwrap_or(("", path));
            ApiError::from_template(ErrorName::MissingField, &[&name, &at])
        }
        BrokenRule::Words(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
            let values: [&dyn Display; 3] = [path, &words.join(", "), &shown(value)];
            ApiError::from_template(ErrorName::InvalidEnumValue, &values)
        }
        BrokenRule::Range { min, max } => {
            let is_below = min.is_some_and(|min| value.as_f64().is_some_and(|n| n < min));
            let (word, bound) = side(is_below, *min, *max);
            let values: [&dyn Display; 4] = [path, &word, &bound, value];
            ApiError::from_template(ErrorName::InvalidRange, &values)
        }
        BrokenRule::Length { given, min, max } => {
            let is_below = min.is_some_and(|min| *given < min);
            let (word, bound) = side(is_below, *min, *max);
            let values: [&dyn Display; 5] = [path, &word, &bound, &shown(value), given];
            let mut finding = ApiError::from_template(ErrorName::InvalidLength, &values);
            if let Some(setting) = violation.schema.text(SETTING).filter(|_| !is_below) {
                let limit = format!(", by the setting {setting}");
                finding.message.push_str(&limit);
            }
            finding
        }
        BrokenRule::ItemRequired | BrokenRule::Type | BrokenRule::KnownKeys(_) => {
            ApiError::new(ErrorName::MissingField, format!("{path} must not be null"))
        }
    }
}

/// The broken one of two bounds.
fn side<T: Default>(is_below: bool, min: Option<T>, max: Option<T>) -> (&'static str, T) {
    match is_below {
        true => ("greater", min.unwrap_or_default()),
        false => ("lesser", max.unwrap_or_default()),
    }
}

/// A list by its size, a text in quotes; a long one is cut, since it may be as large as the request.
fn shown(value: &Value) -> String {
    let Value::String(text) = value else {
        let is_empty = value.as_array().is_some_and(Vec::is_empty);
        return if is_empty { "[]" } else { "[...]" }.to_owned();
    };
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!(
            "{:?}",
            format!("{}...", text.get(..end).unwrap_or_default())
        ),
        None => format!("{text:?}"),
    }
}
