//! Routes of the settings of sources and sinks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use forebay_meta::{SinkContent, SourceContent};
use forebay_model::settings::{SettingRegistry, SettingScope, SettingSpec as Known};
use forebay_model::{SettingsPatch, SinkSettings};
use serde_json::Value;

use super::body::{EmptyInput, JsonBody};
use super::call::ApiCall;
use super::error::{ApiError, FieldFinding, bullets};
use super::json_response::JsonResponse;
use super::tasks::{self, CompletedChange, TaskResponse};
use super::{SharedApi, sinks, sources};
use crate::auth::CallerIdentity;
use crate::compat::settings as compat;
use forebay_api::params::{SinkPath, SourcePath};
use forebay_api::settings::{SettingChange, SettingView, SettingsChange, SettingsView};
use forebay_api::task::TaskView;

/// Returns the settings of a source, which its sinks inherit.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/settings", tag = "source", operation_id = "GetSourceSettings",
    params(SourcePath),
    responses((status = 200, description = "All settings: first those of Keboola Stream sorted by key, then those of Forebay.", body = SettingsView))
)]
pub(super) async fn get_source(
    State(api): State<SharedApi>,
    call: ApiCall<SourcePath>,
) -> Result<JsonResponse<SettingsView>, ApiError> {
    let source = api.repo.source(&call.source_key()?).await?;
    let own = &source.settings;
    let mut defaults = api.repo.defaults().clone();
    let of_project = api.repo.quota(call.branch.project).await?;
    defaults.quota = of_project.source(defaults.quota);
    let effective = defaults.with(own);
    let view = view(SettingScope::Source, &defaults, &effective, own);
    Ok(JsonResponse::ok(view))
}

/// Returns the settings of a sink, which override those of its source.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/settings", tag = "sink", operation_id = "GetSinkSettings",
    params(SinkPath),
    responses((status = 200, description = "All settings: first those of Keboola Stream sorted by key, then those of Forebay.", body = SettingsView))
)]
pub(super) async fn get_sink(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath>,
) -> Result<JsonResponse<SettingsView>, ApiError> {
    let key = call.sink_key()?;
    let source = api.repo.source(&key.source).await?;
    let sink = sinks::existing(&api, &key).await?;
    let effective = api.repo.defaults().with(&source.settings);
    let effective = effective.with(&sink.settings);
    let view = view(
        SettingScope::Sink,
        api.repo.defaults(),
        &effective,
        &sink.settings,
    );
    Ok(JsonResponse::ok(view))
}

/// Changes the settings of a source. Settings of sinks take effect with their next files, quotas at
/// once.
#[utoipa::path(
    patch, path = "/v1/branches/{branchId}/sources/{sourceId}/settings", tag = "source", operation_id = "UpdateSourceSettings",
    params(SourcePath), request_body = SettingsChange,
    responses((status = 202, description = "The task that changes them.", body = TaskView))
)]
pub(super) async fn update_source(
    State(api): State<SharedApi>,
    call: ApiCall<SourcePath, EmptyInput, JsonBody<SettingsChange>>,
) -> Result<TaskResponse, ApiError> {
    let key = call.source_key()?;
    let requested = call.body.0.settings.unwrap_or_default();
    let changes = check(SettingScope::Source, &call.who, requested)?;
    api.repo.source(&key).await?;
    let description = description(call.body.0.change_description);
    let stamp = call.who.audit_stamp(api.clock.now());
    let (inner, subject) = (Arc::clone(&api), sources::subject(&key));
    let kind = "api.update.sourceSettings";
    tasks::start(&api, kind, subject, async move {
        let change = |content: &mut SourceContent| {
            apply(&changes, &mut content.settings);
            Ok(())
        };
        let repo = &inner.repo;
        let updated = repo.update_source(&key, &description, &stamp, change);
        Ok(CompletedChange::new(
            updated.await?.revision,
            "Source settings have been updated successfully.",
        ))
    })
    .await
}

/// Changes the settings of a sink, effective at once.
#[utoipa::path(
    patch, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/settings", tag = "sink", operation_id = "UpdateSinkSettings",
    params(SinkPath), request_body = SettingsChange,
    responses((status = 202, description = "The task that changes them.", body = TaskView))
)]
pub(super) async fn update_sink(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath, EmptyInput, JsonBody<SettingsChange>>,
) -> Result<TaskResponse, ApiError> {
    let key = call.sink_key()?;
    let requested = call.body.0.settings.unwrap_or_default();
    let changes = check(SettingScope::Sink, &call.who, requested)?;
    sinks::existing(&api, &key).await?;
    let description = description(call.body.0.change_description);
    let stamp = call.who.audit_stamp(api.clock.now());
    let (inner, subject) = (Arc::clone(&api), sinks::subject(&key));
    tasks::start(&api, "api.update.sinkSettings", subject, async move {
        let volumes = sinks::volumes(&inner).await?;
        let change = |content: &mut SinkContent| {
            apply(&changes, &mut content.settings);
            Ok(())
        };
        let repo = &inner.repo;
        let updated = repo.update_sink(&key, &description, &volumes, &stamp, change);
        Ok(CompletedChange::new(
            updated.await?.revision,
            "Sink settings have been updated successfully.",
        ))
    })
    .await
}

