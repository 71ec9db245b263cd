//! What there is to know of a setting: name, type, rule, description, and how to read and write it.

use serde_json::Value;

use super::SinkSettings;
use crate::units::{ByteSize, Span};

mod list;

use list::SETTINGS;

/// Type of a setting's value in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingType {
    /// Text, a size or a duration.
    String,
    /// A whole number.
    Int,
    /// `true` or `false`.
    Bool,
    /// A list of texts.
    StringList,
}

impl SettingType {
    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int => "int",
            Self::Bool => "bool",
            Self::StringList => "[]string",
        }
    }
}

/// What a setting is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of sources only.
    Source,
    /// Of sinks; a source has it for all of its sinks.
    Sink,
}

/// Which values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Any of its type.
    Any,
    /// A whole number in this range.
    Int(u64, u64),
    /// The same; the compatible service does not call it required.
    OptionalInt(u64, u64),
    /// A size in this range.
    Size(ByteSize, ByteSize),
    /// A duration in this range.
    Span(Span, Span),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// Any text of at most so many characters.
    Chars(u64),
    /// A list with at least one item.
    NonEmptyList,
    /// A list of these texts, each at most once; it may be empty.
    ListOf(&'static [&'static str]),
}

impl Rule {
    /// As the API shows it, in the form that the compatible service uses.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        Some(match self {
            Self::Any => return None,
            Self::Int(0, max) => format!("min=0,max={max}"),
            Self::OptionalInt(min, max) => format!("min={min},max={max}"),
            Self::Int(min, max) => format!("required,min={min},max={max}"),
            Self::Size(ByteSize(0), max) => format!("maxBytes={max}"),
            Self::Size(min, max) => {
                format!(
                    "required,minBytes={},maxBytes={max}",
                    min.to_string().replace("KB", "kB")
                )
            }
            Self::Span(min, max) => {
                format!(
                    "required,minDuration={},maxDuration={}",
                    short(*min),
                    short(*max)
                )
            }
            Self::OneOf(names) => format!("required,oneof={}", names.join(" ")),
            Self::Chars(max) => format!("max={max}"),
            Self::NonEmptyList => "required,min=1".to_owned(),
            Self::ListOf(names) => format!("unique,dive,oneof={}", names.join(" ")),
        })
    }
}

/// `30m0s` as `30m`, `24h0m0s` as `24h`.
fn short(span: Span) -> String {
    let text = span.to_string();
    let text = text
        .strip_suffix("m0s")
        .map_or(text.clone(), |t| format!("{t}m"));
    text.strip_suffix("h0m")
        .map_or(text.clone(), |t| format!("{t}h"))
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Full name, `storage.level.…` or `source.quota.…`.
    pub key: &'static str,
    /// Sources or sinks.
    pub scope: Scope,
    /// Type of its value.
    pub kind: SettingType,
    /// Which values it takes.
    pub rule: Rule,
    /// Only an operator may change it, not a user of the API.
    pub protected: bool,
    /// For people.
    pub description: &'static str,
    pub(super) get: fn(&SinkSettings) -> Value,
    set: Setter,
}

/// How a checked value gets into the typed form.
#[derive(Clone, Copy, Debug)]
enum Setter {
    Int(fn(&mut SinkSettings, u64)),
    Size(fn(&mut SinkSettings, ByteSize)),
    Span(fn(&mut SinkSettings, Span)),
    Bool(fn(&mut SinkSettings, bool)),
    Text(fn(&mut SinkSettings, &str)),
    List(fn(&mut SinkSettings, Vec<String>)),
}

