//! A YAML document that remembers where everything stands, so that a complaint can name the line.

use std::fmt;

use forebay_pull::yaml;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

/// A value, and its line.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Counted from 1.
    pub(crate) line: u64,
    /// The value.
    pub(crate) content: Content,
    /// The characters of a scalar that YAML takes for something else than a text.
    pub(crate) plain: Option<String>,
    /// Where it was defined.
    place: Location,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Text, number, boolean or nothing.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// Names with values, in order.
    Map(Vec<(Name, Node)>),
}

/// A name in a mapping, and its line.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    /// Counted from 1.
    pub(crate) line: u64,
    /// The name.
    pub(crate) text: String,
}

impl Node {
    /// Reads a document; an empty one is an empty mapping.
    ///
    /// # Errors
    /// The line, if it is known, and what is wrong there.
    pub(crate) fn parse(text: &str) -> Result<Self, (Option<u64>, String)> {
        let parsed: Result<Self, _> = serde_saphyr::from_str(text);
        match parsed {
            Ok(Self {
                line,
                content: Content::Scalar(Value::Null),
                place,
                ..
            }) => Ok(Self {
                line,
                content: Content::Map(Vec::new()),
                plain: None,
                place,
            }),
            Ok(mut node) => {
                node.keep_plain(text);
                Ok(node)
            }
            Err(error) => {
                let problem = yaml::problem(&error);
                Err((problem.place.map(|(line, _)| line), problem.text))
            }
        }
    }

    fn keep_plain(&mut self, source: &str) {
        match &mut self.content {
            Content::Scalar(Value::String(_)) => {}
            Content::Scalar(_) => self.plain = yaml::plain_at(source, &self.place),
            Content::List(items) => items.iter_mut().for_each(|node| node.keep_plain(source)),
            Content::Map(entries) => {
                let nodes = entries.iter_mut();
                nodes.for_each(|(_, node)| node.keep_plain(source));
            }
        }
    }

    /// Without the lines.
    pub(crate) fn value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => Value::Array(items.iter().map(Self::value).collect()),
            Content::Map(entries) => {
                let entry = |(name, node): &(Name, Self)| (name.text.clone(), node.value());
                Value::Object(entries.iter().map(entry).collect())
            }
        }
    }

    /// Changes each text in it.
    ///
    /// # Errors
    /// The first of `change`, with the line.
    pub(crate) fn change_texts(
        &mut self,
        change: &mut dyn FnMut(&str) -> Result<Option<String>, String>,
    ) -> Result<(), (u64, String)> {
        match &mut self.content {
            Content::Scalar(Value::String(text)) => {
                if let Some(changed) = change(text).map_err(|e| (self.line, e))? {
                    *text = changed;
                }
            }
            Content::Scalar(_) => {}
            Content::List(items) => {
                for item in items {
                    item.change_texts(change)?;
                }
            }
            Content::Map(entries) => {
                for (_, node) in entries {
                    node.change_texts(change)?;
                }
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            content: spanned.value,
            plain: None,
            place: spanned.defined,
        })
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            text: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Bool(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Content, E> {
        Ok(Content::Scalar(Value::from(v)))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Content, E> {
        Ok(Content::Scalar(Value::from(v)))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Content, E> {
        Ok(Content::Scalar(Value::from(v)))
    }

    fn visit_str<E>(self, v: &str) -> Result<Content, E> {
        Ok(Content::Scalar(Value::from(v)))
    }

    fn visit_string<E>(self, v: String) -> Result<Content, E> {
        Ok(Content::Scalar(Value::from(v)))
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Content::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_lines() {
        let node = Node::parse("# c\na:\n  b: 1\n  c: [x, 5MB]\nd: true\n").unwrap();
        let Content::Map(entries) = &node.content else {
            panic!("{node:?}")
        };
        assert_eq!((entries[0].0.text.as_str(), entries[0].0.line), ("a", 2));
        let Content::Map(inner) = &entries[0].1.content else {
            panic!("{node:?}")
        };
        assert_eq!((inner[1].0.line, inner[1].1.line), (4, 4));
        assert_eq!(
            node.value(),
            serde_json::json!({"a": {"b": 1, "c": ["x", "5MB"]}, "d": true})
        );
        assert_eq!(Node::parse("").unwrap().value(), serde_json::json!({}));
        assert_eq!(Node::parse("a: 1\nb: [\n").unwrap_err().0, Some(2));
    }
}
