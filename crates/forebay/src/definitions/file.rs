//! The definition file of `forebay apply`.

use std::collections::BTreeMap;

use forebay_api::settings::SettingsView;
use forebay_api::sink::{SinkType, SinkView};
use forebay_api::source::SourceView;
use forebay_model::{SinkId, SourceId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::wire_fields::{sink_wire_fields, source_wire_fields};
use super::{ColumnDefinition, TopicDefinition, VerifyDefinition};
use crate::cli_error::CliError;

/// Prefix of the names of most settings; optional in a file.
pub(super) const SETTINGS: &str = "storage.level.";
/// Prefix of source settings.
const SOURCE_SETTINGS: &str = "source.";
/// Backend of a table by default.
const DEFAULT_BACKEND: &str = "keboola";

/// Definitions of sources and their sinks, for `forebay apply`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DefinitionFile {
    /// Sources; at least one.
    pub(crate) sources: Vec<SourceDefinition>,
}

/// A source with its sinks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(crate) struct SourceDefinition {
    /// Display name.
    pub(crate) name: String,
    /// Id. Default: made from the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
    /// Signature that requests must have; without it the server's is unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) verify: Option<VerifyDefinition>,
    /// Further fields of the API, which are sent as they are. The schema allows only known ones.
    #[serde(flatten)]
    #[schemars(skip)]
    pub(crate) wire: Map<String, Value>,
    /// Settings of the source (`source.…`) and defaults of its sinks, by name; the prefix
    /// `storage.level.` is optional.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) settings: BTreeMap<String, Value>,
    /// Sinks of the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sinks: Vec<SinkDefinition>,
}

/// A sink: it has exactly one of `table`, `kafka` and `http`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(crate) struct SinkDefinition {
    /// Table, like `in.shop.orders`: `<in|out>.<bucket>.<table>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) table: Option<String>,
    /// A topic of Apache Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kafka: Option<TopicDefinition>,
    /// An HTTP endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<TopicDefinition>,
    /// Table backend, if not the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) backend: Option<String>,
    /// Display name. Default: the last part of the table id, or the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Id. Default: made from the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
    /// Further fields of the API, which are sent as they are. The schema allows only known ones.
    #[serde(flatten)]
    #[schemars(skip)]
    pub(crate) wire: Map<String, Value>,
    /// Settings by name; the prefix `storage.level.` is optional.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) settings: BTreeMap<String, Value>,
    /// Columns of a table, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) columns: Vec<ColumnDefinition>,
}

pub(super) fn full_setting_name(name: &str) -> String {
    if name.starts_with(SETTINGS) || name.starts_with(SOURCE_SETTINGS) {
        name.to_owned()
    } else {
        format!("{SETTINGS}{name}")
    }
}

/// Settings that a source or sink has itself, by short name.
fn own_settings(view: &SettingsView) -> BTreeMap<String, Value> {
    let own = view.settings.iter().filter(|s| s.overwritten);
    let short = |key: &str| key.strip_prefix(SETTINGS).unwrap_or(key).to_owned();
    own.map(|s| (short(&s.key), s.value.clone())).collect()
}

/// The fields of `names` in a view.
fn wire_fields(view: &impl Serialize, names: &[String]) -> Map<String, Value> {
    match serde_json::to_value(view) {
        Ok(Value::Object(fields)) => {
            let fields = fields.into_iter();
            fields.filter(|(name, _)| names.contains(name)).collect()
        }
        _ => Map::new(),
    }
}

/// A value without what has its own request.
fn without(value: &impl Serialize, names: &[&str]) -> Value {
    // Its keys are strings, so that it has a JSON form.
    let mut value = serde_json::to_value(value).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.retain(|name, _| !names.contains(&name.as_str()));
    }
    value
}

impl SourceDefinition {
    /// Id in the API.
    pub(crate) fn source_id(&self) -> Result<String, CliError> {
        let given = self.id.as_ref().unwrap_or(&self.name);
        let id = SourceId::from_name(given);
        id.map(|id| id.to_string())
            .map_err(|e| CliError::usage(format_args!("id of source \"{}\": {e}", self.name)))
    }

    /// API request that creates it.
    pub(crate) fn request(&self, id: &str) -> Value {
        let mut request = json!({
            "type": "http",
            "sourceId": id,
            "name": self.name,
            "description": self.description,
        });
        if let Some(verify) = &self.verify {
            request["verify"] = verify.request();
        }
        for (name, value) in &self.wire {
            request[name] = value.clone();
        }
        request
    }

    /// The definition of a source of the server, without its sinks.
    pub(crate) fn from_view(view: &SourceView, settings: Option<&SettingsView>) -> Self {
        Self {
            name: view.name.clone(),
            id: Some(view.source_id.clone()),
            description: view.description.clone(),
            verify: VerifyDefinition::exported(view),
            wire: wire_fields(view, source_wire_fields()),
            settings: settings.map(own_settings).unwrap_or_default(),
            sinks: Vec::new(),
        }
    }

    /// The fields that one request changes, except for the signature: its secrets can't be compared as
    /// values.
    pub(super) fn compared(&self) -> Value {
        let mut value = without(self, &["id", "verify", "settings", "sinks"]);
        value["description"] = self.description.as_str().into();
        value
    }

    /// Removes what is the default.
    pub(crate) fn simplify(&mut self) {
        let derived = SourceId::from_name(&self.name);
        let derived = derived.map(|id| id.to_string()).ok();
        self.id = self.id.take().filter(|id| Some(id) != derived.as_ref());
        self.sinks.iter_mut().for_each(SinkDefinition::simplify);
    }
}

