//! `storage.level`: defaults of sink settings. Its keys come from the registry of settings, so that a
//! setting is described in one place.

use std::borrow::Cow;

use forebay_model::settings::{SettingRegistry, SettingRule, SettingSpec, SettingValueType};
use forebay_model::{ByteSize, HumanDuration, SinkSettings};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

/// Defaults of sinks.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StorageSection {
    pub(crate) level: SinkDefaults,
}

/// Defaults of sink settings, by their API names. Settings of a source or sink override them; a change
/// takes effect with the next file of a sink.
#[derive(Clone, Debug, Default)]
pub(crate) struct SinkDefaults(pub(crate) SinkSettings);

/// The parts of a setting's key below `storage.level.`.
fn steps(setting: &SettingSpec) -> impl Iterator<Item = &'static str> {
    let key = setting.key.strip_prefix("storage.level.");
    key.unwrap_or(setting.key).split('.')
}

impl Serialize for SinkDefaults {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tree = Value::Object(Map::new());
        for setting in SettingRegistry::sink_settings() {
            let mut at = &mut tree;
            for step in steps(setting) {
                at = &mut at[step];
            }
            *at = self.0.value(setting);
        }
        tree.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SinkDefaults {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tree = Value::deserialize(deserializer)?;
        let mut settings = SinkSettings::default();
        for setting in SettingRegistry::sink_settings() {
            let found = steps(setting).try_fold(&tree, |at, step| at.get(step));
            if let Some(value) = found {
                let applied = setting.apply(&mut settings, value);
                applied.map_err(serde::de::Error::custom)?;
            }
        }
        Ok(Self(settings))
    }
}

impl JsonSchema for SinkDefaults {
    fn schema_name() -> Cow<'static, str> {
        "SinkDefaults".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut root = json!({
            "type": "object",
            "additionalProperties": false,
            "description": "Defaults of sink settings, by their API names. Settings of a source or sink override them; a change takes effect with the next file of a sink.",
            "properties": {},
        });
        for setting in SettingRegistry::sink_settings() {
            let mut at = &mut root;
            let mut rest = steps(setting).peekable();
            while let Some(step) = rest.next() {
                at = &mut at["properties"][step];
                if rest.peek().is_none() {
                    *at = leaf(setting, generator);
                } else if at.is_null() {
                    *at = json!({ "type": "object", "additionalProperties": false, "properties": {} });
                }
            }
        }
        Schema::try_from(root).unwrap_or_default()
    }
}

fn leaf(setting: &SettingSpec, generator: &mut SchemaGenerator) -> Value {
    let shown = |allowed: String| format!("{} {allowed}.", setting.description);
    let (mut schema, description) = match setting.rule {
        SettingRule::Int(min, max) => (
            json!({ "type": "integer", "minimum": min, "maximum": max }),
            shown(format!("{min} to {max}")),
        ),
        SettingRule::Size(min, max) => (
            generator.subschema_for::<ByteSize>().to_value(),
            shown(format!("{min} to {max}")),
        ),
        SettingRule::Duration(min, max) => (
            generator.subschema_for::<HumanDuration>().to_value(),
            shown(format!("{min} to {max}")),
        ),
        SettingRule::OneOf(names) => (
            json!({ "type": "string", "enum": names }),
            setting.description.to_owned(),
        ),
        SettingRule::Any
        | SettingRule::NonEmptyList
        | SettingRule::Chars(_)
        | SettingRule::ListOf(_) => (
            match setting.kind {
                SettingValueType::Int => json!({ "type": "integer", "minimum": 0 }),
                SettingValueType::Bool => json!({ "type": "boolean" }),
                SettingValueType::String => json!({ "type": "string" }),
                SettingValueType::StringList => {
                    json!({ "type": "array", "items": { "type": "string" } })
                }
            },
            setting.description.to_owned(),
        ),
    };
    schema["description"] = Value::from(description);
    schema
}
