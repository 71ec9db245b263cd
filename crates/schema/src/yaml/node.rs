//! The nodes of a document.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{Location, NonFiniteFloatPolicy, Spanned};

use super::error::{YamlError, yaml_error};
use super::scalar::{PlainScalar, plain_at};

/// A value of a document, with its position.
#[derive(Clone, Debug)]
pub struct YamlNode {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// Characters of a scalar on its first line; 1 of a list or mapping.
    pub length: usize,
    /// The value.
    pub content: YamlContent,
    /// The plain scalar, if YAML reads it as another type than string.
    pub plain: Option<PlainScalar>,
    /// Where the value is defined; for an alias, where its anchor is.
    place: Location,
    /// Where the value is used; for an alias, the alias itself.
    used: Location,
}

/// The content of a node.
#[derive(Clone, Debug)]
pub enum YamlContent {
    /// String, number, boolean or null.
    Scalar(Value),
    /// Items.
    List(Vec<YamlNode>),
    /// Keys and values, in order.
    Map(Vec<(YamlKey, YamlNode)>),
}

/// A key of a mapping, with its position.
#[derive(Clone, Debug)]
pub struct YamlKey {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// Characters, with quotes.
    pub length: usize,
    /// The key.
    pub text: String,
    used: Location,
}

impl YamlNode {
    /// Parses a document.
    ///
    /// # Errors
    /// The text is not YAML, or has values that JSON does not support.
    pub fn parse(text: &str) -> Result<Self, YamlError> {
        let mut node: Self = serde_saphyr::from_str(text).map_err(|e| yaml_error(&e))?;
        node.keep_plain(text);
        node.measure(text);
        Ok(node)
    }

    /// Parses a document whose infinite numbers and NaN are texts, as they are written: JSON has no
    /// such numbers, and a text may be expected.
    ///
    /// # Errors
    /// The text is not YAML.
    pub fn parse_finite(text: &str) -> Result<Self, YamlError> {
        let options = serde_saphyr::options! {
            non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        };
        let parsed = serde_saphyr::from_str_with_options(text, options);
        let mut node: Self = parsed.map_err(|e| yaml_error(&e))?;
        node.keep_plain(text);
        node.measure(text);
        node.write_out_numbers();
        Ok(node)
    }

    /// Replaces numbers that JSON does not have, which are read as null, by their text.
    fn write_out_numbers(&mut self) {
        match &mut self.content {
            YamlContent::Scalar(value) => {
                let plain = self.plain.as_ref().map(|plain| plain.text.as_str());
                let is_null = |text: &str| matches!(text, "~" | "null" | "Null" | "NULL");
                if let Some(text) = plain.filter(|text| value.is_null() && !is_null(text)) {
                    *value = Value::from(text);
                    self.plain = None;
                }
            }
            YamlContent::List(items) => items.iter_mut().for_each(Self::write_out_numbers),
            YamlContent::Map(entries) => {
                let nodes = entries.iter_mut();
                nodes.for_each(|(_, node)| node.write_out_numbers());
            }
        }
    }

    fn keep_plain(&mut self, source: &str) {
        match &mut self.content {
            YamlContent::Scalar(Value::String(_)) => {}
            YamlContent::Scalar(_) => {
                self.plain = plain_at(source, &self.place).map(|text| PlainScalar {
                    text,
                    line: self.place.line(),
                    column: self.place.column(),
                });
            }
            YamlContent::List(items) => items.iter_mut().for_each(|node| node.keep_plain(source)),
            YamlContent::Map(entries) => {
                let nodes = entries.iter_mut();
                nodes.for_each(|(_, node)| node.keep_plain(source));
            }
        }
    }

    /// Sets the lengths of scalars and keys.
    fn measure(&mut self, source: &str) {
        match &mut self.content {
            YamlContent::Scalar(_) => self.length = length(source, &self.used),
            YamlContent::List(items) => items.iter_mut().for_each(|node| node.measure(source)),
            YamlContent::Map(entries) => {
                for (key, node) in entries {
                    key.length = length(source, &key.used);
                    node.measure(source);
                }
            }
        }
    }

    /// The value without positions.
    pub fn value(&self) -> Value {
        match &self.content {
            YamlContent::Scalar(value) => value.clone(),
            YamlContent::List(items) => Value::Array(items.iter().map(Self::value).collect()),
            YamlContent::Map(entries) => {
                let entry = |(name, node): &(YamlKey, Self)| (name.text.clone(), node.value());
                Value::Object(entries.iter().map(entry).collect())
            }
        }
    }
}

/// Characters of a scalar on its first line, at least 1.
fn length(source: &str, place: &Location) -> usize {
    let span = place.span();
    let range = span.byte_offset().zip(span.byte_len());
    let text = range.and_then(|(from, length)| {
        let from = usize::try_from(from).ok()?;
        source.get(from..from.checked_add(usize::try_from(length).ok()?)?)
    });
    let line = text
        .and_then(|text| text.lines().next())
        .unwrap_or_default();
    line.trim_end().chars().count().max(1)
}

impl<'de> Deserialize<'de> for YamlNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<YamlContent>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            column: spanned.referenced.column(),
            length: 1,
            content: spanned.value,
            plain: None,
            place: spanned.defined,
            used: spanned.referenced,
        })
    }
}

impl<'de> Deserialize<'de> for YamlKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            column: spanned.referenced.column(),
            length: 1,
            text: spanned.value,
            used: spanned.referenced,
        })
    }
}

impl<'de> Deserialize<'de> for YamlContent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = YamlContent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<YamlContent, E> {
        Ok(YamlContent::Scalar(Value::Bool(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<YamlContent, E> {
        Ok(YamlContent::Scalar(Value::from(v)))
    }

    fn visit_u64<E>(self, v: u64) -> Result<YamlContent, E> {
        Ok(YamlContent::Scalar(Value::from(v)))
    }

    fn visit_f64<E>(self, v: f64) -> Result<YamlContent, E> {
        Ok(YamlContent::Scalar(Value::from(v)))
    }

    fn visit_str<E>(self, v: &str) -> Result<YamlContent, E> {
        Ok(YamlContent::Scalar(Value::from(v)))
    }

    fn visit_string<E>(self, v: String) -> Result<YamlContent, E> {
        Ok(YamlContent::Scalar(Value::from(v)))
    }

    fn visit_unit<E>(self) -> Result<YamlContent, E> {
        Ok(YamlContent::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<YamlContent, E> {
        Ok(YamlContent::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<YamlContent, D::Error> {
        YamlContent::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<YamlContent, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(YamlContent::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<YamlContent, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(YamlContent::Map(entries))
    }
}
