//! Specification of a setting: name, type, rule, description, and how to read and write it.

use serde_json::Value;

use super::values::SinkSettings;
use crate::units::{ByteSize, HumanDuration};

/// Type of a setting's value in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingValueType {
    /// Text, a size or a duration.
    String,
    /// A whole number.
    Int,
    /// `true` or `false`.
    Bool,
    /// A list of texts.
    StringList,
}

/// Scope of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingScope {
    /// Sources only.
    Source,
    /// Sinks; a source's value applies to all of its sinks.
    Sink,
}

/// Allowed values of a setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SettingRule {
    /// Any value of its type.
    Any,
    /// An integer in this range.
    Int(u64, u64),
    /// A size in this range.
    Size(ByteSize, ByteSize),
    /// A duration in this range.
    Duration(HumanDuration, HumanDuration),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// Any text of at most this many characters.
    Chars(u64),
    /// A list with at least one item.
    NonEmptyList,
    /// A list of these texts, each at most once; it may be empty.
    ListOf(&'static [&'static str]),
}

/// Description of a setting.
#[derive(Clone, Copy, Debug)]
pub struct SettingSpec {
    /// Full name, `storage.level.…` or `source.quota.…`.
    pub key: &'static str,
    /// Sources or sinks.
    pub scope: SettingScope,
    /// Type of its value.
    pub kind: SettingValueType,
    /// Allowed values.
    pub rule: SettingRule,
    /// Only an operator may change it, not a user of the API.
    pub protected: bool,
    /// Description for people.
    pub description: &'static str,
    pub(super) get: fn(&SinkSettings) -> Value,
    pub(super) set: SettingSetter,
}

/// How a checked value is written to the typed form.
#[derive(Clone, Copy, Debug)]
pub(super) enum SettingSetter {
    Int(fn(&mut SinkSettings, u64)),
    Size(fn(&mut SinkSettings, ByteSize)),
    Duration(fn(&mut SinkSettings, HumanDuration)),
    Bool(fn(&mut SinkSettings, bool)),
    Text(fn(&mut SinkSettings, &str)),
    List(fn(&mut SinkSettings, Vec<String>)),
}

