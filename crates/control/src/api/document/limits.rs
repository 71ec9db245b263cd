//! Writes the configured limits of definitions into the document, from which `validate` enforces
//! them.

use forebay_model::limits::{DefinitionLimits, LimitSpec};
use serde_json::{Value, json};

use crate::api::validate::SETTING;

/// Properties by name that have a limit's default as their schema limit.
const LIMIT_TARGETS: [(&str, &[&str], &str); 7] = [
    ("idLength", &["sourceId", "sinkId"], "maxLength"),
    ("nameLength", &["name"], "maxLength"),
    (
        "descriptionLength",
        &["description", "changeDescription"],
        "maxLength",
    ),
    ("templateLength", &["content"], "maxLength"),
    ("columnsPerSink", &["columns", "fields"], "maxItems"),
    ("headersPerMessage", &["headers"], "maxItems"),
    ("settingsPerPatch", &["settings"], "maxItems"),
];

/// Writes the limits, and their settings unless the messages of the compatible service are
/// configured.
pub(super) fn write(document: &mut Value, limits: &DefinitionLimits, names_settings: bool) {
    let writer = LimitWriter {
        limits,
        names_settings,
    };
    writer.properties(&mut document["components"]);
    let paths = document["paths"].as_object_mut();
    let operations = paths.into_iter().flat_map(|p| p.values_mut());
    let operations = operations.filter_map(Value::as_object_mut);
    for operation in operations.flat_map(|methods| methods.values_mut()) {
        let parameters = operation.get_mut("parameters");
        let parameters = parameters.and_then(Value::as_array_mut);
        for parameter in parameters.into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap_or_default().to_owned();
            writer.write_limit(&name, &mut parameter["schema"]);
        }
    }
}

struct LimitWriter<'w> {
    limits: &'w DefinitionLimits,
    names_settings: bool,
}

impl LimitWriter<'_> {
    fn properties(&self, schema: &mut Value) {
        match schema {
            Value::Object(entries) => {
                if let Some(Value::Object(properties)) = entries.get_mut("properties") {
                    for (name, property) in properties.iter_mut() {
                        self.write_limit(name, property);
                    }
                }
                entries.values_mut().for_each(|s| self.properties(s));
            }
            Value::Array(items) => items.iter_mut().for_each(|s| self.properties(s)),
            _ => {}
        }
    }

    fn write_limit(&self, name: &str, property: &mut Value) {
        for (limit, names, keyword) in LIMIT_TARGETS {
            let limit = lookup(limit);
            if !names.contains(&name) || property.get(keyword) != Some(&json!(limit.default)) {
                continue;
            }
            property[keyword] = json!(limit.value_in(self.limits));
            if self.names_settings {
                property[SETTING] = json!(limit.setting);
            }
        }
    }
}

fn lookup(name: &str) -> &'static LimitSpec {
    let mut all = DefinitionLimits::ALL.iter();
    // A test checks the names.
    all.find(|l| l.name() == name)
        .unwrap_or(&DefinitionLimits::ALL[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_name_existing_limits() {
        for (name, ..) in LIMIT_TARGETS {
            assert_eq!(lookup(name).name(), name);
        }
    }
}
