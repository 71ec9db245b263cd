//! All configuration keys with documentation, type and default. Generated from the schema of
//! [`Config`], so that a key is documented once: at its field.

use std::sync::LazyLock;

use forebay_schema::SchemaView;
use serde_json::Value;

use super::Config;

/// Type of a key's value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ValueKind {
    Text,
    Address,
    Integer,
    Bool,
    Word(Vec<String>),
    Texts,
    Objects,
    Size,
    Duration,
}

impl ValueKind {
    /// The allowed values, for messages. `None` where the parser reports them.
    pub(crate) fn allowed(&self) -> Option<String> {
        Some(match self {
            Self::Text | Self::Objects => return None,
            Self::Address => {
                "an IP address with a port, like 127.0.0.1:8000, 0.0.0.0:8000 or [::1]:8000, or localhost with one".to_owned()
            }
            Self::Integer => "a whole number".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Texts => "a list".to_owned(),
            Self::Size => "a size like 512KB or 5MB".to_owned(),
            Self::Duration => "a duration like 50ms, 10s or 1h30m".to_owned(),
        })
    }

    /// Name in the reference.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Address => "address".to_owned(),
            Self::Integer => "integer".to_owned(),
            Self::Bool => "boolean".to_owned(),
            Self::Word(words) => words.join(", "),
            Self::Texts | Self::Objects => "list".to_owned(),
            Self::Size => "size".to_owned(),
            Self::Duration => "duration".to_owned(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ConfigKey {
    /// Last part of the path.
    pub(crate) name: String,
    /// Full path, like `source.http.listen`.
    pub(crate) path: String,
    pub(crate) doc: String,
    pub(crate) kind: ValueKind,
    /// Value when the key is not set; null for none.
    pub(crate) default: Value,
    /// Words that items of a list may be.
    pub(crate) items: Vec<String>,
    /// The value is a secret.
    pub(crate) secret: bool,
    /// The value is or contains a secret: messages never quote it.
    pub(crate) holds_secrets: bool,
    /// Path of the optional group around this key, which is set as a whole or not at all.
    pub(crate) whole: Option<String>,
}

impl ConfigKey {
    /// The allowed values, for messages. `None` where the parser reports them.
    pub(crate) fn allowed(&self) -> Option<String> {
        let allowed = self.kind.allowed()?;
        if !self.items.is_empty() {
            return Some(format!("a list of {}", self.items.join(", ")));
        }
        Some(match (&self.kind, range_in_doc(&self.doc)) {
            (ValueKind::Integer, Some(range)) => format!("{allowed} from {range}"),
            (ValueKind::Size | ValueKind::Duration, Some(range)) => {
                format!("{allowed}, from {range}")
            }
            _ => allowed,
        })
    }
}

/// The range in a doc text: `1 to 1000`, `1KB to 16MB`.
fn range_in_doc(doc: &str) -> Option<String> {
    let words: Vec<&str> = doc.split_whitespace().collect();
    let is_number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    let range = words
        .windows(3)
        .rev()
        .find(|w| matches!(w, [from, "to", to] if is_number(from) && is_number(to)));
    let Some([from, _, to]) = range else {
        return None;
    };
    Some(format!(
        "{from} to {}",
        to.trim_end_matches(['.', ',', ';', ')'])
    ))
}

#[derive(Clone, Debug)]
pub(crate) struct ConfigGroup {
    /// Last part of the path; empty for the root.
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) doc: String,
    /// Absent unless set.
    pub(crate) optional: bool,
    /// Entries in order.
    pub(crate) entries: Vec<ConfigEntry>,
}

#[derive(Clone, Debug)]
pub(crate) enum ConfigEntry {
    Key(ConfigKey),
    Group(ConfigGroup),
}

impl ConfigEntry {
    /// Last part of the path.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Key(key) => &key.name,
            Self::Group(group) => &group.name,
        }
    }
}

impl ConfigGroup {
    pub(crate) fn entry(&self, name: &str) -> Option<&ConfigEntry> {
        self.entries.iter().find(|e| e.name() == name)
    }

    /// All keys below this group.
    pub(crate) fn keys(&self) -> Vec<&ConfigKey> {
        let mut keys = Vec::new();
        for entry in &self.entries {
            keys.extend(match entry {
                ConfigEntry::Key(key) => vec![key],
                ConfigEntry::Group(group) => group.keys(),
            });
        }
        keys
    }
}

/// The whole configuration.
pub(crate) fn root() -> &'static ConfigGroup {
    static ROOT: LazyLock<ConfigGroup> = LazyLock::new(|| {
        let schema = schema();
        let default = serde_json::to_value(Config::default()).unwrap_or_default();
        group(
            &SchemaView::root(&schema),
            "",
            String::new(),
            &default,
            None,
        )
    });
    &ROOT
}

