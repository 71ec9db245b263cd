//! Plans the changes that make the server match definitions.

use std::collections::{BTreeMap, BTreeSet};

use forebay_api::settings::{SettingView, SettingsView};
use forebay_api::sink::{SinkList, SinkView};
use forebay_api::source::SourceView;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::diff::{FieldDifference, differences};
use super::schema::secret_paths;
use super::step::{ApplyAction, ApplyStep, SET};
use super::{SinkDefinition, SourceDefinition};
use crate::api_client::{ApiClient, PARALLEL_REQUESTS, SOURCES};
use crate::cli_error::CliError;

/// Options of applying definitions.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlanOptions {
    /// Set that new sources and sinks belong to.
    pub(crate) set: Option<String>,
    /// Delete sources and sinks of the set that are not defined, and reset their settings.
    pub(crate) prune: bool,
    /// Make defined sources and sinks of others part of the set.
    pub(crate) adopt: bool,
}

/// Steps for the sources and sinks of definitions, and for those to delete.
#[derive(Clone, Debug, Default)]
pub(crate) struct ApplyPlan {
    /// In the order of the definitions: each source, then its sinks; then the deletions.
    pub(crate) steps: Vec<ApplyStep>,
    /// Resources that are left alone, with reasons.
    pub(crate) notes: Vec<String>,
}

impl ApplyPlan {
    /// Compares definitions with the server's state.
    pub(crate) async fn new(
        api: &ApiClient,
        sources: &[&SourceDefinition],
        options: &PlanOptions,
    ) -> Result<Self, CliError> {
        let plans: Vec<SourcePlan> = stream::iter(sources.iter().enumerate())
            .map(|(index, source)| SourcePlan::new(api, index, source, options))
            .buffered(PARALLEL_REQUESTS)
            .try_collect()
            .await?;
        let mut plan = Self::default();
        let mut deletions = Vec::new();
        let mut defined = BTreeSet::new();
        for source in plans {
            defined.insert(source.id);
            plan.steps.extend(source.steps);
            plan.notes.extend(source.notes);
            deletions.extend(source.deletions);
        }
        plan.steps.extend(deletions);
        if let Some(set) = options.set.as_ref().filter(|_| options.prune) {
            plan.prune_others(api, &defined, set).await?;
        }
        Ok(plan)
    }

    /// Deletes what belongs to the set in sources that are not defined.
    async fn prune_others(
        &mut self,
        api: &ApiClient,
        defined: &BTreeSet<String>,
        set: &String,
    ) -> Result<(), CliError> {
        let all = api.list::<forebay_api::source::SourceList>(SOURCES).await?;
        let others = all.into_iter().filter(|s| !defined.contains(&s.source_id));
        let others: Vec<(SourceView, Vec<SinkView>)> = stream::iter(others)
            .map(async |source| {
                let sinks = format!("{SOURCES}/{}/sinks", source.source_id);
                let sinks = api.list::<SinkList>(&sinks).await?;
                Ok::<_, CliError>((source, sinks))
            })
            .buffered(PARALLEL_REQUESTS)
            .try_collect()
            .await?;
        for (source, sinks) in others {
            let id = &source.source_id;
            let is_own = source.definition_set.as_ref() == Some(set);
            let kept: Vec<&str> = sinks
                .iter()
                .filter(|sink| sink.definition_set.as_ref() != Some(set))
                .map(|sink| sink.sink_id.as_str())
                .collect();
            let with_source = is_own && kept.is_empty();
            if with_source {
                self.steps
                    .push(ApplyStep::new(id, None, None).delete(false));
            } else if is_own {
                let kept = kept.join(", ");
                self.notes.push(format!(
                    "source {id} is not deleted: the set {set} did not create its sinks {kept}"
                ));
            }
            for sink in sinks
                .iter()
                .filter(|sink| sink.definition_set.as_ref() == Some(set))
            {
                let step = ApplyStep::new(id, Some(&sink.sink_id), None);
                self.steps.push(step.delete(with_source));
            }
        }
        Ok(())
    }

    /// Number of steps with this action.
    pub(crate) fn count(&self, action: ApplyAction) -> usize {
        self.steps.iter().filter(|s| s.action == action).count()
    }

    /// Whether a step changes anything.
    pub(crate) fn has_changes(&self) -> bool {
        self.count(ApplyAction::Keep) < self.steps.len()
    }
}

/// Plan for one source.
struct SourcePlan {
    id: String,
    /// The source, then its sinks.
    steps: Vec<ApplyStep>,
    /// Sinks to delete.
    deletions: Vec<ApplyStep>,
    notes: Vec<String>,
}

