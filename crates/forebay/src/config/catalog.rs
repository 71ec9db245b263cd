//! All configuration keys with documentation, type and default. Generated from the schema of
//! [`Config`], so that a key is documented once: at its field.

use std::sync::LazyLock;

use serde_json::{Map, Value};

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
        let reader = SchemaReader {
            definitions: schema.get("$defs").cloned().unwrap_or_default(),
        };
        let found = ResolvedSchema {
            schema,
            ..ResolvedSchema::default()
        };
        reader.group(found, String::new(), String::new(), &default, None)
    });
    &ROOT
}

pub(crate) fn schema() -> Value {
    let mut schema = schemars::schema_for!(Config).to_value();
    schema["title"] = Value::from("Configuration of Forebay");
    schema
}

/// A schema with its references resolved.
#[derive(Default)]
struct ResolvedSchema {
    schema: Value,
    doc: Option<String>,
    definition: String,
    nullable: bool,
}

struct SchemaReader {
    definitions: Value,
}

impl SchemaReader {
    /// Resolves references and removes `null` from optional values.
    fn resolve_refs(&self, schema: &Value) -> ResolvedSchema {
        let own_doc = schema
            .get("description")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let choices = ["anyOf", "allOf"]
            .iter()
            .find_map(|k| schema.get(*k)?.as_array());
        let mut found = if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            let name = name.rsplit('/').next().unwrap_or(name);
            let target = self.definitions.get(name).cloned().unwrap_or_default();
            ResolvedSchema {
                definition: name.to_owned(),
                ..self.resolve_refs(&target)
            }
        } else if let Some(choices) = choices {
            let is_null = |s: &&Value| s.get("type") == Some(&Value::from("null"));
            let nullable = choices.iter().any(|s| is_null(&s));
            let first = choices.iter().find(|s| !is_null(s)).unwrap_or(&Value::Null);
            let inner = self.resolve_refs(first);
            ResolvedSchema {
                nullable: nullable || inner.nullable,
                ..inner
            }
        } else {
            let types = schema.get("type").and_then(Value::as_array);
            let nullable = types.is_some_and(|t| t.contains(&Value::from("null")));
            ResolvedSchema {
                schema: schema.clone(),
                nullable,
                ..ResolvedSchema::default()
            }
        };
        found.doc = own_doc.or(found.doc);
        found
    }

    fn group(
        &self,
        found: ResolvedSchema,
        name: String,
        path: String,
        default: &Value,
        whole: Option<&str>,
    ) -> ConfigGroup {
        let no_properties = Map::new();
        let properties = found.schema.get("properties").and_then(Value::as_object);
        let optional = found.nullable;
        let whole = whole.or_else(|| optional.then_some(path.as_str()));
        let entries = properties
            .unwrap_or(&no_properties)
            .iter()
            .map(|(name, schema)| {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                let default = default.get(name).unwrap_or(&Value::Null);
                let found = self.resolve_refs(schema);
                if found.schema.get("properties").is_some() {
                    ConfigEntry::Group(self.group(found, name.clone(), path, default, whole))
                } else {
                    ConfigEntry::Key(self.key(found, name, path, default, whole))
                }
            });
        let entries = entries.collect();
        ConfigGroup {
            name,
            doc: plain(found.doc),
            optional,
            entries,
            path,
        }
    }

    fn key(
        &self,
        found: ResolvedSchema,
        name: &str,
        path: String,
        default: &Value,
        whole: Option<&str>,
    ) -> ConfigKey {
        let kind = kind(&found, &path);
        let items = found
            .schema
            .get("items")
            .map(|items| self.resolve_refs(items));
        let items = items.and_then(|items| words(&items.schema));
        ConfigKey {
            items: items.unwrap_or_default(),
            name: name.to_owned(),
            doc: plain(found.doc),
            default: default.clone(),
            secret: is_secret(&found.schema),
            // Lists of objects have users, tokens and addresses: no message may quote them, whatever
            // fields they get later.
            holds_secrets: kind == ValueKind::Objects || self.has_secret(&found.schema),
            kind,
            whole: whole.map(str::to_owned),
            path,
        }
    }

    /// Whether the schema or one below it is a secret.
    fn has_secret(&self, schema: &Value) -> bool {
        let referred = schema.get("$ref").and_then(Value::as_str);
        let referred = referred.map(|name| name.rsplit('/').next().unwrap_or(name));
        let referred = referred.and_then(|name| self.definitions.get(name));
        is_secret(schema)
            || referred.is_some_and(|schema| self.has_secret(schema))
            || match schema {
                Value::Object(entries) => entries.values().any(|s| self.has_secret(s)),
                Value::Array(items) => items.iter().any(|s| self.has_secret(s)),
                _ => false,
            }
    }
}

fn is_secret(schema: &Value) -> bool {
    schema.get("writeOnly") == Some(&Value::Bool(true))
}

fn kind(found: &ResolvedSchema, path: &str) -> ValueKind {
    let schema = &found.schema;
    match found.definition.as_str() {
        "ByteSize" => return ValueKind::Size,
        "Duration" => return ValueKind::Duration,
        _ => {}
    }
    if let Some(words) = words(schema) {
        return ValueKind::Word(words);
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(one)) => vec![one],
        _ => Vec::new(),
    };
    match types.first().copied() {
        Some("integer") => ValueKind::Integer,
        Some("boolean") => ValueKind::Bool,
        Some("array") if matches!(path, "api.tokens" | "providers") => ValueKind::Objects,
        Some("array") => ValueKind::Texts,
        _ if path.ends_with(".listen") => ValueKind::Address,
        _ => ValueKind::Text,
    }
}

/// The words of an enumeration, in either form of a schema.
fn words(schema: &Value) -> Option<Vec<String>> {
    let text = |v: &Value| v.as_str().map(str::to_owned);
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words.iter().filter(|w| !w.is_null()).map(text).collect();
    }
    let one_of = schema.get("oneOf")?.as_array()?;
    let mut all = Vec::new();
    for choice in one_of {
        match (
            choice.get("const"),
            choice.get("enum").and_then(Value::as_array),
        ) {
            (Some(word), _) => all.push(text(word)?),
            (None, Some(words)) => all.extend(words.iter().filter_map(text)),
            (None, None) => return None,
        }
    }
    Some(all)
}

/// A doc comment with one line per paragraph.
fn plain(doc: Option<String>) -> String {
    let doc = doc.unwrap_or_default();
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