pub(crate) fn schema() -> Value {
    let mut schema = schemars::schema_for!(Config).to_value();
    schema["title"] = Value::from("Configuration of Forebay");
    schema
}

fn group(
    schema: &SchemaView<'_>,
    name: &str,
    path: String,
    default: &Value,
    whole: Option<&str>,
) -> ConfigGroup {
    let optional = schema.nullable;
    let whole = whole.or_else(|| optional.then_some(path.as_str()));
    let entries = schema.properties().into_iter().map(|(name, schema)| {
        let path = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        let default = default.get(name).unwrap_or(&Value::Null);
        if schema.keyword("properties").is_some() {
            ConfigEntry::Group(group(&schema, name, path, default, whole))
        } else {
            ConfigEntry::Key(key(&schema, name, path, default, whole))
        }
    });
    let entries = entries.collect();
    ConfigGroup {
        name: name.to_owned(),
        doc: doc(schema),
        optional,
        entries,
        path,
    }
}

fn key(
    schema: &SchemaView<'_>,
    name: &str,
    path: String,
    default: &Value,
    whole: Option<&str>,
) -> ConfigKey {
    let kind = kind(schema, &path);
    let items = schema.items().and_then(|items| owned_words(&items));
    ConfigKey {
        items: items.unwrap_or_default(),
        name: name.to_owned(),
        doc: doc(schema),
        default: default.clone(),
        secret: schema.is_secret(),
        // Lists of objects have users, tokens and addresses: no message may quote them, whatever
        // fields they get later.
        holds_secrets: kind == ValueKind::Objects || schema.holds_secret(),
        kind,
        whole: whole.map(str::to_owned),
        path,
    }
}

fn kind(schema: &SchemaView<'_>, path: &str) -> ValueKind {
    match schema.definition() {
        Some("ByteSize") => return ValueKind::Size,
        Some("Duration") => return ValueKind::Duration,
        _ => {}
    }
    if let Some(words) = owned_words(schema) {
        return ValueKind::Word(words);
    }
    match schema.types().first().copied() {
        Some("integer") => ValueKind::Integer,
        Some("boolean") => ValueKind::Bool,
        Some("array") if matches!(path, "api.tokens" | "providers") => ValueKind::Objects,
        Some("array") => ValueKind::Texts,
        _ if path.ends_with(".listen") => ValueKind::Address,
        _ => ValueKind::Text,
    }
}

fn owned_words(schema: &SchemaView<'_>) -> Option<Vec<String>> {
    let words = schema.words()?.into_iter();
    Some(words.map(str::to_owned).collect())
}

/// The doc comment with one line per paragraph.
fn doc(schema: &SchemaView<'_>) -> String {
    let doc = schema.text("description").unwrap_or_default();
    let paragraphs = doc
        .split("\n\n")
        .map(|p| p.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_type_default_and_documentation() {
        let keys = root().keys();
        let key = |path: &str| *keys.iter().find(|k| k.path == path).unwrap();
        assert_eq!(key("api.listen").kind, ValueKind::Address);
        assert_eq!(key("api.listen").default, "127.0.0.1:8000");
        assert_eq!(key("log.segmentSize").kind, ValueKind::Size);
        assert_eq!(key("shutdown.grace").kind, ValueKind::Duration);
        assert_eq!(key("log.maxStreams").kind, ValueKind::Integer);
        let sync = ValueKind::Word(vec!["disk".into(), "cache".into(), "none".into()]);
        assert_eq!(key("log.sync").kind, sync);
        assert_eq!(
            key("storage.level.staging.upload.trigger.interval").kind,
            ValueKind::Duration
        );
        assert!(key("table.postgres.password").secret);
        for path in ["table.postgres.password", "providers", "api.tokens"] {
            assert!(key(path).holds_secrets, "{path}");
        }
        assert!(!key("roles").holds_secrets && !key("nodeId").holds_secrets);
        assert_eq!(
            key("source.http.tls.certFile").whole.as_deref(),
            Some("source.http.tls")
        );
        let allowed = |path: &str| key(path).allowed().unwrap_or_default();
        assert_eq!(
            allowed("roles"),
            "a list of api, source, storage, coordinator"
        );
        assert_eq!(
            allowed("api.maxConnections"),
            "a whole number from 1 to 1000000"
        );
        assert_eq!(
            allowed("api.bodyLimit"),
            "a size like 512KB or 5MB, from 1KB to 16MB"
        );
        assert_eq!(
            allowed("api.idleTimeout"),
            "a duration like 50ms, 10s or 1h30m, from 1s to 1h"
        );
        for key in &keys {
            assert!(!key.doc.is_empty(), "{} has no documentation", key.path);
        }
    }
}
