//! Positions of the values of a document, by path.

use std::collections::HashMap;

use super::{YamlContent, YamlNode};

/// A part of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct YamlSpan {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// Characters, at least 1.
    pub length: usize,
}

/// Positions of a key and its value.
#[derive(Clone, Copy, Debug)]
struct YamlPosition {
    /// `None` for an item of a list.
    key: Option<YamlSpan>,
    value: YamlSpan,
    is_scalar: bool,
}

/// Positions of the values of a document by path, such as `a.b[0]`.
#[derive(Clone, Debug, Default)]
pub struct YamlPositions(HashMap<String, YamlPosition>);

impl YamlPositions {
    /// Collects the positions of a document.
    pub fn of(document: &YamlNode) -> Self {
        let mut positions = Self::default();
        positions.collect(document, None, String::new());
        positions
    }

    fn collect(&mut self, node: &YamlNode, key: Option<YamlSpan>, at: String) {
        let items: Vec<(String, Option<YamlSpan>, &YamlNode)> = match &node.content {
            YamlContent::Scalar(_) => Vec::new(),
            YamlContent::List(items) => {
                let items = items.iter().enumerate();
                let item = |(i, node)| (format!("{at}[{i}]"), None, node);
                items.map(item).collect()
            }
            YamlContent::Map(entries) => {
                let spans = entries.iter().map(|(key, node)| {
                    let span = YamlSpan {
                        line: key.line,
                        column: key.column,
                        length: key.length,
                    };
                    (field_path(&at, &key.text), Some(span), node)
                });
                spans.collect()
            }
        };
        for (path, key, node) in items {
            self.collect(node, key, path);
        }
        let value = YamlSpan {
            line: node.line,
            column: node.column,
            length: node.length,
        };
        let is_scalar = matches!(node.content, YamlContent::Scalar(_));
        // Of two values with the same path the first counts.
        self.0.entry(at).or_insert(YamlPosition {
            key,
            value,
            is_scalar,
        });
    }

    /// The key at a path, or the item of a list.
    pub fn key(&self, path: &str) -> Option<YamlSpan> {
        let found = self.0.get(path)?;
        Some(found.key.unwrap_or(found.value))
    }

    /// The scalar at a path, or the key of a list or mapping.
    pub fn value(&self, path: &str) -> Option<YamlSpan> {
        let found = self.0.get(path)?;
        match found.is_scalar {
            true => Some(found.value),
            false => self.key(path),
        }
    }

    /// The position of the longest existing part of a path: the value itself, or the key or item that
    /// lacks it.
    pub fn nearest(&self, path: &str) -> Option<YamlSpan> {
        if let Some(found) = self.value(path) {
            return Some(found);
        }
        let mut rest = path;
        while let Some(end) = rest.rfind(['.', '[']) {
            rest = rest.get(..end).unwrap_or_default();
            if let Some(found) = self.key(rest) {
                return Some(found);
            }
        }
        None
    }
}

/// Path of a field below a path, such as `a.b`.
pub fn field_path(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keys_and_missing_values_have_positions() {
        let text = "\
sources:
  - name: Žluť
    settings: { a.b: \"x y\" }
    sinks:
      - table: in.a.b # a comment
        columns: []
";
        let positions = YamlPositions::of(&YamlNode::parse(text).unwrap());
        let span = |line, column, length| {
            Some(YamlSpan {
                line,
                column,
                length,
            })
        };
        for (path, expected) in [
            ("sources", span(1, 1, 7)),
            ("sources[0]", span(2, 5, 1)),
            ("sources[0].name", span(2, 11, 4)),
            ("sources[0].id", span(2, 5, 1)),
            ("sources[0].settings.a.b", span(3, 22, 5)),
            ("sources[0].sinks[0].table", span(5, 16, 6)),
            ("sources[0].sinks[0].columns[0].name", span(6, 9, 7)),
            ("sources[0].sinks[4].columns", span(4, 5, 5)),
            ("nothing", None),
        ] {
            assert_eq!(positions.nearest(path), expected, "{path}");
        }
        assert_eq!(positions.key("sources[0].name"), span(2, 5, 4));
    }
}
