//! Plans the changes that make the server match a definition file.

use std::collections::BTreeMap;

use forebay_api::settings::{SettingChange, SettingsView};
use forebay_api::sink::{SinkList, SinkView, TableSinkView};
use forebay_api::source::SourceView;
use forebay_api::topic::TopicSinkView;
use forebay_model::HttpMethod;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::{ColumnDefinition, SinkDefinition, SourceDefinition, TopicDefinition};
use crate::api_client::{ApiClient, PARALLEL_REQUESTS, SOURCES};
use crate::cli_error::CliError;

/// Description of the versions created here.
const APPLIED: &str = "Applied a definition file.";
/// Prefix of all setting names.
const SETTINGS: &str = "storage.level.";
/// Prefix of source settings.
const SOURCE_SETTINGS: &str = "source.";

/// Change to a source or sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApplyAction {
    Create,
    Update,
    /// It already matches.
    Keep,
}

impl ApplyAction {
    /// Text for the user: done, or only planned.
    pub(crate) fn describe(self, is_plan: bool) -> &'static str {
        match (self, is_plan) {
            (Self::Create, false) => "created",
            (Self::Create, true) => "would create",
            (Self::Update, false) => "updated",
            (Self::Update, true) => "would update",
            (Self::Keep, _) => "unchanged",
        }
    }
}

/// Change to one source or sink.
#[derive(Clone, Debug)]
pub(crate) struct ApplyStep {
    /// Name, like `source my-events`.
    pub(crate) what: String,
    /// Index of the sink; `None` for the source itself.
    pub(crate) sink: Option<usize>,
    pub(crate) change: ApplyAction,
    /// Fields that differ.
    pub(crate) differences: Vec<&'static str>,
    /// API path.
    pub(super) path: String,
    /// Request body.
    pub(super) body: Value,
}

/// Plan for one source.
#[derive(Clone, Debug)]
pub(crate) struct ApplyPlan {
    /// Id of the source.
    pub(crate) source: String,
    /// The source, then its sinks.
    pub(crate) steps: Vec<ApplyStep>,
    /// Sinks that are on the server but not in the file; they are not changed.
    pub(crate) others: Vec<String>,
}

impl ApplyPlan {
    /// Compares a definition with the server's state.
    pub(crate) async fn for_source(
        api: &ApiClient,
        definition: &SourceDefinition,
    ) -> Result<Self, CliError> {
        let id = definition.source_id()?;
        let found = api.find(&format!("{SOURCES}/{id}")).await?;
        let mut steps = vec![source_step(definition, &id, found.as_ref())];
        let source_path = format!("{SOURCES}/{id}");
        let is_new = found.is_none();
        steps.extend(
            settings_step(
                api,
                &definition.settings,
                (&steps[0].what, None),
                &source_path,
                is_new,
            )
            .await?,
        );
        let sinks = format!("{SOURCES}/{id}/sinks");
        let there = match found {
            Some(_) => api.list::<SinkList>(&sinks).await?,
            None => Vec::new(),
        };
        let there = there.into_iter().map(|s| (s.sink_id.clone(), s));
        let mut there: BTreeMap<String, SinkView> = there.collect();
        let mut wanted = Vec::with_capacity(definition.sinks.len());
        for sink in &definition.sinks {
            let sink_id = sink.sink_id()?;
            let found = there.remove(&sink_id);
            wanted.push((sink, sink_id, found));
        }
        let of_sinks = stream::iter(wanted.into_iter().enumerate())
            .map(|(index, (sink, sink_id, found))| {
                sink_steps(api, (&id, &sinks), (index, sink), sink_id, found)
            })
            .buffered(PARALLEL_REQUESTS)
            .try_collect::<Vec<_>>()
            .await?;
        steps.extend(of_sinks.into_iter().flatten());
        Ok(Self {
            source: id,
            steps,
            others: there.into_keys().collect(),
        })
    }

    /// Steps of the plan in groups: steps within a group are sequential, groups of different sinks may
    /// run concurrently. The source is the first group and runs before all others.
    pub(crate) fn groups(&self) -> Vec<&[ApplyStep]> {
        self.steps.chunk_by(|a, b| a.sink == b.sink).collect()
    }
}

/// Steps of a sink: create or update it, then its settings.
async fn sink_steps(
    api: &ApiClient,
    (source, sinks): (&str, &str),
    (index, sink): (usize, &SinkDefinition),
    id: String,
    found: Option<SinkView>,
) -> Result<Vec<ApplyStep>, CliError> {
    let what = format!("sink {source}/{id}");
    let path = format!("{sinks}/{id}");
    let of = (what.as_str(), Some(index));
    let settings = settings_step(api, &sink.settings, of, &path, found.is_none()).await?;
    let step = sink_step(sink, what, sinks, &id, found.as_ref());
    let step = ApplyStep {
        sink: Some(index),
        ..step
    };
    Ok([step].into_iter().chain(settings).collect())
}

fn source_step(definition: &SourceDefinition, id: &str, found: Option<&SourceView>) -> ApplyStep {
    let what = format!("source {id}");
    let Some(found) = found else {
        let body = definition.request(id);
        return ApplyStep {
            what,
            sink: None,
            change: ApplyAction::Create,
            differences: Vec::new(),
            path: SOURCES.to_owned(),
            body,
        };
    };
    let mut difference = DefinitionDiff::default();
    difference.text("name", &found.name, &definition.name);
    difference.text("description", &found.description, &definition.description);
    if let Some(verify) = definition.verify.as_ref().filter(|v| !v.matches(found)) {
        difference.names.push("verify");
        difference.body["verify"] = verify.request();
    }
    difference.step(what, format!("{SOURCES}/{id}"))
}

