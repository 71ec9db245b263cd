//! YAML that keeps strings as written.
//!
//! YAML reads plain scalars as numbers, booleans and nulls: `07302`, `1.10`, `no` and `~`. Where a string is
//! expected, the scalar's own characters are used.

use std::collections::HashMap;

use serde_json::Value;

mod error;
mod node;
mod position;
mod scalar;

pub use error::{YamlError, yaml_error};
pub use node::{YamlContent, YamlKey, YamlNode};
pub use position::{YamlPositions, YamlSpan, field_path};
pub use scalar::PlainScalar;

/// The plain scalars of a document by path, such as `a.b[0]`.
#[derive(Clone, Debug, Default)]
pub struct PlainScalars(HashMap<String, Option<PlainScalar>>);

impl PlainScalars {
    /// The plain scalar at a path.
    pub fn get(&self, at: &str) -> Option<&PlainScalar> {
        self.0.get(at)?.as_ref()
    }

    /// The plain scalars of a document.
    pub fn of(document: &YamlNode) -> Self {
        let mut plains = Self::default();
        plains.collect(document, String::new());
        plains
    }

    fn collect(&mut self, node: &YamlNode, at: String) {
        match &node.content {
            YamlContent::Scalar(Value::String(_)) => {}
            YamlContent::Scalar(_) => {
                // Two values with the same path are ambiguous: drop both.
                let known = self.0.entry(at);
                let plain = node.plain.clone();
                known.and_modify(|known| *known = None).or_insert(plain);
            }
            YamlContent::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.collect(item, format!("{at}[{i}]"));
                }
            }
            YamlContent::Map(entries) => {
                for (YamlKey { text, .. }, item) in entries {
                    let within = match at.as_str() {
                        "" => text.clone(),
                        at => format!("{at}.{text}"),
                    };
                    self.collect(item, within);
                }
            }
        }
    }
}

/// Parses a document, and collects the plain scalars that are not strings.
///
/// # Errors
/// The text is not YAML, or has values that JSON does not support.
pub fn parse(text: &str) -> Result<(Value, PlainScalars), YamlError> {
    let node = YamlNode::parse(text)?;
    Ok((node.value(), PlainScalars::of(&node)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_keep_their_characters() {
        let text = "a: 07302\nb:\n  - 1.10\n  - no # a comment\n  - \"x\"\nč: { d: 0x1F, e: 12345678901234567890123, f: 2024-01-01, g: ~, h: y, i: 1e3 }\n";
        let (value, plains) = parse(text).unwrap();
        assert_eq!(value["b"][2], "x");
        for (at, text, place) in [
            ("a", "07302", (1, 4)),
            ("b[0]", "1.10", (3, 5)),
            ("b[1]", "no", (4, 5)),
            ("č.d", "0x1F", (6, 9)),
            ("č.e", "12345678901234567890123", (6, 18)),
            ("č.g", "~", (6, 61)),
            ("č.h", "y", (6, 67)),
            ("č.i", "1e3", (6, 73)),
        ] {
            let Some(plain) = plains.get(at) else {
                assert!(
                    value
                        .pointer(&format!("/{}", at.replace('.', "/")))
                        .is_some_and(Value::is_string),
                    "{at}"
                );
                continue;
            };
            assert_eq!(
                (plain.text.as_str(), (plain.line, plain.column)),
                (text, place),
                "{at}"
            );
        }
        assert_eq!(plains.get("b[2]"), None);
        // A tag sets the type, and a string is a string.
        let (value, plains) =
            parse("a: !!str 007\nb: !!int \"7\"\nc: &x 1.50\nd: *x\ne: |\n  1.0\n").unwrap();
        assert_eq!((&value["a"], &value["b"]), (&"007".into(), &7.into()));
        assert_eq!((plains.get("a"), plains.get("b")), (None, None));
        let texts = ["c", "d"].map(|at| plains.get(at).map(|p| p.text.clone()));
        assert_eq!(texts, [Some("1.50".to_owned()), Some("1.50".to_owned())]);
        assert_eq!(value["e"], "1.0\n");
    }

    #[test]
    fn errors_have_positions_and_no_names_of_the_library() {
        for (text, message) in [
            ("a: 1\na: 2\n", "line 2, column 1: duplicate key \"a\""),
            ("a: 1\n---\na: 2\n", "more than one document"),
            ("a: .inf\n", "line 1, column 4: .inf is not a finite number"),
            ("a: [\n", "line 1, column 4"),
        ] {
            let problem = parse(text).unwrap_err().to_string();
            assert!(problem.contains(message), "{problem}");
            for name in ["DuplicateKeyPolicy", "from_", "Options", "serde"] {
                assert!(!problem.contains(name), "{problem}");
            }
        }
    }
}
