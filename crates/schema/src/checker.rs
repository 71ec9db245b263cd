//! Checks a value against a JSON schema, and finds all violations.

use std::fmt;

use serde_json::{Map, Value};

use crate::nearest::nearest;
use crate::schema_view::{AdditionalProperties, SchemaView};
use crate::secret_text::MASK;
use crate::yaml::field_path;

/// Longer strings are not shown: one may be a secret in the wrong place.
const SHOWN_BYTES_MAX: usize = 24;

static NULL: Value = Value::Null;

/// Meaning of null where the schema does not allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NullRule {
    /// A value of the wrong type.
    WrongType,
    /// No value, as if the key were left out.
    Absent,
}

/// A value that breaks a rule of its schema.
#[derive(Clone, Debug)]
pub struct SchemaViolation<'a> {
    /// Where the value is, like `a.b[0]`.
    pub path: String,
    /// The value; null if it is missing.
    pub value: &'a Value,
    /// Schema of the value.
    pub schema: SchemaView<'a>,
    /// The rule.
    pub rule: BrokenRule<'a>,
}

/// A rule of a schema.
#[derive(Clone, Debug, PartialEq)]
pub enum BrokenRule<'a> {
    /// The value is required. If it is a word, one of these.
    Required(Vec<&'a str>),
    /// An item of a list can't be left out.
    ItemRequired,
    /// These are all keys.
    KnownKeys(Vec<&'a str>),
    /// The type of the schema.
    Type,
    /// One of these words.
    Words(Vec<&'a str>),
    /// A number in this range.
    Range {
        /// The smallest.
        min: Option<f64>,
        /// The largest.
        max: Option<f64>,
    },
    /// A string with so many characters, or a list with so many items.
    Length {
        /// Length of the value.
        given: usize,
        /// The smallest.
        min: Option<usize>,
        /// The largest.
        max: Option<usize>,
    },
}

/// Collects violations: of each object first missing keys, then properties in the order of the schema,
/// then unknown keys.
#[derive(Debug)]
pub struct SchemaChecker<'a> {
    nulls: NullRule,
    /// Found so far.
    pub violations: Vec<SchemaViolation<'a>>,
}

impl<'a> SchemaChecker<'a> {
    /// Creates a checker that has found nothing.
    pub fn new(nulls: NullRule) -> Self {
        Self {
            nulls,
            violations: Vec::new(),
        }
    }

    fn add(&mut self, schema: &SchemaView<'a>, value: &'a Value, path: &str, rule: BrokenRule<'a>) {
        self.violations.push(SchemaViolation {
            path: path.to_owned(),
            value,
            schema: schema.clone(),
            rule,
        });
    }

    /// Checks `value`, which is at `path`.
    pub fn check(&mut self, schema: &SchemaView<'a>, value: &'a Value, path: &str) {
        if value.is_null() && (schema.nullable || self.nulls == NullRule::Absent) {
            return;
        }
        if let Some(words) = schema.words() {
            let is_known = value.as_str().is_some_and(|given| words.contains(&given));
            if !is_known {
                return self.add(schema, value, path, BrokenRule::Words(words));
            }
        }
        if let Some(variants) = schema.variants() {
            return self.check_variant(schema, &variants, value, path);
        }
        let types = schema.types();
        if !types.is_empty() && !types.iter().any(|name| has_type(value, name)) {
            return self.add(schema, value, path, BrokenRule::Type);
        }
        match value {
            Value::Object(fields) => self.check_fields(schema, fields, path),
            Value::Array(items) => self.check_items(schema, value, items, path),
            Value::String(text) => {
                self.check_length(schema, value, path, ("minLength", "maxLength"), || {
                    text.chars().count()
                });
            }
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or_default();
                let (min, max) = (schema.bound("minimum"), schema.bound("maximum"));
                if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) {
                    self.add(schema, value, path, BrokenRule::Range { min, max });
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// One of several objects, by the tag in its field `type`.
    fn check_variant(
        &mut self,
        schema: &SchemaView<'a>,
        variants: &[(&'a str, SchemaView<'a>)],
        value: &'a Value,
        path: &str,
    ) {
        let Some(fields) = value.as_object() else {
            return self.add(schema, value, path, BrokenRule::Type);
        };
        let tags = || variants.iter().map(|(tag, _)| *tag).collect();
        let Some(tag) = fields.get("type") else {
            let rule = BrokenRule::Required(tags());
            return self.add(schema, &NULL, &field_path(path, "type"), rule);
        };
        match variants.iter().find(|(name, _)| tag == *name) {
            Some((_, variant)) => self.check_fields(variant, fields, path),
            None => self.add(
                schema,
                tag,
                &field_path(path, "type"),
                BrokenRule::Words(tags()),
            ),
        }
    }

    fn check_fields(
        &mut self,
        schema: &SchemaView<'a>,
        fields: &'a Map<String, Value>,
        path: &str,
    ) {
        let properties = schema.properties();
        let property = |name: &str| properties.iter().find(|(known, _)| *known == name);
        for name in schema.required() {
            let given = fields.get(name);
            if given.is_none_or(|v| v.is_null() && self.nulls == NullRule::Absent) {
                let schema = property(name).map_or(schema, |(_, below)| below);
                let rule = BrokenRule::Required(schema.words().unwrap_or_default());
                self.add(schema, &NULL, &field_path(path, name), rule);
            }
        }
        for (name, schema) in &properties {
            if let Some(value) = fields.get(*name) {
                self.check(schema, value, &field_path(path, name));
            }
        }
        let others = fields
            .iter()
            .filter(|(name, _)| property(name).is_none() && !is_alias(&properties, name));
        match schema.additional() {
            AdditionalProperties::Allowed => {}
            AdditionalProperties::Like(schema) => {
                for (name, value) in others {
                    self.check(&schema, value, &field_path(path, name));
                }
            }
            AdditionalProperties::Forbidden => {
                for (name, value) in others {
                    let known = properties.iter().map(|(name, _)| *name).collect();
                    let rule = BrokenRule::KnownKeys(known);
                    self.add(schema, value, &field_path(path, name), rule);
                }
            }
        }
    }

    fn check_items(
        &mut self,
        schema: &SchemaView<'a>,
        value: &'a Value,
        items: &'a [Value],
        path: &str,
    ) {
        self.check_length(schema, value, path, ("minItems", "maxItems"), || {
            items.len()
        });
        let Some(schema) = schema.items() else { return };
        for (i, item) in items.iter().enumerate() {
            let path = format!("{path}[{i}]");
            let is_absent = item.is_null() && self.nulls == NullRule::Absent;
            if is_absent && !schema.types().is_empty() {
                self.add(&schema, item, &path, BrokenRule::ItemRequired);
            } else {
                self.check(&schema, item, &path);
            }
        }
    }

    fn check_length(
        &mut self,
        schema: &SchemaView<'a>,
        value: &'a Value,
        path: &str,
        (min, max): (&str, &str),
        length: impl FnOnce() -> usize,
    ) {
        let bound = |name| usize::try_from(schema.keyword(name)?.as_u64()?).ok();
        let (min, max) = (bound(min), bound(max));
        if min.is_none() && max.is_none() {
            return;
        }
        let given = length();
        if min.is_some_and(|min| given < min) || max.is_some_and(|max| given > max) {
            self.add(schema, value, path, BrokenRule::Length { given, min, max });
        }
    }
}

/// Whether a key is another name of a property.
fn is_alias(properties: &[(&str, SchemaView<'_>)], name: &str) -> bool {
    let aliases = properties
        .iter()
        .filter_map(|(_, schema)| schema.keyword("x-aliases")?.as_array());
    aliases.flatten().any(|alias| alias == name)
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

impl SchemaViolation<'_> {
    /// The value for a message. `written` is its text in the file, if it is known.
    fn shown(&self, written: Option<&str>) -> String {
        match self.value {
            _ if self.schema.has_secrets() => MASK.to_owned(),
            Value::Null => "empty".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a mapping".to_owned(),
            Value::String(text) if text.len() > SHOWN_BYTES_MAX => "a long string".to_owned(),
            other => match written.filter(|text| text.len() <= SHOWN_BYTES_MAX) {
                Some(text) => text.to_owned(),
                None => other.to_string(),
            },
        }
    }

    /// Message: the path, the value and what is allowed. `written` is the text of the value in the
    /// file, if it differs from the value.
    pub fn message(&self, written: Option<&str>) -> String {
        let path = if self.path.is_empty() {
            "the file"
        } else {
            &self.path
        };
        let shown = || self.shown(written);
        match &self.rule {
            BrokenRule::Required(words) if words.is_empty() => format!("{path} is missing"),
            BrokenRule::Required(words) => {
                format!("{path} is missing; allowed is {}", words.join(", "))
            }
            BrokenRule::ItemRequired => format!("{path} is empty"),
            BrokenRule::KnownKeys(known) => {
                let name = path.rsplit('.').next().unwrap_or(path);
                let hint = match nearest(name, known) {
                    Some(name) => format!("did you mean {name}?"),
                    None => format!("known keys are {}", sorted(known)),
                };
                format!("{path} is not a known key; {hint}")
            }
            BrokenRule::Type => {
                let types = self.schema.types();
                let wanted: Vec<&str> = match types.as_slice() {
                    [] => vec!["a mapping"],
                    names => names.iter().map(|name| type_words(name)).collect(),
                };
                let wanted = wanted.join(" or ");
                format!("{path} is {}, it has to be {wanted}", shown())
            }
            BrokenRule::Words(words) => {
                let near = self.value.as_str().and_then(|given| nearest(given, words));
                let hint = near.map_or(String::new(), |name| format!("; did you mean {name}?"));
                let words = words.join(", ");
                format!("{path} is {}, allowed is {words}{hint}", shown())
            }
            BrokenRule::Range { min, max } => {
                format!("{path} is {}, allowed is {}", shown(), range(*min, *max))
            }
            BrokenRule::Length { given: 0, .. } => format!("{path} is empty"),
            BrokenRule::Length { given, min, max } => {
                format!(
                    "{path} has the length {given}, allowed is {}",
                    range(*min, *max)
                )
            }
        }
    }
}

fn range<T: fmt::Display>(min: Option<T>, max: Option<T>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("{min} to {max}"),
        (Some(min), None) => format!("{min} and more"),
        (None, Some(max)) => format!("at most {max}"),
        (None, None) => String::new(),
    }
}

fn sorted(names: &[&str]) -> String {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.join(", ")
}

fn type_words(name: &str) -> &str {
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

#[cfg(test)]
mod tests;
