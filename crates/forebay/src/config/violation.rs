//! A violation in the configuration: key, value, origin and what is allowed.

use std::fmt;
use std::path::PathBuf;

use forebay_schema::MASK;
use serde_json::Value;

use super::catalog::ConfigKey;

/// Shorter secrets are not masked: they could be words of the message itself.
const MASKED_MIN: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ValueOrigin {
    /// Not set.
    Default,
    Profile,
    /// A line of a file.
    File(PathBuf, u64),
    /// An environment variable.
    Variable(String),
    /// A command-line argument.
    Flag(String),
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::Profile => f.write_str("the profile"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ConfigViolation {
    text: String,
    origin: Option<String>,
    hint: Option<String>,
}

impl ConfigViolation {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            origin: None,
            hint: None,
        }
    }

    /// A value that its key does not allow.
    pub(crate) fn value(key: &ConfigKey, value: &Value, allowed: Option<&str>) -> Self {
        let allowed = allowed
            .map(|a| format!(", allowed is {a}"))
            .unwrap_or_default();
        Self::new(format!("{} is {}{allowed}", key.path, shown(key, value)))
    }

    pub(crate) fn with_origin(mut self, origin: &ValueOrigin) -> Self {
        self.origin = Some(origin.to_string());
        self
    }

    pub(crate) fn did_you_mean(mut self, name: Option<String>) -> Self {
        self.hint = name.map(|name| format!("did you mean {name}?"));
        self
    }
}

impl ConfigViolation {
    /// Masks secret texts. Messages never quote values of keys that can hold a secret; this covers a
    /// secret in a wrong place.
    pub(crate) fn mask(&mut self, secrets: &[String]) {
        for secret in secrets.iter().filter(|s| s.len() >= MASKED_MIN) {
            if self.text.contains(secret) {
                self.text = self.text.replace(secret, MASK);
            }
        }
    }
}

impl fmt::Display for ConfigViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if let Some(origin) = &self.origin {
            write!(f, " ({origin})")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// A value in a message, unless its key can hold a secret.
pub(crate) fn shown(key: &ConfigKey, value: &Value) -> String {
    match value {
        _ if key.holds_secrets => MASK.to_owned(),
        Value::Null => "empty".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        other => other.to_string(),
    }
}
