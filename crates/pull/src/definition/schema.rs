//! Validation of a document by the JSON schema of its type: the part of JSON Schema that schemars
//! writes for these types, with errors for people.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::nearest::nearest;

/// The schema of a type.
pub(super) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12();
    settings.into_generator().into_root_schema_for::<T>().into()
}

/// Everything in `document` that the schema does not allow, each with its place.
pub(super) fn problems(schema: &Value, document: &Value) -> Vec<String> {
    let mut checker = Checker {
        root: schema,
        problems: Vec::new(),
    };
    checker.check(schema, document, "");
    checker.problems
}

struct Checker<'a> {
    root: &'a Value,
    problems: Vec<String>,
}

impl<'a> Checker<'a> {
    fn refuse(&mut self, at: &str, text: &str) {
        let at = if at.is_empty() { "the file" } else { at };
        self.problems.push(format!("{at} {text}"));
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let name = schema.get("$ref").and_then(Value::as_str);
        let name = name.and_then(|n| n.strip_prefix("#/$defs/"));
        name.and_then(|n| self.root.get("$defs")?.get(n))
            .unwrap_or(schema)
    }

    fn check(&mut self, schema: &'a Value, value: &Value, at: &str) {
        if let Some(branches) = schema.get("anyOf").and_then(Value::as_array) {
            // An option: the type or null.
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

    /// One of several texts, or of several objects that are told apart by `type`.
    fn check_choice(&mut self, branches: &'a [Value], value: &Value, at: &str) {
        let tag_of = |b: &'a Value| b.get("properties")?.get("type")?.get("const")?.as_str();
        let text_of = |b: &'a Value| b.get("const")?.as_str();
        let texts: Vec<String> = branches
            .iter()
            .filter_map(text_of)
            .map(str::to_owned)
            .collect();
        if !texts.is_empty() {
            let known = value.as_str().is_some_and(|v| texts.iter().any(|t| t == v));
            if !known {
                self.refuse_name(at, value, &texts);
            }
            return;
        }
        let tags: Vec<String> = branches
            .iter()
            .filter_map(tag_of)
            .map(str::to_owned)
            .collect();
        let Some(fields) = value.as_object() else {
            return self.refuse(at, &format!("is {}, it has to be a mapping", shown(value)));
        };
        let tag_at = join(at, "type");
        match fields.get("type") {
            None => self.refuse(
                &tag_at,
                &format!("is missing; allowed is {}", tags.join(", ")),
            ),
            Some(tag) => {
                let branch = branches.iter().find(|b| tag_of(b) == tag.as_str());
                match branch {
                    None => self.refuse_name(&tag_at, tag, &tags),
                    Some(branch) => {
                        let inner = self.resolve(branch);
                        self.check_members(&[branch, inner], value, at);
                    }
                }
            }
        }
    }

    fn refuse_name(&mut self, at: &str, value: &Value, names: &[String]) {
        let hint = value.as_str().and_then(|v| nearest(v, names));
        let hint = hint.map_or(String::new(), |n| format!("; did you mean {n}?"));
        let names = names.join(", ");
        self.refuse(
            at,
            &format!("is {}, allowed is {names}{hint}", shown(value)),
        );
    }

    fn check_plain(&mut self, schema: &'a Value, value: &Value, at: &str) {
        if let Some(names) = schema.get("enum").and_then(Value::as_array) {
            let names: Vec<String> = names
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
            if !value.as_str().is_some_and(|v| names.iter().any(|n| n == v)) {
                self.refuse_name(at, value, &names);
            }
        }
        let types: Vec<&str> = match schema.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !types.is_empty() && !types.iter().any(|t| is_of(value, t)) {
            let wanted: Vec<&str> = types
                .iter()
                .filter(|t| **t != "null")
                .map(|t| words(t))
                .collect();
            let text = format!("is {}, it has to be {}", shown(value), wanted.join(" or "));
            return self.refuse(at, &text);
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
                self.refuse(at, &format!("is {number}, allowed is {range}"));
            }
        }
        if let (Some(items), Some(least)) = (value.as_array(), bound("minItems"))
            && (items.len() as f64) < least
        {
            self.refuse(at, "is empty");
        }
    }

    /// The keys of a mapping and the items of a list. A tagged type's keys are spread over two
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
                        || format!("; there is {}", distinct(&names)),
                        |n| format!("; did you mean {n}?"),
                    );
                    self.refuse(&at, &format!("is not a known key{hint}"));
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
        // The two schemas may be one.
        let mut told = std::collections::BTreeSet::new();
        for name in missing.into_iter().filter(|name| told.insert(*name)) {
            self.refuse(&join(at, name), "is missing");
        }
    }
}

/// A key in snake case that stands for one in camel case.
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

fn is_of(value: &Value, name: &str) -> bool {
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
        "string" => "a text",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "array" => "a list",
        "object" => "a mapping",
        other => other,
    }
}

/// A value in a message. Texts are not shown whole: one may be a secret in the wrong place.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        Value::String(text) if text.len() > 24 => "a long text".to_owned(),
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
