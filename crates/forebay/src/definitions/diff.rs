//! Differences of two definitions, field by field.

use std::fmt;

use forebay_schema::yaml::field_path;
use serde::Serialize;
use serde_json::{Map, Value};

/// Characters of a value on a line.
const SHOWN_CHARS_MAX: usize = 120;

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FieldDifference {
    /// Path, like `columns.total.template`; a column by its name.
    pub(crate) field: String,
    /// The value on the server; absent if there is none, or if it is a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) old: Option<Value>,
    /// The new value; absent if the field is removed, or if it is a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) new: Option<Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_secret: bool,
}

impl FieldDifference {
    pub(super) fn new(field: impl Into<String>, old: Option<Value>, new: Option<Value>) -> Self {
        Self {
            field: field.into(),
            old,
            new,
            is_secret: false,
        }
    }

    /// First name of the path.
    pub(super) fn root(&self) -> &str {
        self.field.split('.').next().unwrap_or_default()
    }
}

impl fmt::Display for FieldDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, .. } = self;
        if self.is_secret {
            return write!(f, "~ {field}: changed");
        }
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, "~ {field}: {} → {}", shown(old), shown(new)),
            (None, Some(new)) => write!(f, "+ {field}: {}", shown(new)),
            (Some(old), None) => write!(f, "- {field}: {}", shown(old)),
            (None, None) => write!(f, "~ {field}"),
        }
    }
}

/// A value on one line.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Differences between two values. `secrets` are paths of secrets.
pub(super) fn differences(old: &Value, new: &Value, secrets: &[String]) -> Vec<FieldDifference> {
    let mut found = Vec::new();
    compare("", Some(old), Some(new), &mut found);
    for difference in &mut found {
        let holds = |secret: &String| {
            let rest = secret.strip_prefix(&difference.field);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if secrets.iter().any(holds) {
            difference.is_secret = true;
            difference.old = None;
            difference.new = None;
        }
    }
    found
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<FieldDifference>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let added = new.keys().filter(|name| !old.contains_key(*name));
            for name in old.keys().chain(added) {
                compare(&field_path(path, name), old.get(name), new.get(name), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => match (by_name(a), by_name(b)) {
            (Some(old), Some(new)) => compare_named(path, &old, &new, found),
            _ => found.push(FieldDifference::new(path, old.cloned(), new.cloned())),
        },
        _ => found.push(FieldDifference::new(path, old.cloned(), new.cloned())),
    }
}

/// The items of a list by their names; `None` if an item has none, or two have the same.
fn by_name(items: &[Value]) -> Option<Map<String, Value>> {
    let mut named = Map::new();
    for item in items {
        let mut item = item.as_object()?.clone();
        let name = item.shift_remove("name")?;
        let before = named.insert(name.as_str()?.to_owned(), Value::Object(item));
        if before.is_some() {
            return None;
        }
    }
    Some(named)
}

fn compare_named(
    path: &str,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    found: &mut Vec<FieldDifference>,
) {
    let before = found.len();
    let added = new.keys().filter(|name| !old.contains_key(*name));
    for name in old.keys().chain(added) {
        compare(&field_path(path, name), old.get(name), new.get(name), found);
    }
    let common = |of: &Map<String, Value>, other: &Map<String, Value>| -> Vec<String> {
        let names = of.keys().filter(|name| other.contains_key(*name));
        names.cloned().collect()
    };
    let is_reordered = common(old, new) != common(new, old);
    if is_reordered || found.len() == before {
        let names = |of: &Map<String, Value>| of.keys().cloned().collect::<Value>();
        let field = format!("{path} (order)");
        found.push(FieldDifference::new(
            field,
            Some(names(old)),
            Some(names(new)),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(old: &Value, new: &Value, secrets: &[String]) -> Vec<String> {
        let found = differences(old, new, secrets);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn columns_are_compared_by_name() {
        let old = json!({ "description": "a", "columns": [
            { "name": "id", "type": "uuid" },
            { "name": "user", "type": "path", "path": "user.id" },
            { "name": "env", "type": "static", "value": "prod" },
        ]});
        let new = json!({ "description": "b", "columns": [
            { "name": "user", "type": "path", "path": "user.key" },
            { "name": "id", "type": "uuid", "primaryKey": true },
            { "name": "ip", "type": "ip" },
        ]});
        assert_eq!(
            lines(&old, &new, &[]),
            [
                "~ description: \"a\" → \"b\"",
                "+ columns.id.primaryKey: true",
                "~ columns.user.path: \"user.id\" → \"user.key\"",
                "- columns.env: {\"type\":\"static\",\"value\":\"prod\"}",
                "+ columns.ip: {\"type\":\"ip\"}",
                "~ columns (order): [\"id\",\"user\",\"env\"] → [\"user\",\"id\",\"ip\"]",
            ]
        );
        assert!(lines(&old, &old, &[]).is_empty());
    }

    #[test]
    fn a_secret_is_only_reported_as_changed() {
        let old = json!({ "verify": { "type": "github", "secret": "old-value" } });
        let new = json!({ "verify": { "type": "github", "secret": "new-value" } });
        let secrets = ["verify.secret".to_owned()];
        assert_eq!(lines(&old, &new, &secrets), ["~ verify.secret: changed"]);
        // A part that has a secret is not shown either.
        assert_eq!(lines(&json!({}), &new, &secrets), ["~ verify: changed"]);
        let json = serde_json::to_string(&differences(&old, &new, &secrets)).unwrap();
        assert!(!json.contains("value"), "{json}");
    }
}
