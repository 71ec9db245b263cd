//! Reads a definition: parses the file, substitutes references, validates.

use std::fmt;
use std::path::{Path, PathBuf};

use forebay_model::words::counted;
use forebay_schema::check_document;
use forebay_schema::yaml::{self, PlainScalars};
use serde_json::Value;

use super::{
    JobDefinition, JobDestination, JobSource, LookupConfig, RowHashCacheConfig, TableStore, check,
    legacy,
};

/// Maximum size of a file in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Replaces the references in a string; `None` if it has none. An error has the reference, never a value.
pub type SubstituteFn<'a> = dyn Fn(&str) -> Result<Option<String>, String> + 'a;

/// All violations of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidDefinition {
    /// The file, as given by the user.
    pub file: String,
    /// Violations; never empty.
    pub all: Vec<String>,
}

impl fmt::Display for InvalidDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.all.as_slice() {
            [one] => write!(f, "{}: {one}", self.file),
            many => {
                write!(f, "{} has {}:", self.file, counted(many.len(), "problem"))?;
                many.iter().try_for_each(|p| write!(f, "\n  {p}"))
            }
        }
    }
}

pub(super) fn read(
    file: &Path,
    substitute: &SubstituteFn<'_>,
) -> Result<JobDefinition, InvalidDefinition> {
    let invalid = |all| InvalidDefinition {
        file: file.display().to_string(),
        all,
    };
    let (mut document, mut plains) = parse(file, substitute).map_err(invalid)?;
    if legacy::is_legacy(&document) {
        document = legacy::convert(&document, &plains).map_err(invalid)?;
        plains = PlainScalars::default();
    }
    let mut definition: JobDefinition = deserialize(document, &plains).map_err(invalid)?;
    if definition.name.is_empty() {
        let stem = file.file_stem().unwrap_or_default();
        definition.name = stem.to_string_lossy().into_owned();
    }
    let found = check::definition(&definition);
    if !found.is_empty() {
        return Err(invalid(found));
    }
    resolve_paths(&mut definition, file.parent().unwrap_or(Path::new("")));
    Ok(definition)
}

pub(super) fn read_lookup(
    file: &Path,
    substitute: &SubstituteFn<'_>,
) -> Result<LookupConfig, InvalidDefinition> {
    let invalid = |all| InvalidDefinition {
        file: file.display().to_string(),
        all,
    };
    let (document, plains) = parse(file, substitute).map_err(invalid)?;
    let mut lookup: LookupConfig = deserialize(document, &plains).map_err(invalid)?;
    let found = check::lookup(&lookup);
    if !found.is_empty() {
        return Err(invalid(found));
    }
    resolve_store_paths(&mut lookup.store, file.parent().unwrap_or(Path::new("")));
    Ok(lookup)
}

fn parse(file: &Path, substitute: &SubstituteFn<'_>) -> Result<(Value, PlainScalars), Vec<String>> {
    let one = |text: String| vec![text];
    let length = file.metadata().map(|m| m.len());
    match length {
        Err(e) => return Err(one(format!("can't be read: {e}"))),
        Ok(n) if n > FILE_BYTES_MAX => {
            return Err(one(format!("has {n} bytes, allowed is {FILE_BYTES_MAX}")));
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(file).map_err(|e| one(format!("can't be read: {e}")))?;
    let (mut document, plains) = yaml::parse(&text).map_err(|e| one(e.to_string()))?;
    let mut violations = Vec::new();
    replace(&mut document, "", substitute, &mut violations);
    if violations.is_empty() {
        Ok((document, plains))
    } else {
        Err(violations)
    }
}

fn replace(
    value: &mut Value,
    at: &str,
    substitute: &SubstituteFn<'_>,
    violations: &mut Vec<String>,
) {
    match value {
        Value::String(text) => match substitute(text) {
            Ok(None) => {}
            Ok(Some(replaced)) => *text = replaced,
            Err(problem) => violations.push(format!("{at}: {problem}")),
        },
        Value::Array(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                replace(item, &format!("{at}[{i}]"), substitute, violations);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                let at = if at.is_empty() {
                    name.clone()
                } else {
                    format!("{at}.{name}")
                };
                replace(field, &at, substitute, violations);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn deserialize<T: serde::de::DeserializeOwned + schemars::JsonSchema>(
    mut document: Value,
    plains: &PlainScalars,
) -> Result<T, Vec<String>> {
    let schema = schemars::schema_for!(T).to_value();
    let violations = check_document(&schema, &mut document, plains);
    if !violations.is_empty() {
        return Err(violations);
    }
    // Beyond the schema: sizes and durations, whose errors name them.
    serde_json::from_value(document).map_err(|e| vec![e.to_string()])
}

/// Local paths are relative to the file's folder, so that a job does not depend on the working directory.
fn resolve_paths(definition: &mut JobDefinition, folder: &Path) {
    let state = definition.state_dir();
    definition.state = Some(folder.join(state));
    if let JobSource::Files(files) = &mut definition.source {
        folder.clone_into(&mut files.folder);
        if let Some(path) = &mut files.s3.ca_file {
            resolve_path(path, folder);
        }
    }
    if let JobDestination::Table(table) = &mut definition.destination {
        resolve_store_paths(&mut table.store, folder);
        if let RowHashCacheConfig::Redis {
            ca_file: Some(path),
            ..
        } = &mut table.cache
        {
            resolve_path(path, folder);
        }
    }
}

fn resolve_store_paths(store: &mut TableStore, folder: &Path) {
    match store {
        TableStore::Sqlite { path } => resolve_path(path, folder),
        TableStore::Cassandra { tls: Some(tls), .. } => {
            if let Some(path) = &mut tls.ca_file {
                resolve_path(path, folder);
            }
        }
        TableStore::Postgres { .. } | TableStore::Cassandra { .. } => {}
    }
}

fn resolve_path(path: &mut PathBuf, folder: &Path) {
    *path = folder.join(std::mem::take(path));
}
