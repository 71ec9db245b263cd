//! YAML whose texts stay as they are written.
//!
//! YAML makes numbers, booleans and nulls of plain scalars: `07302`, `1.10`, `no` and `~`. Where a text
//! is wanted, the scalar's own characters are what was meant.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;
use serde_saphyr::{Error, Location};

mod node;

pub use node::{YamlContent, YamlKey, YamlNode};

/// A scalar that YAML takes for something else than a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainScalar {
    /// The scalar's characters in the file.
    pub text: String,
    /// Where it is, counted from 1.
    pub line: u64,
    /// Where it is in the line, counted from 1.
    pub column: u64,
}

/// The plain scalars of a document by their places, like `a.b[0]`.
#[derive(Clone, Debug, Default)]
pub struct PlainScalars(HashMap<String, Option<PlainScalar>>);

impl PlainScalars {
    /// The one at a place.
    #[must_use]
    pub fn get(&self, at: &str) -> Option<&PlainScalar> {
        self.0.get(at)?.as_ref()
    }

    fn collect(&mut self, node: &YamlNode, at: String) {
        match &node.content {
            YamlContent::Scalar(Value::String(_)) => {}
            YamlContent::Scalar(_) => {
                // Two places that are written alike are none.
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

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// Line and column, counted from 1.
    pub place: Option<(u64, u64)>,
    /// For people.
    pub text: String,
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.text)
    }
}

/// Reads a document, and which of its scalars are written as something else than a text.
///
/// # Errors
/// Where it is no YAML, or holds what has no value here.
pub fn parse(text: &str) -> Result<(Value, PlainScalars), YamlError> {
    let node = YamlNode::parse(text)?;
    let mut plains = PlainScalars::default();
    plains.collect(&node, String::new());
    Ok((node.value(), plains))
}

/// An error of the library, in words of YAML: its own name the settings of a Rust library.
#[must_use]
pub fn yaml_error(error: &Error) -> YamlError {
    let location = error.location();
    let text = match error {
        Error::WithSnippet { error, .. } => return yaml_error(error),
        Error::DuplicateMappingKey { key, .. } => match key {
            Some(key) => format!("the key \"{key}\" is there twice"),
            None => "a key is there twice".to_owned(),
        },
        Error::MultipleDocuments { .. } => {
            "there is more than one document: one file is one document, without `---`".to_owned()
        }
        Error::NullIntoString { .. } => {
            "this is null in YAML, a text is wanted: write it in quotes, or leave the key out"
                .to_owned()
        }
        Error::NonFiniteFloat { value, .. } => {
            format!("{value} is no finite number: write it in quotes if a text is meant")
        }
        _ => {
            let all = error.without_snippet().to_string();
            // The first line says it; what follows is the position, which is said otherwise.
            let first = all.lines().next().unwrap_or_default();
            let first = first.split(" at line ").next().unwrap_or(first);
            first.strip_prefix("error: ").unwrap_or(first).to_owned()
        }
    };
    YamlError {
        place: location.map(|l| (l.line(), l.column())),
        text,
    }
}

/// The characters of a scalar that is no text; nothing of one with quotes or a tag, which was made what
/// it is on purpose.
#[must_use]
fn plain_at(source: &str, place: &Location) -> Option<String> {
    let span = place.span();
    let from = usize::try_from(span.byte_offset()?).ok()?;
    let to = from.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
    let text = source.get(from..to)?.trim();
    let is_plain = !text.is_empty() && !text.starts_with(['"', '\'', '!', '&', '|', '>']);
    is_plain.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_have_their_characters() {
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
        // One of a tag is what the tag says, and a text is a text.
        let (value, plains) =
            parse("a: !!str 007\nb: !!int \"7\"\nc: &x 1.50\nd: *x\ne: |\n  1.0\n").unwrap();
        assert_eq!((&value["a"], &value["b"]), (&"007".into(), &7.into()));
        assert_eq!((plains.get("a"), plains.get("b")), (None, None));
        let texts = ["c", "d"].map(|at| plains.get(at).map(|p| p.text.clone()));
        assert_eq!(texts, [Some("1.50".to_owned()), Some("1.50".to_owned())]);
        assert_eq!(value["e"], "1.0\n");
    }

    #[test]
    fn errors_have_places_and_no_names_of_a_library() {
        for (text, said) in [
            (
                "a: 1\na: 2\n",
                "line 2, column 1: the key \"a\" is there twice",
            ),
            ("a: 1\n---\na: 2\n", "more than one document"),
            ("a: .inf\n", "line 1, column 4: .inf is no finite number"),
            ("a: [\n", "line 1, column 4"),
        ] {
            let problem = parse(text).unwrap_err().to_string();
            assert!(problem.contains(said), "{problem}");
            for name in ["DuplicateKeyPolicy", "from_", "Options", "serde"] {
                assert!(!problem.contains(name), "{problem}");
            }
        }
    }
}