/// Reason for rejecting a value. The texts are those of the compatible API where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingViolation {
    /// Not of the setting's type.
    #[error("Invalid \"{key}\" value: found type \"{found}\", expected \"{expected}\".")]
    Type {
        /// Name of the setting.
        key: &'static str,
        /// Type of the given value.
        found: &'static str,
        /// Expected type.
        expected: &'static str,
    },
    /// Not a size.
    #[error("Invalid \"{key}\" value \"{value}\": invalid syntax.")]
    Size {
        /// Name of the setting.
        key: &'static str,
        /// The given text.
        value: String,
    },
    /// Not a duration.
    #[error("Invalid \"{key}\": time: invalid duration \"{value}\".")]
    Duration {
        /// Name of the setting.
        key: &'static str,
        /// The given text.
        value: String,
    },
    /// Outside its range, or none of its names.
    #[error("Invalid \"{key}\" value \"{value}\": {allowed}.")]
    NotAllowed {
        /// Name of the setting.
        key: &'static str,
        /// The given value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

fn json_type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_u64() || n.is_i64() => "int",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl SettingSpec {
    /// Writes `value` into `settings`.
    ///
    /// # Errors
    /// When the value is not of the setting's type or violates its rule; then nothing is written.
    pub fn apply(
        &self,
        settings: &mut SinkSettings,
        value: &Value,
    ) -> Result<(), SettingViolation> {
        match self.set {
            SettingSetter::Int(set) => set(settings, self.int(value)?),
            SettingSetter::Size(set) => set(settings, self.size(value)?),
            SettingSetter::Duration(set) => set(settings, self.duration(value)?),
            SettingSetter::Bool(set) => {
                set(
                    settings,
                    value
                        .as_bool()
                        .ok_or_else(|| self.wrong_type(value, "bool"))?,
                );
            }
            SettingSetter::Text(set) => set(settings, self.text(value)?),
            SettingSetter::List(set) => set(settings, self.list(value)?),
        }
        Ok(())
    }

    fn wrong_type(&self, value: &Value, expected: &'static str) -> SettingViolation {
        SettingViolation::Type {
            key: self.key,
            found: json_type_name(value),
            expected,
        }
    }

    fn not_allowed(&self, value: &impl ToString, allowed: String) -> SettingViolation {
        SettingViolation::NotAllowed {
            key: self.key,
            value: value.to_string(),
            allowed,
        }
    }

    fn int(&self, value: &Value) -> Result<u64, SettingViolation> {
        let allowed = |min, max| format!("must be a whole number between {min} and {max}");
        let (min, max) = match self.rule {
            SettingRule::Int(min, max) => (min, max),
            _ => (0, u64::MAX),
        };
        match value.as_u64() {
            Some(n) if (min..=max).contains(&n) => Ok(n),
            None if !value.is_number() => Err(self.wrong_type(value, "uint64")),
            _ => Err(self.not_allowed(value, allowed(min, max))),
        }
    }

    fn size(&self, value: &Value) -> Result<ByteSize, SettingViolation> {
        let text = value
            .as_str()
            .ok_or_else(|| self.wrong_type(value, "string"))?;
        let invalid = |_| SettingViolation::Size {
            key: self.key,
            value: text.to_owned(),
        };
        let size: ByteSize = text.parse().map_err(invalid)?;
        match self.rule {
            SettingRule::Size(min, max) if !(min..=max).contains(&size) => {
                Err(self.not_allowed(&text, format!("must be between {min} and {max}")))
            }
            _ => Ok(size),
        }
    }

    fn duration(&self, value: &Value) -> Result<HumanDuration, SettingViolation> {
        let text = value
            .as_str()
            .ok_or_else(|| self.wrong_type(value, "string"))?;
        let invalid = |_| SettingViolation::Duration {
            key: self.key,
            value: text.to_owned(),
        };
        let duration: HumanDuration = text.parse().map_err(invalid)?;
        match self.rule {
            SettingRule::Duration(min, max) if !(min..=max).contains(&duration) => Err(self
                .not_allowed(
                    &text,
                    format!(
                        "must be between {} and {}",
                        min.short_text(),
                        max.short_text()
                    ),
                )),
            _ => Ok(duration),
        }
    }

    fn text<'v>(&self, value: &'v Value) -> Result<&'v str, SettingViolation> {
        let text = value
            .as_str()
            .ok_or_else(|| self.wrong_type(value, "string"))?;
        match self.rule {
            SettingRule::OneOf(names) if !names.contains(&text) => {
                Err(self.not_allowed(&text, format!("must be one of {}", names.join(", "))))
            }
            SettingRule::Chars(max) if text.chars().count() as u64 > max => {
                let start: String = text.chars().take(64).collect();
                let allowed = format!("must have at most {max} characters");
                Err(self.not_allowed(&format!("{start}…"), allowed))
            }
            _ => Ok(text),
        }
    }

    fn list(&self, value: &Value) -> Result<Vec<String>, SettingViolation> {
        let items = value
            .as_array()
            .ok_or_else(|| self.wrong_type(value, "[]string"))?;
        if items.is_empty() && self.rule == SettingRule::NonEmptyList {
            return Err(self.not_allowed(value, "must have at least one item".to_owned()));
        }
        let text = |v: &Value| {
            v.as_str()
                .map(str::to_owned)
                .ok_or_else(|| self.wrong_type(v, "string"))
        };
        let texts: Vec<String> = items.iter().map(text).collect::<Result<_, _>>()?;
        if let SettingRule::ListOf(names) = self.rule {
            if let Some(other) = texts.iter().find(|t| !names.contains(&t.as_str())) {
                let allowed = format!("each item must be one of {}", names.join(", "));
                let shown: String = other.chars().take(64).collect();
                return Err(self.not_allowed(&shown, allowed));
            }
            let repeated = |(i, text): &(usize, &String)| texts[..*i].contains(text);
            if let Some((_, twice)) = texts.iter().enumerate().find(repeated) {
                return Err(self.not_allowed(twice, "must be in the list once".to_owned()));
            }
        }
        Ok(texts)
    }
}