/// State of a resource on the server.
struct CurrentState<V> {
    view: V,
    settings: Vec<SettingView>,
    is_owned: bool,
}

impl SourcePlan {
    async fn new(
        api: &ApiClient,
        index: usize,
        definition: &SourceDefinition,
        options: &PlanOptions,
    ) -> Result<Self, CliError> {
        let id = definition.source_id()?;
        let path = format!("{SOURCES}/{id}");
        let found: Option<SourceView> = api.find(&path).await?;
        let sinks_path = format!("{path}/sinks");
        let there = match &found {
            Some(_) => api.list::<SinkList>(&sinks_path).await?,
            None => Vec::new(),
        };
        let settings = &definition.settings;
        let current = CurrentState::new(api, found, &path, settings, options).await?;
        let mut steps = vec![source_step(
            definition,
            (index, &id),
            current.as_ref(),
            options,
        )];
        let there = there.into_iter().map(|s| (s.sink_id.clone(), s));
        let mut there: BTreeMap<String, SinkView> = there.collect();
        let mut wanted = Vec::with_capacity(definition.sinks.len());
        for sink in &definition.sinks {
            let sink_id = sink.sink_id()?;
            let found = there.remove(&sink_id);
            wanted.push((sink, sink_id, found));
        }
        let of_sinks = stream::iter(wanted.into_iter().enumerate())
            .map(async |(k, (sink, sink_id, found))| {
                let path = format!("{sinks_path}/{sink_id}");
                let settings = &sink.settings;
                let current = CurrentState::new(api, found, &path, settings, options).await?;
                let step = ApplyStep::new(&id, Some(&sink_id), Some((index, Some(k))));
                Ok::<_, CliError>(sink_step(sink, step, current.as_ref(), options))
            })
            .buffered(PARALLEL_REQUESTS)
            .try_collect::<Vec<_>>()
            .await?;
        steps.extend(of_sinks);
        let mut plan = Self {
            id,
            steps,
            deletions: Vec::new(),
            notes: Vec::new(),
        };
        plan.handle_others(there.into_values(), options);
        Ok(plan)
    }

    /// Sinks that are not defined: deleted if they belong to the set.
    fn handle_others(&mut self, others: impl Iterator<Item = SinkView>, options: &PlanOptions) {
        for sink in others {
            let (id, sink_id) = (&self.id, &sink.sink_id);
            let is_owned = sink.definition_set.is_some() && sink.definition_set == options.set;
            if options.prune && is_owned {
                let step = ApplyStep::new(id, Some(sink_id), None);
                self.deletions.push(step.delete(false));
            } else if options.prune {
                let set = options.set.as_deref().unwrap_or_default();
                self.notes.push(format!(
                    "sink {id}/{sink_id} is not deleted: the set {set} did not create it"
                ));
            } else {
                self.notes.push(format!(
                    "sink {id}/{sink_id} is not in the file and is not changed"
                ));
            }
        }
    }
}

/// A source or a sink.
trait DefinedView {
    fn definition_set(&self) -> Option<&String>;
}

impl DefinedView for SourceView {
    fn definition_set(&self) -> Option<&String> {
        self.definition_set.as_ref()
    }
}

impl DefinedView for SinkView {
    fn definition_set(&self) -> Option<&String> {
        self.definition_set.as_ref()
    }
}

impl<V: DefinedView> CurrentState<V> {
    /// Adds the settings to a view, if they are needed.
    async fn new(
        api: &ApiClient,
        found: Option<V>,
        path: &str,
        wanted: &BTreeMap<String, Value>,
        options: &PlanOptions,
    ) -> Result<Option<Self>, CliError> {
        let Some(view) = found else { return Ok(None) };
        let set = view.definition_set();
        let is_owned = set.is_some() && set == options.set.as_ref();
        let settings = if wanted.is_empty() && !(options.prune && is_owned) {
            Vec::new()
        } else {
            let path = format!("{path}/settings");
            api.get::<SettingsView>(&path).await?.settings
        };
        Ok(Some(Self {
            view,
            settings,
            is_owned,
        }))
    }
}

/// The change of the set, if the resource is to be adopted.
fn adoption(
    is_owned: bool,
    set: Option<&String>,
    options: &PlanOptions,
) -> Option<FieldDifference> {
    let new = options
        .set
        .as_ref()
        .filter(|_| options.adopt && !is_owned)?;
    let text = |set: &String| Value::from(set.as_str());
    Some(FieldDifference::new(SET, set.map(text), Some(text(new))))
}

