//! Layers of the configuration: default < profile < file < environment < flag.

use std::collections::BTreeMap;
use std::path::Path;

use forebay_schema::nearest;
use serde_json::Value;

use super::catalog::{self, ConfigEntry, ConfigGroup, ConfigKey, ValueKind};
use super::document::{self, YamlContent, YamlKey, YamlNode};
use super::environment::{self, Environment};
use super::profile::KEBOOLA;
use super::substitution::substitute;
use super::violation::{ConfigViolation, ValueOrigin};

/// A value that is set.
#[derive(Clone, Debug)]
pub(crate) struct AssignedValue {
    pub(crate) key: &'static ConfigKey,
    pub(crate) value: Value,
    pub(crate) origin: ValueOrigin,
}

/// All values that are set; a later layer overrides an earlier one.
#[derive(Debug, Default)]
pub(crate) struct ConfigLayers {
    /// By key.
    pub(crate) assigned: BTreeMap<&'static str, AssignedValue>,
    pub(crate) violations: Vec<ConfigViolation>,
    /// Texts from references, and values of secret keys; masked in messages.
    pub(crate) secrets: Vec<String>,
}

impl ConfigLayers {
    fn assign(&mut self, key: &'static ConfigKey, value: Value, origin: ValueOrigin) {
        if let Some(text) = value.as_str().filter(|_| key.secret) {
            self.secrets.push(text.to_owned());
        }
        self.assigned
            .insert(&key.path, AssignedValue { key, value, origin });
    }

    pub(crate) fn add_file(&mut self, path: &Path, env: &Environment) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) => {
                let problem = format!("can't read {}: {e}", path.display());
                return self.violations.push(ConfigViolation::new(problem));
            }
        };
        match document::parse(&text) {
            Ok(node) => FileLayer {
                path,
                env,
                layers: self,
            }
            .group(catalog::root(), node),
            Err((line, what)) => {
                let line_suffix = line.map(|l| format!(":{l}")).unwrap_or_default();
                let problem = format!("{}{line_suffix}: this is not YAML: {what}", path.display());
                self.violations.push(ConfigViolation::new(problem));
            }
        }
    }

    pub(crate) fn add_environment(&mut self, env: &Environment) {
        for (name, text) in env.settings() {
            let origin = ValueOrigin::Variable(name.to_owned());
            match environment::key_for_variable(name) {
                Some(key) => match from_text(key, text) {
                    Ok(value) => self.assign(key, value, origin),
                    Err(problem) => self.violations.push(problem.with_origin(&origin)),
                },
                None => {
                    let names = catalog::root().keys();
                    let names = names.iter().map(|k| environment::variable(&k.path));
                    let problem = ConfigViolation::new(format!(
                        "there is no setting for the variable {name}"
                    ));
                    self.violations
                        .push(problem.did_you_mean(nearest(name, names)));
                }
            }
        }
    }

    /// Adds the defaults of the chosen profile for keys that are not set. Called last.
    pub(crate) fn add_profile(&mut self) {
        let chosen = self.assigned.get("profile").map(|a| a.value.clone());
        let is_keboola = chosen.is_some_and(|name| name == "keboola");
        for (path, text) in KEBOOLA.iter().filter(|_| is_keboola) {
            if self.assigned.contains_key(path) {
                continue;
            }
            let keys = catalog::root().keys();
            let value = keys
                .into_iter()
                .find(|k| k.path == *path)
                .map(|key| (key, from_text(key, text)));
            match value {
                Some((key, Ok(value))) => self.assign(key, value, ValueOrigin::Profile),
                Some((_, Err(problem))) => self
                    .violations
                    .push(problem.with_origin(&ValueOrigin::Profile)),
                None => {}
            }
        }
    }

    pub(crate) fn add_flag(&mut self, flag: &str, path: &str, text: &str) {
        let origin = ValueOrigin::Flag(flag.to_owned());
        let keys = catalog::root().keys();
        match keys.iter().find(|k| k.path == path) {
            Some(key) => match from_text(key, text) {
                Ok(value) => self.assign(key, value, origin),
                Err(problem) => self.violations.push(problem.with_origin(&origin)),
            },
            None => {
                let names = keys.iter().map(|k| k.path.clone());
                let problem = ConfigViolation::new(format!("there is no setting {path}"))
                    .with_origin(&origin);
                self.violations
                    .push(problem.did_you_mean(nearest(path, names)));
            }
        }
    }
}