impl SinkDefinition {
    pub(crate) fn shown_name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.default_name())
    }

    fn default_name(&self) -> &str {
        let of_table = self.table.as_ref().and_then(|t| t.rsplit('.').next());
        let of_topic = self.topic().map(|(_, topic)| topic.shown_name());
        of_table.or(of_topic).unwrap_or_default()
    }

    /// Topic and its type, for a topic sink.
    pub(crate) fn topic(&self) -> Option<(&'static str, &TopicDefinition)> {
        let kafka = self.kafka.as_ref().map(|topic| ("kafka", topic));
        kafka.or(self.http.as_ref().map(|topic| ("http", topic)))
    }

    fn topics_mut(&mut self) -> impl Iterator<Item = &mut TopicDefinition> {
        self.kafka.iter_mut().chain(&mut self.http)
    }

    /// Name of the type in the API.
    pub(super) fn type_name(&self) -> &'static str {
        self.topic().map_or("table", |(name, _)| name)
    }

    /// The field that keeps the definition from being a sink, and the reason.
    pub(super) fn violation(&self) -> Option<(&'static str, String)> {
        let targets = [
            self.table.is_some(),
            self.kafka.is_some(),
            self.http.is_some(),
        ];
        let name = self.shown_name();
        if targets.iter().filter(|t| **t).count() != 1 {
            let message = format!("sink \"{name}\" needs one of table, kafka and http");
            return Some(("", message));
        }
        for (field, is_given) in [
            ("columns", !self.columns.is_empty()),
            ("backend", self.backend.is_some()),
        ] {
            if self.table.is_none() && is_given {
                let message = format!(
                    "sink \"{name}\" is a topic: columns and backend are only for tables, see message"
                );
                return Some((field, message));
            }
        }
        (self.table.is_some() && self.columns.is_empty())
            .then(|| ("columns", format!("sink \"{name}\" has no columns")))
    }

    /// Id in the API.
    pub(crate) fn sink_id(&self) -> Result<String, CliError> {
        let given = self.id.as_deref().unwrap_or_else(|| self.shown_name());
        let id = SinkId::from_name(given);
        id.map(|id| id.to_string())
            .map_err(|e| CliError::usage(format_args!("id of sink \"{}\": {e}", self.shown_name())))
    }

    /// Backend in the API.
    pub(crate) fn backend_name(&self) -> &str {
        self.backend.as_deref().unwrap_or(DEFAULT_BACKEND)
    }

    /// API request that creates it.
    pub(crate) fn request(&self, id: &str) -> Value {
        let mut request = json!({
            "type": self.type_name(),
            "sinkId": id,
            "name": self.shown_name(),
            "description": self.description,
        });
        if let Some((_, topic)) = self.topic() {
            request["topic"] = topic.request(id);
        } else {
            let columns = self.columns.iter().map(ColumnDefinition::request);
            request["table"] = json!({
                "type": self.backend_name(),
                "tableId": self.table,
                "mapping": { "columns": columns.collect::<Vec<Value>>() },
            });
        }
        for (name, value) in &self.wire {
            request[name] = value.clone();
        }
        request
    }

    /// The definition of a sink of the server.
    pub(crate) fn from_view(view: &SinkView, settings: Option<&SettingsView>) -> Self {
        let table = view.table.as_ref();
        let topic = |kind| {
            let topic = view.topic.as_ref().filter(|_| view.r#type == kind);
            topic.map(TopicDefinition::from)
        };
        Self {
            table: table.map(|t| t.table_id.clone()),
            kafka: topic(SinkType::Kafka),
            http: topic(SinkType::Http),
            backend: table.map(|t| t.r#type.to_string()),
            name: Some(view.name.clone()),
            id: Some(view.sink_id.clone()),
            description: view.description.clone(),
            wire: wire_fields(view, sink_wire_fields()),
            settings: settings.map(own_settings).unwrap_or_default(),
            columns: table
                .map(|t| t.mapping.columns.iter().map(Into::into).collect())
                .unwrap_or_default(),
        }
    }

    /// The fields that one request changes, with defaults; `id` is the id of the sink.
    pub(super) fn compared(&self, id: &str) -> Value {
        let mut complete = self.clone();
        complete.name = Some(self.shown_name().to_owned());
        if complete.table.is_some() {
            complete.backend = Some(self.backend_name().to_owned());
        }
        for column in &mut complete.columns {
            column.set_raw(true);
            column.remove_text();
        }
        complete.topics_mut().for_each(|topic| topic.complete(id));
        let mut value = without(&complete, &["id", "settings"]);
        value["description"] = self.description.as_str().into();
        value
    }

    /// Removes what is the default.
    fn simplify(&mut self) {
        for column in &mut self.columns {
            column.remove_raw(true);
            column.remove_text();
        }
        self.topics_mut().for_each(TopicDefinition::simplify);
        self.backend = self.backend.take().filter(|b| b != DEFAULT_BACKEND);
        let derived = SinkId::from_name(self.shown_name());
        let derived = derived.map(|id| id.to_string()).ok();
        self.id = self.id.take().filter(|id| Some(id) != derived.as_ref());
        let default = self.default_name().to_owned();
        self.name = self.name.take().filter(|name| *name != default);
    }
}

#[cfg(test)]
mod tests;
