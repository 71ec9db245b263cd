//! Checks a YAML document against the schema of its type.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::checker::{BrokenRule, NullRule, SchemaChecker, SchemaViolation};
use crate::schema_view::SchemaView;
use crate::yaml::PlainScalars;

/// A violation of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentViolation {
    /// Where the value is, like `a.b[0]`.
    pub path: String,
    /// Message for people, with the path.
    pub message: String,
    /// The key is unknown.
    pub is_unknown_key: bool,
    /// The value is null, and may not be.
    pub is_null: bool,
}

/// Checks `document` and returns a message for each violation, each with its path. Plain scalars
/// where the schema expects a string are replaced by their text as written.
#[must_use]
pub fn check_document(schema: &Value, document: &mut Value, plains: &PlainScalars) -> Vec<String> {
    let violations = document_violations(schema, document, plains);
    violations.into_iter().map(|v| v.message).collect()
}

/// As [`check_document`], with the paths of the violations.
#[must_use]
pub fn document_violations(
    schema: &Value,
    document: &mut Value,
    plains: &PlainScalars,
) -> Vec<DocumentViolation> {
    let mut checker = SchemaChecker::new(NullRule::WrongType);
    checker.check(&SchemaView::root(schema), document, "");
    let mut texts = BTreeMap::new();
    let mut found = Vec::new();
    for violation in checker.violations {
        let plain = plains.get(&violation.path);
        let written = plain.map(|plain| plain.text.as_str());
        match written.filter(|text| is_text(&violation, text)) {
            Some(text) => _ = texts.insert(violation.path, text),
            None => found.push(DocumentViolation {
                message: violation.message(written),
                is_unknown_key: matches!(violation.rule, BrokenRule::KnownKeys(_)),
                is_null: violation.value.is_null() && violation.rule == BrokenRule::Type,
                path: violation.path,
            }),
        }
    }
    if !texts.is_empty() {
        restore_texts(document, String::new(), &texts);
    }
    found
}

/// Whether a value that is not a string by the rules of YAML is one by the schema.
fn is_text(violation: &SchemaViolation<'_>, written: &str) -> bool {
    if violation.value.is_null() || violation.value.is_string() {
        return false;
    }
    let schema = &violation.schema;
    match &violation.rule {
        BrokenRule::Words(words) => words.contains(&written),
        // Durations and sizes are not free text: a number lacks its unit.
        BrokenRule::Type => {
            schema.types().contains(&"string") && schema.keyword("pattern").is_none()
        }
        _ => false,
    }
}

/// Replaces the values at the paths in `texts`.
fn restore_texts(value: &mut Value, at: String, texts: &BTreeMap<String, &str>) {
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                restore_texts(item, format!("{at}[{i}]"), texts);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                let at = match at.as_str() {
                    "" => name.clone(),
                    at => format!("{at}.{name}"),
                };
                restore_texts(field, at, texts);
            }
        }
        scalar => {
            if let Some(text) = texts.get(&at) {
                *scalar = Value::from(*text);
            }
        }
    }
}