/// Why a value is refused. The texts are those of the compatible API where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingProblem {
    /// Not of the setting's type.
    #[error("Invalid \"{key}\" value: found type \"{found}\", expected \"{expected}\".")]
    Type {
        /// Which setting.
        key: &'static str,
        /// Type of the given value.
        found: &'static str,
        /// Type that it should have.
        expected: &'static str,
    },
    /// Not a size.
    #[error("Invalid \"{key}\" value \"{value}\": invalid syntax.")]
    Size {
        /// Which setting.
        key: &'static str,
        /// The given text.
        value: String,
    },
    /// Not a duration.
    #[error("Invalid \"{key}\": time: invalid duration \"{value}\".")]
    Span {
        /// Which setting.
        key: &'static str,
        /// The given text.
        value: String,
    },
    /// Outside its range, or none of its names.
    #[error("Invalid \"{key}\" value \"{value}\": {allowed}.")]
    NotAllowed {
        /// Which setting.
        key: &'static str,
        /// The given value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

fn type_of(value: &Value) -> &'static str {
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

impl Setting {
    /// Writes `value` into `settings`.
    ///
    /// # Errors
    /// When the value is not of the setting's type or breaks its rule; then nothing is written.
    pub fn apply(&self, settings: &mut SinkSettings, value: &Value) -> Result<(), SettingProblem> {
        match self.set {
            Setter::Int(set) => set(settings, self.int(value)?),
            Setter::Size(set) => set(settings, self.size(value)?),
            Setter::Span(set) => set(settings, self.span(value)?),
            Setter::Bool(set) => {
                set(
                    settings,
                    value
                        .as_bool()
                        .ok_or_else(|| self.wrong_type(value, "bool"))?,
                );
            }
            Setter::Text(set) => set(settings, self.text(value)?),
            Setter::List(set) => set(settings, self.list(value)?),
        }
        Ok(())
    }

    fn wrong_type(&self, value: &Value, expected: &'static str) -> SettingProblem {
        SettingProblem::Type {
            key: self.key,
            found: type_of(value),
            expected,
        }
    }

    fn not_allowed(&self, value: &impl ToString, allowed: String) -> SettingProblem {
        SettingProblem::NotAllowed {
            key: self.key,
            value: value.to_string(),
            allowed,
        }
    }

    fn int(&self, value: &Value) -> Result<u64, SettingProblem> {
        let allowed = |min, max| format!("must be a whole number between {min} and {max}");
        let (min, max) = match self.rule {
            Rule::Int(min, max) | Rule::OptionalInt(min, max) => (min, max),
            _ => (0, u64::MAX),
        };
        match value.as_u64() {
            Some(n) if (min..=max).contains(&n) => Ok(n),
            None if !value.is_number() => Err(self.wrong_type(value, "uint64")),
            _ => Err(self.not_allowed(value, allowed(min, max))),
        }
    }

    fn size(&self, value: &Value) -> Result<ByteSize, SettingProblem> {
        let text = value
            .as_str()
            .ok_or_else(|| self.wrong_type(value, "string"))?;
        let invalid = |_| SettingProblem::Size {
            key: self.key,
            value: text.to_owned(),
        };
        let size: ByteSize = text.parse().map_err(invalid)?;
        match self.rule {
            Rule::Size(min, max) if !(min..=max).contains(&size) => {
                Err(self.not_allowed(&text, format!("must be between {min} and {max}")))
            }
            _ => Ok(size),
        }
    }

    fn span(&self, value: &Value) -> Result<Span, SettingProblem> {
        let text = value
            .as_str()
            .ok_or_else(|| self.wrong_type(value, "string"))?;
        let invalid = |_| SettingProblem::Span {
            key: self.key,
            value: text.to_owned(),
        };
        let span: Span = text.parse().map_err(invalid)?;
        match self.rule {
            Rule::Span(min, max) if !(min..=max).contains(&span) => Err(self.not_allowed(
                &text,
                format!("must be between {} and {}", short(min), short(max)),
            )),
            _ => Ok(span),
        }
    }

    fn text<'v>(&self, value: &'v Value) -> Result<&'v str, SettingProblem> {
        let text = value
            .as_str()
            .ok_or_else(|| self.wrong_type(value, "string"))?;
        match self.rule {
            Rule::OneOf(names) if !names.contains(&text) => {
                Err(self.not_allowed(&text, format!("must be one of {}", names.join(", "))))
            }
            Rule::Chars(max) if text.chars().count() as u64 > max => {
                let start: String = text.chars().take(64).collect();
                let allowed = format!("must have at most {max} characters");
                Err(self.not_allowed(&format!("{start}…"), allowed))
            }
            _ => Ok(text),
        }
    }

    fn list(&self, value: &Value) -> Result<Vec<String>, SettingProblem> {
        let items = value
            .as_array()
            .ok_or_else(|| self.wrong_type(value, "[]string"))?;
        if items.is_empty() && self.rule == Rule::NonEmptyList {
            return Err(self.not_allowed(value, "must have at least one item".to_owned()));
        }
        let text = |v: &Value| {
            v.as_str()
                .map(str::to_owned)
                .ok_or_else(|| self.wrong_type(v, "string"))
        };
        let texts: Vec<String> = items.iter().map(text).collect::<Result<_, _>>()?;
        if let Rule::ListOf(names) = self.rule {
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

/// The list of settings.
#[derive(Clone, Copy, Debug)]
pub struct Registry;

impl Registry {
    /// All of them, sorted by key.
    #[must_use]
    pub fn all() -> &'static [Setting] {
        SETTINGS
    }

    /// Those of sinks, sorted by key.
    pub fn of_sinks() -> impl Iterator<Item = &'static Setting> {
        SETTINGS.iter().filter(|s| s.scope == Scope::Sink)
    }

    /// The one of that name.
    #[must_use]
    pub fn get(key: &str) -> Option<&'static Setting> {
        SETTINGS
            .binary_search_by(|s| s.key.cmp(key))
            .ok()
            .map(|i| &SETTINGS[i])
    }
}
