//! Validates a document against the JSON schema of its type. Supports the subset of JSON Schema that
//! schemars generates for these types, and reports errors for people.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::nearest::nearest;
use crate::yaml::PlainScalars;

pub(super) fn schema_for<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12();
    settings.into_generator().into_root_schema_for::<T>().into()
}

/// Checks `document` against the schema and returns all violations, each with its path. Plain scalars where
/// the schema expects a string are replaced by their text as written.
pub(super) fn violations(
    schema: &Value,
    document: &mut Value,
    plains: &PlainScalars,
) -> Vec<String> {
    let mut checker = SchemaChecker {
        root: schema,
        plains,
        violations: Vec::new(),
        texts: BTreeMap::new(),
    };
    checker.check(schema, document, "");
    let SchemaChecker {
        violations: problems,
        texts,
        ..
    } = checker;
    if !texts.is_empty() {
        restore_texts(document, String::new(), &texts);
    }
    problems
}

/// Replaces the values at the paths in `texts`.
fn restore_texts(value: &mut Value, at: String, texts: &BTreeMap<String, String>) {
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                restore_texts(item, format!("{at}[{i}]"), texts);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                restore_texts(field, join(&at, name), texts);
            }
        }
        scalar => {
            if let Some(text) = texts.get(&at) {
                *scalar = text.as_str().into();
            }
        }
    }
}

struct SchemaChecker<'a> {
    root: &'a Value,
    /// Scalars that YAML reads as another type than string.
    plains: &'a PlainScalars,
    violations: Vec<String>,
    /// The plain scalars that are strings by the schema, by path.
    texts: BTreeMap<String, String>,
}

impl<'a> SchemaChecker<'a> {
    fn reject(&mut self, at: &str, text: &str) {
        let at = if at.is_empty() { "the file" } else { at };
        self.violations.push(format!("{at} {text}"));
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let name = schema.get("$ref").and_then(Value::as_str);
        let name = name.and_then(|n| n.strip_prefix("#/$defs/"));
        name.and_then(|n| self.root.get("$defs")?.get(n))
            .unwrap_or(schema)
    }

    fn check(&mut self, schema: &'a Value, value: &Value, at: &str) {
        if let Some(branches) = schema.get("anyOf").and_then(Value::as_array) {
            // An optional field: the type or null.
            if !value.is_null()
                && let Some(some) = branches.iter().find(|b| !is_null(b))
            {
                self.check(some, value, at);
            }
            return;
        }
        let tagged = |s: &&'a Value| s.get("oneOf").and_then(Value::as_array);
        if let Some(branches) = tagged(&schema).or_else(|| tagged(&self.resolve(schema))) {
            return self.check_choice(branches, value, at);
        }
        let resolved = self.resolve(schema);
        for schema in [schema, resolved] {
            self.check_plain(schema, value, at);
            if std::ptr::eq(schema, resolved) {
                break;
            }
        }
        self.check_members(&[schema, resolved], value, at);
    }

    /// One of several strings, or of several objects with a `type` tag.
    fn check_choice(&mut self, branches: &'a [Value], value: &Value, at: &str) {
        let tag_of = |b: &'a Value| b.get("properties")?.get("type")?.get("const")?.as_str();
        let text_of = |b: &'a Value| b.get("const")?.as_str();
        let texts: Vec<String> = branches
            .iter()
            .filter_map(text_of)
            .map(str::to_owned)
            .collect();
        if !texts.is_empty() {
            let written = self.plains.get(at).map(|p| p.text.as_str());
            let given = value.as_str().or(written);
            let known = given.is_some_and(|v| texts.iter().any(|t| t == v));
            if let (true, None, Some(text)) = (known, value.as_str(), given) {
                self.texts.insert(at.to_owned(), text.to_owned());
            }
            if !known {
                self.reject_name(at, value, &texts);
            }
            return;
        }
        let tags: Vec<String> = branches
            .iter()
            .filter_map(tag_of)
            .map(str::to_owned)
            .collect();
        let Some(fields) = value.as_object() else {
            let shown = self.shown(at, value);
            return self.reject(at, &format!("is {shown}, it has to be a mapping"));
        };
        let tag_at = join(at, "type");
        match fields.get("type") {
            None => self.reject(
                &tag_at,
                &format!("is missing; allowed is {}", tags.join(", ")),
            ),
            Some(tag) => {
                let branch = branches.iter().find(|b| tag_of(b) == tag.as_str());
                match branch {
                    None => self.reject_name(&tag_at, tag, &tags),
                    Some(branch) => {
                        let inner = self.resolve(branch);
                        self.check_members(&[branch, inner], value, at);
                    }
                }
            }
        }
    }

    fn reject_name(&mut self, at: &str, value: &Value, names: &[String]) {
        let hint = value.as_str().and_then(|v| nearest(v, names));
        let hint = hint.map_or(String::new(), |n| format!("; did you mean {n}?"));
        let names = names.join(", ");
        let shown = self.shown(at, value);
        self.reject(at, &format!("is {shown}, allowed is {names}{hint}"));
    }