fn source_step(
    definition: &SourceDefinition,
    (index, id): (usize, &str),
    current: Option<&CurrentState<SourceView>>,
    options: &PlanOptions,
) -> ApplyStep {
    let mut step = ApplyStep::new(id, None, Some((index, None)));
    let wanted = definition.compared();
    let secrets = secret_paths("SourceDefinition", &wanted);
    let verify = definition.verify.as_ref();
    let Some(current) = current else {
        step.fields = differences(&json!({}), &wanted, &secrets);
        step.fields
            .extend(verify.into_iter().flat_map(|v| v.differences(None)));
        step.create(
            SOURCES.to_owned(),
            definition.request(id),
            options.set.as_ref(),
        );
        step.change_settings(&definition.settings, &[], false);
        return step;
    };
    let found = SourceDefinition::from_view(&current.view, None).compared();
    step.fields = differences(&found, &wanted, &secrets);
    let signature = verify.map(|v| (v, v.differences(Some(&current.view))));
    let signature = signature.filter(|(_, fields)| !fields.is_empty());
    let mut body = changed_fields(&step.fields, &wanted);
    if let Some((verify, fields)) = signature {
        step.fields.extend(fields);
        body["verify"] = verify.request();
    }
    step.fields.extend(adoption(
        current.is_owned,
        current.view.definition_set.as_ref(),
        options,
    ));
    if !step.fields.is_empty() {
        set_adopted(&mut body, &step.fields);
        step.update(body);
    }
    let resets = options.prune && current.is_owned;
    step.change_settings(&definition.settings, &current.settings, resets);
    step
}

fn sink_step(
    definition: &SinkDefinition,
    mut step: ApplyStep,
    current: Option<&CurrentState<SinkView>>,
    options: &PlanOptions,
) -> ApplyStep {
    let id = step.sink.clone().unwrap_or_default();
    let wanted = definition.compared(&id);
    let secrets = secret_paths("SinkDefinition", &wanted);
    let request = definition.request(&id);
    let Some(current) = current else {
        step.fields = differences(&json!({}), &wanted, &secrets);
        let path = format!("{SOURCES}/{}/sinks", step.source);
        step.create(path, request, options.set.as_ref());
        step.change_settings(&definition.settings, &[], false);
        return step;
    };
    let found = SinkDefinition::from_view(&current.view, None);
    step.fields = differences(&found.compared(&id), &wanted, &secrets);
    step.fields.extend(adoption(
        current.is_owned,
        current.view.definition_set.as_ref(),
        options,
    ));
    if !step.fields.is_empty() {
        let mut body = sink_changes(&step.fields, &found, definition, &request);
        set_adopted(&mut body, &step.fields);
        step.update(body);
    }
    let resets = options.prune && current.is_owned;
    step.change_settings(&definition.settings, &current.settings, resets);
    step
}

/// The new values of the fields that differ; null removes one.
fn changed_fields(fields: &[FieldDifference], wanted: &Value) -> Value {
    let mut body = json!({});
    for name in fields.iter().map(FieldDifference::root) {
        body[name] = wanted[name].clone();
    }
    body
}

fn set_adopted(body: &mut Value, fields: &[FieldDifference]) {
    if let Some(set) = fields.iter().find(|f| f.field == SET) {
        body[SET] = set.new.clone().unwrap_or_default();
    }
}

/// Request body of a changed sink. The server rejects a change of type, with the reason.
fn sink_changes(
    fields: &[FieldDifference],
    found: &SinkDefinition,
    definition: &SinkDefinition,
    request: &Value,
) -> Value {
    if found.type_name() != definition.type_name() {
        return json!({ "type": definition.type_name() });
    }
    let mut body = json!({});
    for difference in fields {
        // Without the remark about the order.
        let name = difference.root().split(' ').next().unwrap_or_default();
        match name {
            SET => {}
            "table" => body["table"]["tableId"] = request["table"]["tableId"].clone(),
            "backend" => body["table"]["type"] = request["table"]["type"].clone(),
            "columns" => body["table"]["mapping"] = request["table"]["mapping"].clone(),
            "kafka" | "http" => {
                let field = difference.field.split('.').nth(1).unwrap_or_default();
                let field = field.split(' ').next().unwrap_or_default();
                body["topic"][field] = match (field, request["topic"].get(field)) {
                    ("method", None) => forebay_model::HttpMethod::default().name().into(),
                    (_, value) => value.cloned().unwrap_or_default(),
                };
            }
            name => body[name] = request[name].clone(),
        }
    }
    body
}
