//! Reads a JSON schema.

use serde_json::{Map, Value};

/// References followed from one schema; more are a cycle.
const REFERENCES_MAX: usize = 16;

/// A schema with its references resolved, and without the alternative null.
///
/// Supports the subset of JSON Schema that is generated from Rust types.
#[derive(Clone, Debug)]
pub struct SchemaView<'a> {
    /// Schemas that apply together: the given one, then those that it refers to.
    parts: Vec<&'a Value>,
    /// Named schemas of the document.
    definitions: Option<&'a Map<String, Value>>,
    /// Null is allowed.
    pub nullable: bool,
}

impl<'a> SchemaView<'a> {
    /// Resolves `schema`; `definitions` has the named schemas that it may refer to.
    pub fn new(schema: &'a Value, definitions: Option<&'a Map<String, Value>>) -> Self {
        let mut view = Self {
            parts: Vec::with_capacity(2),
            definitions,
            nullable: false,
        };
        let mut next = Some(schema);
        while let Some(part) = next.filter(|_| view.parts.len() < REFERENCES_MAX) {
            view.parts.push(part);
            let types = part.get("type").and_then(Value::as_array);
            view.nullable |= types.is_some_and(|names| names.iter().any(|n| n == "null"));
            next = view.target(part).or_else(|| view.alternative(part));
        }
        view
    }

    /// The root of a schema with its own definitions.
    pub fn root(schema: &'a Value) -> Self {
        Self::new(schema, schema.get("$defs").and_then(Value::as_object))
    }

    /// A schema below this one.
    fn below(&self, schema: &'a Value) -> Self {
        Self::new(schema, self.definitions)
    }

    fn target(&self, part: &'a Value) -> Option<&'a Value> {
        self.definitions?.get(reference(part)?)
    }

    /// The only alternative besides null. Of untagged alternatives it is the first one.
    fn alternative(&mut self, part: &'a Value) -> Option<&'a Value> {
        let keyword = |name: &&str| part.get(*name).and_then(Value::as_array);
        let (name, choices) = ["anyOf", "allOf", "oneOf"]
            .iter()
            .find_map(|name| Some((*name, keyword(name)?)))?;
        let is_null = |s: &&Value| s.get("type").and_then(Value::as_str) == Some("null");
        self.nullable |= choices.iter().any(|s| is_null(&s));
        let mut others = choices.iter().filter(|s| !is_null(s));
        let first = others.next();
        first.filter(|_| name != "oneOf" || others.next().is_none())
    }

    /// The value of a keyword. The outermost schema that has it counts.
    pub fn keyword(&self, name: &str) -> Option<&'a Value> {
        self.parts.iter().find_map(|part| part.get(name))
    }

    /// The value of a keyword that is a text.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.keyword(name).and_then(Value::as_str)
    }

    /// The value of a keyword that is a number.
    pub fn bound(&self, name: &str) -> Option<f64> {
        self.keyword(name).and_then(Value::as_f64)
    }

    /// Name of the schema, if it is a named one.
    pub fn definition(&self) -> Option<&'a str> {
        self.parts.iter().find_map(|part| reference(part))
    }

    /// The allowed types, except for null; none if all are allowed.
    pub fn types(&self) -> Vec<&'a str> {
        let names = match self.keyword("type") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        names.into_iter().filter(|name| *name != "null").collect()
    }

    /// The allowed words, if the value is one of some words.
    pub fn words(&self) -> Option<Vec<&'a str>> {
        self.parts.iter().find_map(|part| words(part))
    }

    /// The alternatives of an object, by their tag in the field `type`.
    pub fn variants(&self) -> Option<Vec<(&'a str, Self)>> {
        let choices = self.keyword("oneOf")?.as_array()?;
        let tagged = choices.iter().filter_map(|choice| {
            let tag = choice.pointer("/properties/type/const")?.as_str()?;
            Some((tag, self.below(choice)))
        });
        let tagged: Vec<_> = tagged.collect();
        (!tagged.is_empty() && self.properties().is_empty()).then_some(tagged)
    }

    /// Named properties of an object, in order.
    pub fn properties(&self) -> Vec<(&'a str, Self)> {
        let maps = self.maps("properties");
        maps.map(|(name, schema)| (name.as_str(), self.below(schema)))
            .collect()
    }

    fn maps(&self, keyword: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
        let maps = self.parts.iter().filter_map(move |part| part.get(keyword));
        maps.filter_map(Value::as_object).flatten()
    }

    /// Names of the required properties.
    pub fn required(&self) -> Vec<&'a str> {
        let lists = self.parts.iter().filter_map(|part| part.get("required"));
        let names = lists.filter_map(Value::as_array).flatten();
        names.filter_map(Value::as_str).collect()
    }

    /// Whether an object may have other properties than the named ones; with which schema.
    pub fn additional(&self) -> AdditionalProperties<'a> {
        match self.keyword("additionalProperties") {
            Some(Value::Bool(false)) => AdditionalProperties::Forbidden,
            Some(schema @ Value::Object(_)) => {
                AdditionalProperties::Like(Box::new(self.below(schema)))
            }
            _ => AdditionalProperties::Allowed,
        }
    }

    /// Schema of the items of a list.
    pub fn items(&self) -> Option<Self> {
        self.keyword("items").map(|items| self.below(items))
    }

    /// Whether the value is a secret.
    pub fn is_secret(&self) -> bool {
        self.keyword("writeOnly") == Some(&Value::Bool(true))
    }

    /// Whether the value is a secret, or a list of secrets.
    pub fn has_secrets(&self) -> bool {
        self.is_secret() || self.items().is_some_and(|items| items.is_secret())
    }

    /// Whether the value is a secret, or may have one in it.
    pub fn holds_secret(&self) -> bool {
        self.parts.iter().any(|part| self.mentions_secret(part))
    }

    fn mentions_secret(&self, part: &Value) -> bool {
        part.get("writeOnly") == Some(&Value::Bool(true))
            || reference(part)
                .and_then(|name| self.definitions?.get(name))
                .is_some_and(|target| self.mentions_secret(target))
            || match part {
                Value::Object(entries) => entries.values().any(|s| self.mentions_secret(s)),
                Value::Array(items) => items.iter().any(|s| self.mentions_secret(s)),
                _ => false,
            }
    }
}

/// What an object may have besides its named properties.
#[derive(Clone, Debug)]
pub enum AdditionalProperties<'a> {
    /// Anything.
    Allowed,
    /// Nothing.
    Forbidden,
    /// Values of this schema.
    Like(Box<SchemaView<'a>>),
}

/// Name of the schema that a schema refers to.
fn reference(part: &Value) -> Option<&str> {
    part.get("$ref")?.as_str()?.rsplit('/').next()
}

/// The words of an enumeration, in any form of a schema.
fn words(part: &Value) -> Option<Vec<&str>> {
    if let Some(words) = part.get("enum") {
        let words = words.as_array()?.iter().filter(|word| !word.is_null());
        return words.map(Value::as_str).collect();
    }
    if let Some(word) = part.get("const") {
        return word.as_str().map(|word| vec![word]);
    }
    let choices = part.get("oneOf")?.as_array()?;
    let lists: Option<Vec<_>> = choices.iter().map(words).collect();
    lists.map(|lists| lists.concat())
}