fn sink_step(
    definition: &SinkDefinition,
    what: String,
    sinks: &str,
    id: &str,
    found: Option<&SinkView>,
) -> ApplyStep {
    let body = definition.request(id);
    let Some(found) = found else {
        return ApplyStep {
            what,
            sink: None,
            change: ApplyAction::Create,
            differences: Vec::new(),
            path: sinks.to_owned(),
            body,
        };
    };
    let mut difference = DefinitionDiff::default();
    difference.text("name", &found.name, definition.shown_name());
    difference.text("description", &found.description, &definition.description);
    // The server rejects a change of type, with the reason.
    let kind = found.r#type.to_string();
    if let Some((wanted, topic)) = definition.topic() {
        difference.text("type", &kind, wanted);
        topic_difference(&mut difference, found.topic.as_ref(), topic, id);
    } else {
        difference.text("type", &kind, "table");
        table_difference(&mut difference, found.table.as_ref(), definition, &body);
    }
    difference.step(what, format!("{sinks}/{id}"))
}

/// `found` is `None` for a sink of another type.
fn topic_difference(
    difference: &mut DefinitionDiff,
    found: Option<&TopicSinkView>,
    definition: &TopicDefinition,
    id: &str,
) {
    let request = definition.request(id);
    let mut changes = json!({});
    for (name, shown) in [
        ("provider", found.map(|topic| &topic.provider)),
        ("topic", found.map(|topic| &topic.topic)),
    ] {
        if request[name].as_str() != shown.map(String::as_str) {
            difference.names.push(name);
            changes[name] = request[name].clone();
        }
    }
    let batches = found.and_then(|topic| topic.batches);
    if batches.unwrap_or_default() != definition.batches {
        difference.names.push("batches");
        changes["batches"] = definition.batches.into();
    }
    let default = HttpMethod::default().name();
    let method = definition.method.as_deref().unwrap_or(default);
    let shown = found.and_then(|topic| topic.method);
    if shown.map_or(default, |shown| HttpMethod::from(shown).name()) != method {
        difference.names.push("method");
        changes["method"] = method.into();
    }
    if !found.is_some_and(|topic| definition.message.matches(&topic.message)) {
        difference.names.push("message");
        changes["message"] = request["message"].clone();
    }
    if changes != json!({}) {
        difference.body["topic"] = changes;
    }
}

/// `found` is `None` for a sink of another type.
fn table_difference(
    difference: &mut DefinitionDiff,
    found: Option<&TableSinkView>,
    definition: &SinkDefinition,
    body: &Value,
) {
    let wanted = definition.table.as_deref().unwrap_or_default();
    let mut new_table = json!({});
    let backend = found.map(|table| table.r#type.to_string());
    if backend.as_deref() != Some(definition.backend_name()) {
        difference.names.push("backend");
        new_table["type"] = definition.backend_name().into();
    }
    if found.is_none_or(|table| table.table_id != wanted) {
        difference.names.push("table");
        new_table["tableId"] = wanted.into();
    }
    let columns = found.map(|table| table.mapping.columns.as_slice());
    let shown = columns.unwrap_or_default().iter();
    let shown = shown.map(|column| ColumnDefinition::from(column).request());
    let wanted = definition.columns.iter().map(ColumnDefinition::request);
    if !shown.eq(wanted) {
        difference.names.push("columns");
        new_table["mapping"] = body["table"]["mapping"].clone();
    }
    if new_table != json!({}) {
        difference.body["table"] = new_table;
    }
}

/// Settings that differ from the file; none if the file has none.
async fn settings_step(
    api: &ApiClient,
    wanted: &BTreeMap<String, Value>,
    (of, sink): (&str, Option<usize>),
    path: &str,
    is_new: bool,
) -> Result<Option<ApplyStep>, CliError> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let path = format!("{path}/settings");
    let current = if is_new {
        Vec::new()
    } else {
        api.get::<SettingsView>(&path).await?.settings
    };
    let in_force = |key: &str| {
        let mut all = current.iter();
        all.find(|s| s.key == key).map(|s| &s.value)
    };
    let full = |name: &String| {
        let is_full = name.starts_with(SETTINGS) || name.starts_with(SOURCE_SETTINGS);
        if is_full {
            name.clone()
        } else {
            format!("{SETTINGS}{name}")
        }
    };
    let all = wanted.iter().map(|(name, value)| (full(name), value));
    let changes: Vec<SettingChange> = all
        .filter(|(key, value)| in_force(key) != Some(value))
        .map(|(key, value)| SettingChange {
            key,
            value: value.clone(),
        })
        .collect();
    let change = if changes.is_empty() {
        ApplyAction::Keep
    } else {
        ApplyAction::Update
    };
    Ok(Some(ApplyStep {
        what: format!("settings of {of}"),
        sink,
        change,
        differences: vec!["values"],
        path,
        body: json!({ "changeDescription": APPLIED, "settings": changes }),
    }))
}

/// Fields of a source or sink that differ.
#[derive(Debug)]
struct DefinitionDiff {
    names: Vec<&'static str>,
    body: Value,
}

impl Default for DefinitionDiff {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            body: json!({}),
        }
    }
}

impl DefinitionDiff {
    fn text(&mut self, name: &'static str, found: &str, wanted: &str) {
        if found != wanted {
            self.names.push(name);
            self.body[name] = wanted.into();
        }
    }

    fn step(mut self, what: String, path: String) -> ApplyStep {
        let change = if self.names.is_empty() {
            ApplyAction::Keep
        } else {
            ApplyAction::Update
        };
        self.body["changeDescription"] = APPLIED.into();
        ApplyStep {
            what,
            sink: None,
            change,
            differences: self.names,
            path,
            body: self.body,
        }
    }
}