    fn check_plain(&mut self, schema: &'a Value, value: &Value, at: &str) {
        if let Some(names) = schema.get("enum").and_then(Value::as_array) {
            let names: Vec<String> = names
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
            if !value.as_str().is_some_and(|v| names.iter().any(|n| n == v)) {
                self.reject_name(at, value, &names);
            }
        }
        let types: Vec<&str> = match schema.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let is_right = |value| types.iter().any(|t| has_type(value, t));
        if !types.is_empty()
            && !is_right(value)
            && types.contains(&"string")
            // Durations and sizes are not free text: a number lacks its unit.
            && schema.get("pattern").is_none()
            && !value.is_null()
            && let Some(plain) = self.plains.get(at)
        {
            self.texts.insert(at.to_owned(), plain.text.clone());
            return;
        }
        if !types.is_empty() && !is_right(value) {
            let wanted: Vec<&str> = types
                .iter()
                .filter(|t| **t != "null")
                .map(|t| words(t))
                .collect();
            let shown = self.shown(at, value);
            let text = format!("is {shown}, it has to be {}", wanted.join(" or "));
            return self.reject(at, &text);
        }
        let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
        if let Some(number) = value.as_f64() {
            let (min, max) = (bound("minimum"), bound("maximum"));
            if min.is_some_and(|m| number < m) || max.is_some_and(|m| number > m) {
                let range = match (min, max) {
                    (Some(min), Some(max)) => format!("{min} to {max}"),
                    (Some(min), None) => format!("{min} and more"),
                    (None, Some(max)) => format!("at most {max}"),
                    (None, None) => String::new(),
                };
                let shown = self.shown(at, value);
                self.reject(at, &format!("is {shown}, allowed is {range}"));
            }
        }
        if let (Some(items), Some(least)) = (value.as_array(), bound("minItems"))
            && (items.len() as f64) < least
        {
            self.reject(at, "is empty");
        }
    }

    /// Checks the keys of a mapping and the items of a list. The keys of a tagged type are spread over two
    /// schemas: that of the tag and that of the rest.
    fn check_members(&mut self, schemas: &[&'a Value], value: &Value, at: &str) {
        if let Some(items) = value.as_array() {
            let schema = schemas.iter().find_map(|s| s.get("items"));
            for (i, item) in items.iter().enumerate() {
                if let Some(schema) = schema {
                    self.check(schema, item, &format!("{at}[{i}]"));
                }
            }
        }
        let Some(fields) = value.as_object() else {
            return;
        };
        let property = |name: &str| {
            schemas
                .iter()
                .filter_map(|s| s.get("properties")?.get(name))
                .next_back()
        };
        let closed = schemas
            .iter()
            .any(|s| s.get("additionalProperties") == Some(&Value::Bool(false)));
        let names: Vec<String> = schemas
            .iter()
            .filter_map(|s| s.get("properties")?.as_object())
            .flat_map(Map::keys)
            .cloned()
            .collect();
        for (name, value) in fields {
            let at = join(at, name);
            match property(name) {
                Some(schema) => self.check(schema, value, &at),
                None if closed && name != "type" && !is_alias(name, &names) => {
                    let hint = nearest(name, &names);
                    let hint = hint.map_or_else(
                        || format!("; known keys are {}", distinct(&names)),
                        |n| format!("; did you mean {n}?"),
                    );
                    self.reject(&at, &format!("is not a known key{hint}"));
                }
                None => {
                    let rest = schemas.iter().find_map(|s| s.get("additionalProperties"));
                    if let Some(schema @ Value::Object(_)) = rest {
                        self.check(schema, value, &at);
                    }
                }
            }
        }
        let required = schemas.iter().filter_map(|s| s.get("required")?.as_array());
        let missing: Vec<&str> = required
            .flatten()
            .filter_map(Value::as_str)
            .filter(|name| *name != "type" && !fields.contains_key(*name))
            .collect();
        // Both schemas may be the same.
        let mut reported = std::collections::BTreeSet::new();
        for name in missing.into_iter().filter(|name| reported.insert(*name)) {
            self.reject(&join(at, name), "is missing");
        }
    }
}

/// Whether a key is the snake-case alias of a camel-case key.
fn is_alias(name: &str, names: &[String]) -> bool {
    name == "max_errors" && names.iter().any(|n| n == "maxErrors")
}

fn distinct(names: &[String]) -> String {
    let names: std::collections::BTreeSet<&str> = names.iter().map(String::as_str).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

fn words(name: &str) -> &str {
    match name {
        "string" => "a string",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "array" => "a list",
        "object" => "a mapping",
        other => other,
    }
}

impl SchemaChecker<'_> {
    /// A value for a message, as written in the file.
    fn shown(&self, at: &str, value: &Value) -> String {
        match self.plains.get(at) {
            Some(plain) if !value.is_null() && plain.text.len() <= 24 => plain.text.clone(),
            _ => shown(value),
        }
    }
}

/// A value for a message. Long strings are not shown: one may be a secret in the wrong place.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        Value::String(text) if text.len() > 24 => "a long string".to_owned(),
        other => other.to_string(),
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    }
}