fn description(given: Option<String>) -> String {
    given.unwrap_or_else(|| "Updated settings.".to_owned())
}

fn view(
    scope: SettingScope,
    defaults: &SinkSettings,
    effective: &SinkSettings,
    own: &SettingsPatch,
) -> SettingsView {
    let setting = |s: &'static Known| SettingView {
        key: s.key.to_owned(),
        r#type: s.kind.into(),
        description: s.description.to_owned(),
        value: effective.value(s),
        default_value: defaults.value(s),
        overwritten: own.contains_key(s.key),
        protected: s.protected,
        validation: compat::rule_text(s),
    };
    SettingsView {
        settings: compat::listed()
            .filter(|s| is_in_scope(scope, s))
            .map(setting)
            .collect(),
    }
}

/// Sources also have the settings of sinks.
fn is_in_scope(scope: SettingScope, setting: &Known) -> bool {
    scope == SettingScope::Source || setting.scope == SettingScope::Sink
}

/// Operators may change quotas; other protected settings can't be changed.
fn may_change(who: &CallerIdentity, setting: &Known) -> bool {
    !setting.protected || (who.operator && setting.scope == SettingScope::Source)
}

/// New values by key; null resets to the inherited value.
pub(super) type SettingChanges = BTreeMap<String, Value>;

fn apply(changes: &SettingChanges, settings: &mut SettingsPatch) {
    for (key, value) in changes {
        if value.is_null() {
            settings.remove(key);
        } else {
            settings.insert(key.clone(), value.clone());
        }
    }
}

/// Checks keys first, then permissions, then values.
pub(super) fn check(
    scope: SettingScope,
    who: &CallerIdentity,
    requested: Vec<SettingChange>,
) -> Result<SettingChanges, ApiError> {
    let mut changes = SettingChanges::new();
    let mut twice = BTreeSet::new();
    for change in requested {
        if changes.insert(change.key.clone(), change.value).is_some() {
            twice.insert(change.key);
        }
    }
    if !twice.is_empty() {
        let text = |key: &String| format!("key \"{key}\" is defined multiple times.");
        let texts: Vec<String> = twice.iter().map(text).collect();
        return Err(ApiError::bad_request(bullets(&texts)));
    }
    let unknown = |key: &&String| !SettingRegistry::get(key).is_some_and(|s| is_in_scope(scope, s));
    if let Some(keys) = quoted(changes.keys().filter(unknown)) {
        let one = |key: &String| finding(key, format!("key not found: \"{key}\"."));
        let findings = changes.keys().filter(unknown).map(one).collect();
        return Err(ApiError {
            findings,
            ..ApiError::bad_request(format!("key not found: {keys}."))
        });
    }
    let protected = |key: &&String| SettingRegistry::get(key).is_some_and(|s| !may_change(who, s));
    if let Some(keys) = quoted(changes.keys().filter(protected)) {
        let one = |key: &String| finding(key, format!("cannot modify protected key \"{key}\"."));
        let findings = changes.keys().filter(protected).map(one).collect();
        return Err(ApiError {
            findings,
            ..ApiError::forbidden(format!("cannot modify protected keys: {keys}."))
        });
    }
    check_values(&changes)?;
    Ok(changes)
}

/// A violation of the setting `key`.
fn finding(key: &str, message: String) -> FieldFinding {
    FieldFinding {
        field: Some(format!("settings.{key}")),
        message,
    }
}

fn quoted<'k>(keys: impl Iterator<Item = &'k String>) -> Option<String> {
    let keys: Vec<String> = keys.map(|key| format!("\"{key}\"")).collect();
    (!keys.is_empty()).then(|| keys.join(", "))
}

fn check_values(changes: &SettingChanges) -> Result<(), ApiError> {
    let mut scratch = SinkSettings::default();
    let mut violations = Vec::new();
    for (key, value) in changes.iter().filter(|(_, value)| !value.is_null()) {
        if let Some(setting) = SettingRegistry::get(key)
            && let Err(problem) = setting.apply(&mut scratch, value)
        {
            violations.push((compat::violation_rank(key), key, problem.to_string()));
        }
    }
    if violations.is_empty() {
        return Ok(());
    }
    violations.sort();
    let findings = violations.into_iter();
    let findings = findings.map(|(_, key, text)| finding(key, text)).collect();
    Err(ApiError::from_findings(findings))
}