/// Parses a value given as text.
fn from_text(key: &ConfigKey, text: &str) -> Result<Value, ConfigViolation> {
    let wrong = || ConfigViolation::value(key, &Value::from(text), key.allowed().as_deref());
    Ok(match key.kind {
        ValueKind::Integer => text
            .trim()
            .parse::<u64>()
            .map(Value::from)
            .map_err(|_| wrong())?,
        ValueKind::Bool => text
            .trim()
            .parse::<bool>()
            .map(Value::from)
            .map_err(|_| wrong())?,
        ValueKind::Texts => {
            let items = text.split(',').map(str::trim).filter(|t| !t.is_empty());
            Value::Array(items.map(Value::from).collect())
        }
        ValueKind::Address => Value::from(numeric(text)),
        ValueKind::Objects => document::parse(text)
            .map(|n| n.value())
            .map_err(|_| wrong())?,
        _ => Value::from(text),
    })
}

/// `localhost`, the one name with the same meaning on every host, becomes its address.
fn numeric(address: &str) -> String {
    match address.trim().strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => address.to_owned(),
    }
}

/// Walks the document of a file.
struct FileLayer<'a> {
    path: &'a Path,
    env: &'a Environment,
    layers: &'a mut ConfigLayers,
}

impl FileLayer<'_> {
    fn origin(&self, line: u64) -> ValueOrigin {
        ValueOrigin::File(self.path.to_owned(), line)
    }

    fn group(&mut self, group: &'static ConfigGroup, node: YamlNode) {
        let line = node.line;
        match node.content {
            YamlContent::Map(entries) => {
                for (name, node) in entries {
                    self.entry(group, name, node);
                }
            }
            // `api:` without entries.
            YamlContent::Scalar(Value::Null) => {}
            YamlContent::Scalar(_) | YamlContent::List(_) => {
                let what = if group.path.is_empty() {
                    "the file"
                } else {
                    &group.path
                };
                let problem = ConfigViolation::new(format!("{what} must have settings below it"));
                let problem = problem.with_origin(&self.origin(line));
                self.layers.violations.push(problem);
            }
        }
    }

    /// One entry; its name may be a full path.
    fn entry(&mut self, group: &'static ConfigGroup, name: YamlKey, node: YamlNode) {
        if let Some((first, rest)) = name.text.split_once('.')
            && let Some(ConfigEntry::Group(below)) = group.entry(first)
        {
            let mut below_name = name.clone();
            rest.clone_into(&mut below_name.text);
            return self.entry(below, below_name, node);
        }
        match group.entry(&name.text) {
            Some(ConfigEntry::Group(below)) => self.group(below, node),
            Some(ConfigEntry::Key(key)) => self.key(key, name.line, node),
            None => self.unknown(group, &name),
        }
    }

    fn key(&mut self, key: &'static ConfigKey, line: u64, mut node: YamlNode) {
        let origin = self.origin(line);
        let mut is_replaced = false;
        let replaced = document::change_texts(&mut node, &mut |text| {
            let changed = substitute(text, self.env)?;
            is_replaced |= changed.is_some();
            self.layers.secrets.extend(changed.clone());
            Ok(changed)
        });
        if let Err((line, what)) = replaced {
            let problem = ConfigViolation::new(format!("{}: {what}", key.path))
                .with_origin(&self.origin(line));
            return self.layers.violations.push(problem);
        }
        let plain = node.plain.take().map(|plain| plain.text);
        let value = match node.value() {
            // A variable is text, also where a number is expected.
            Value::String(text) if is_replaced => match from_text(key, &text) {
                Ok(value) => value,
                Err(problem) => return self.layers.violations.push(problem.with_origin(&origin)),
            },
            // A size or text that YAML parses as a number or boolean: use the source text.
            Value::Number(n) if !matches!(key.kind, ValueKind::Integer) => {
                Value::from(plain.unwrap_or_else(|| n.to_string()))
            }
            Value::Bool(b) if matches!(key.kind, ValueKind::Text | ValueKind::Word(_)) => {
                Value::from(plain.unwrap_or_else(|| b.to_string()))
            }
            Value::String(text) if key.kind == ValueKind::Address => Value::from(numeric(&text)),
            value => value,
        };
        self.layers.assign(key, value, origin);
    }

    fn unknown(&mut self, group: &ConfigGroup, name: &YamlKey) {
        let path = |n: &str| {
            if group.path.is_empty() {
                n.to_owned()
            } else {
                format!("{}.{n}", group.path)
            }
        };
        let here = group.entries.iter().map(|e| path(e.name()));
        let found = nearest(&path(&name.text), here).or_else(|| key_in_other_group(&name.text));
        let problem = ConfigViolation::new(format!("there is no setting {}", path(&name.text)));
        let problem = problem
            .with_origin(&self.origin(name.line))
            .did_you_mean(found);
        self.layers.violations.push(problem);
    }
}

/// A key of the same name in another group, for a hint.
fn key_in_other_group(name: &str) -> Option<String> {
    let last = name.rsplit('.').next().unwrap_or(name);
    let same = |k: &&&ConfigKey| k.name.eq_ignore_ascii_case(last);
    catalog::root()
        .keys()
        .iter()
        .find(same)
        .map(|k| k.path.clone())
}
