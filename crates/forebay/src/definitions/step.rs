//! Changes to single sources and sinks, with their requests.

use std::collections::{BTreeMap, BTreeSet};

use forebay_api::settings::{SettingChange, SettingView};
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};

use super::diff::FieldDifference;
use super::file::{SETTINGS, full_setting_name};
use crate::api_client::SOURCES;

/// Description of the versions created here.
const APPLIED: &str = "Applied a definition file.";
/// Field with the set of a source or sink.
pub(super) const SET: &str = "definitionSet";

/// Change to a source or sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ApplyAction {
    Create,
    Update,
    Delete,
    /// The server already matches the definition.
    Keep,
}

impl ApplyAction {
    /// Name in log lines.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "created",
            Self::Update => "changed",
            Self::Delete => "deleted",
            Self::Keep => "unchanged",
        }
    }

    /// Sign in front of a line.
    pub(crate) fn sign(self) -> char {
        match self {
            Self::Create => '+',
            Self::Update => '~',
            Self::Delete => '-',
            Self::Keep => '=',
        }
    }
}

/// Change to one source or sink.
#[derive(Clone, Debug)]
pub(crate) struct ApplyStep {
    /// Id of the source.
    pub(crate) source: String,
    /// Id of the sink; `None` for the source itself.
    pub(crate) sink: Option<String>,
    pub(crate) action: ApplyAction,
    /// Fields that differ; of a new one all.
    pub(crate) fields: Vec<FieldDifference>,
    /// Indices of the source and its sink in the definitions.
    pub(crate) place: Option<(usize, Option<usize>)>,
    /// In order. A sink that is deleted with its source has none.
    pub(super) requests: Vec<StepRequest>,
}

#[derive(Clone, Debug)]
pub(super) struct StepRequest {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Value,
}

impl ApplyStep {
    pub(super) fn new(
        source: &str,
        sink: Option<&str>,
        place: Option<(usize, Option<usize>)>,
    ) -> Self {
        Self {
            source: source.to_owned(),
            sink: sink.map(str::to_owned),
            action: ApplyAction::Keep,
            fields: Vec::new(),
            place,
            requests: Vec::new(),
        }
    }

    pub(crate) fn has_change(&self) -> bool {
        self.action != ApplyAction::Keep
    }

    /// Name, like `source my-events`.
    pub(crate) fn what(&self) -> String {
        match &self.sink {
            None => format!("source {}", self.source),
            Some(sink) => format!("sink {}/{sink}", self.source),
        }
    }

    pub(super) fn path(&self) -> String {
        let source = format!("{SOURCES}/{}", self.source);
        match &self.sink {
            None => source,
            Some(sink) => format!("{source}/sinks/{sink}"),
        }
    }

    /// Makes it a deletion.
    pub(super) fn delete(mut self, with_source: bool) -> Self {
        self.action = ApplyAction::Delete;
        if !with_source {
            self.requests.push(StepRequest {
                method: Method::DELETE,
                path: self.path(),
                body: Value::Null,
            });
        }
        self
    }

    /// Adds a request to change the definition.
    pub(super) fn update(&mut self, mut body: Value) {
        body["changeDescription"] = APPLIED.into();
        self.action = ApplyAction::Update;
        self.requests.push(StepRequest {
            method: Method::PATCH,
            path: self.path(),
            body,
        });
    }

    pub(super) fn create(&mut self, path: String, mut body: Value, set: Option<&String>) {
        if let Some(set) = set {
            body[SET] = set.as_str().into();
        }
        self.action = ApplyAction::Create;
        self.requests.push(StepRequest {
            method: Method::POST,
            path,
            body,
        });
    }

    /// Adds a request to change settings, if any differ.
    pub(super) fn change_settings(
        &mut self,
        wanted: &BTreeMap<String, Value>,
        now: &[SettingView],
        resets: bool,
    ) {
        let in_force = |key: &str| now.iter().find(|s| s.key == key).map(|s| &s.value);
        let mut changes = Vec::new();
        for (name, value) in wanted {
            let key = full_setting_name(name);
            let old = in_force(&key);
            if old != Some(value) {
                let field = format!("settings.{name}");
                self.fields.push(FieldDifference::new(
                    field,
                    old.cloned(),
                    Some(value.clone()),
                ));
                let value = value.clone();
                changes.push(SettingChange { key, value });
            }
        }
        let named: BTreeSet<String> = wanted.keys().map(|name| full_setting_name(name)).collect();
        let own = now
            .iter()
            .filter(|s| resets && s.overwritten && !s.protected);
        for setting in own.filter(|s| !named.contains(&s.key)) {
            let name = setting.key.strip_prefix(SETTINGS).unwrap_or(&setting.key);
            let field = format!("settings.{name}");
            self.fields.push(FieldDifference::new(
                field,
                Some(setting.value.clone()),
                None,
            ));
            changes.push(SettingChange {
                key: setting.key.clone(),
                value: Value::Null,
            });
        }
        if changes.is_empty() {
            return;
        }
        if self.action == ApplyAction::Keep {
            self.action = ApplyAction::Update;
        }
        self.requests.push(StepRequest {
            method: Method::PATCH,
            path: format!("{}/settings", self.path()),
            body: json!({ "changeDescription": APPLIED, "settings": changes }),
        });
    }
}
