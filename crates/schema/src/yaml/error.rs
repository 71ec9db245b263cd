//! Syntax errors.

use std::fmt;

use serde_saphyr::Error;

/// A syntax error of a YAML file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// Line and column, from 1.
    pub place: Option<(u64, u64)>,
    /// Message for people.
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

/// Converts an error of the library: its own messages name settings of a Rust library.
pub fn yaml_error(error: &Error) -> YamlError {
    let location = error.location();
    let text = match error {
        Error::WithSnippet { error, .. } => return yaml_error(error),
        Error::DuplicateMappingKey { key, .. } => match key {
            Some(key) => format!("duplicate key \"{key}\""),
            None => "duplicate key".to_owned(),
        },
        Error::MultipleDocuments { .. } => {
            "more than one document: a file must be one document, without `---`".to_owned()
        }
        Error::NullIntoString { .. } => {
            "this is null in YAML, but a string is expected: write it in quotes, or remove the key"
                .to_owned()
        }
        Error::NonFiniteFloat { value, .. } => {
            format!("{value} is not a finite number: quote it if it is a string")
        }
        _ => {
            let all = error.without_snippet().to_string();
            // The first line is the message; the position that follows is reported separately.
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
