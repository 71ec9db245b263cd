//! The route that validates a set of definition changes without applying them, so that a client can
//! reject a file as a whole.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use forebay_meta::catalog::definitions::LimitedResource;
use forebay_model::settings::SettingScope;
use forebay_model::{CountLimit, SinkId, SinkKey, SourceId, SourceKey, SourceKind};
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::body::{EmptyInput, JsonBody, typed};
use super::call::{ApiCall, reject_foreign, source_key};
use super::error::{self, ApiError};
use super::json_response::JsonResponse;
use super::{ApiState, SharedApi, settings, sinks, sources, verify};
use crate::auth::CallerIdentity;
use forebay_api::definitions::{
    DefinitionChange, DefinitionCheck, DefinitionReport, DefinitionViolation,
};
use forebay_api::params::BranchPath;
use forebay_api::settings::SettingsChange;
use forebay_api::sink::{SinkCreate, SinkUpdate};
use forebay_api::source::{SourceCreate, SourceUpdate};

/// Validates definition changes without applying them. An extension of Forebay.
///
/// Each change is a request to create or update a source, a sink or their settings, as it would be
/// sent to its own address; a later change may depend on an earlier one. The response lists the
/// changes that would be rejected. Nothing is stored.
#[utoipa::path(
    post, path = "/v1/branches/{branchId}/definitions/validate", tag = "source", operation_id = "ValidateDefinitions",
    params(BranchPath), request_body = DefinitionCheck,
    responses((status = 200, description = "The changes that would be rejected; empty if all are valid.", body = DefinitionReport))
)]
pub(super) async fn validate(
    State(api): State<SharedApi>,
    call: ApiCall<BranchPath, EmptyInput, JsonBody<DefinitionCheck>>,
) -> Result<JsonResponse<DefinitionReport>, ApiError> {
    let mut validator = DefinitionValidator {
        api: &api,
        call: CallerScope {
            who: &call.who,
            branch: call.branch,
        },
        planned_sources: BTreeSet::new(),
        planned_sinks: BTreeSet::new(),
        sources: None,
        sinks: BTreeMap::new(),
    };
    let mut violations = Vec::new();
    for (index, change) in call.body.0.changes.into_iter().enumerate() {
        match validator.check(change).await {
            Ok(()) => {}
            // An unavailable store says nothing about the definitions.
            Err(error) if error.status().is_server_error() => return Err(error),
            Err(error) => {
                let name = error.name.full_name();
                let findings = error.into_findings().into_iter();
                violations.extend(findings.map(|finding| DefinitionViolation {
                    change: index,
                    error: name.clone(),
                    message: error::sentence(&finding.message),
                    field: finding.field,
                }));
            }
        }
    }
    Ok(JsonResponse::ok(DefinitionReport { violations }))
}

struct CallerScope<'a> {
    who: &'a CallerIdentity,
    branch: forebay_model::BranchKey,
}

/// Checks changes in order and remembers what they would create.
struct DefinitionValidator<'a> {
    api: &'a ApiState,
    call: CallerScope<'a>,
    planned_sources: BTreeSet<SourceKey>,
    planned_sinks: BTreeSet<SinkKey>,
    /// Number of sources after the changes.
    sources: Option<usize>,
    /// Number of sinks of each source that gets more.
    sinks: BTreeMap<SourceKey, usize>,
}

impl DefinitionValidator<'_> {
    async fn check(&mut self, change: DefinitionChange) -> Result<(), ApiError> {
        let DefinitionChange { method, path, body } = change;
        let segments: Vec<&str> = path.split('/').collect();
        match (method.as_str(), segments.as_slice()) {
            ("POST", ["sources"]) => self.create_source(&body).await,
            ("PATCH", ["sources", source]) => self.update_source(source, &body).await,
            ("PATCH", ["sources", source, "settings"]) => {
                let route = "/sources/{sourceId}/settings";
                let body: SettingsChange = self.body(&Method::PATCH, route, &body)?;
                let requested = body.settings.unwrap_or_default();
                settings::check(SettingScope::Source, self.call.who, requested)?;
                self.source(source).await.map(drop)
            }
            ("POST", ["sources", source, "sinks"]) => self.create_sink(source, &body).await,
            ("PATCH", ["sources", source, "sinks", sink]) => {
                self.update_sink(source, sink, &body).await
            }
            ("PATCH", ["sources", source, "sinks", sink, "settings"]) => {
                let route = "/sources/{sourceId}/sinks/{sinkId}/settings";
                let body: SettingsChange = self.body(&Method::PATCH, route, &body)?;
                let requested = body.settings.unwrap_or_default();
                settings::check(SettingScope::Sink, self.call.who, requested)?;
                let key = self.sink_key(source, sink)?;
                if !self.planned_sinks.contains(&key) {
                    sinks::existing(self.api, &key).await?;
                }
                Ok(())
            }
            _ => Err(ApiError::bad_request(format!(
                "{method} {path:?} is no change of a definition, allowed are POST of sources and \
                 sources/<id>/sinks, PATCH of sources/<id>, sources/<id>/sinks/<id> and either with /settings"
            ))),
        }
    }

    async fn create_source(&mut self, body: &Value) -> Result<(), ApiError> {
        let body: SourceCreate = self.body(&Method::POST, "/sources", body)?;
        let key = sources::check_new(self.api, self.call.branch, &body).await?;
        let verify = body.verify.as_ref();
        verify
            .map(|verify| verify::from_request(verify, None))
            .transpose()?;
        if !self.planned_sources.insert(key.clone()) {
            return Err(error::source_exists(key.source.as_str()));
        }
        let there = match self.sources {
            Some(there) => there,
            None => self.api.repo.sources(&key.branch, "", 1).await?.total,
        };
        self.sources = Some(there + 1);
        let max = self.api.repo.limits().sources_per_branch;
        let bound = CountLimit::new(max, "limits.sourcesPerBranch");
        check_limit(there, LimitedResource::Sources, bound)
    }

    async fn update_source(&self, source: &str, body: &Value) -> Result<(), ApiError> {
        let body: SourceUpdate = self.body(&Method::PATCH, "/sources/{sourceId}", body)?;
        let key = self.source(source).await?;
        let Some(request) = &body.verify else {
            return Ok(());
        };
        if self.planned_sources.contains(&key) {
            return verify::from_request(request, None).map(drop);
        }
        let SourceKind::Http { verify, .. } = &self.api.repo.source(&key).await?.value.kind;
        verify::from_request(request, verify.as_ref()).map(drop)
    }

    async fn create_sink(&mut self, source: &str, body: &Value) -> Result<(), ApiError> {
        let body: SinkCreate = self.body(&Method::POST, "/sources/{sourceId}/sinks", body)?;
        let source = self.source(source).await?;
        let is_planned = self.planned_sources.contains(&source);
        let new = sinks::NewSink::from_request(self.api, source, body).await?;
        if !is_planned {
            new.check_free(self.api).await?;
        }
        new.check_table(self.api, self.call.who).await?;
        if !self.planned_sinks.insert(new.key.clone()) {
            return Err(error::sink_exists(new.key.sink.as_str()));
        }
        let source = new.key.source;
        let there = match self.sinks.get(&source) {
            Some(there) => *there,
            None if is_planned => 0,
            None => self.api.repo.sinks(&source, "", 1).await?.total,
        };
        self.sinks.insert(source, there + 1);
        let max = self.api.repo.limits().sinks_per_source;
        check_limit(
            there,
            LimitedResource::Sinks,
            CountLimit::new(max, "limits.sinksPerSource"),
        )
    }

    async fn update_sink(&self, source: &str, sink: &str, body: &Value) -> Result<(), ApiError> {
        let route = "/sources/{sourceId}/sinks/{sinkId}";
        let mut body: SinkUpdate = self.body(&Method::PATCH, route, body)?;
        let key = self.sink_key(source, sink)?;
        sinks::SinkChanges::from_request(self.api, self.call.who, &key, &mut body)
            .await
            .map(drop)
    }

    /// The body, if it matches the schema of its operation.
    fn body<T: DeserializeOwned>(
        &self,
        method: &Method,
        route: &str,
        body: &Value,
    ) -> Result<T, ApiError> {
        let route = format!("/v1/branches/{{branchId}}{route}");
        let operation = self.api.operations.get(method, &route);
        let schema = operation.and_then(|o| o.body.as_deref());
        let schema = schema.ok_or_else(|| ApiError::internal("operation without a body"))?;
        typed(self.api, schema, body.clone())
    }

    /// A source that exists or would be created by an earlier change.
    async fn source(&self, id: &str) -> Result<SourceKey, ApiError> {
        let key = source_key(self.call.branch, id)?;
        if !self.planned_sources.contains(&key) {
            self.api.repo.source(&key).await?;
        }
        Ok(key)
    }

    fn sink_key(&self, source: &str, sink: &str) -> Result<SinkKey, ApiError> {
        let key = SinkKey {
            source: SourceKey {
                branch: self.call.branch,
                source: SourceId::from_raw(source),
            },
            sink: SinkId::from_raw(sink),
        };
        reject_foreign(&key)?;
        Ok(key)
    }
}

fn check_limit(there: usize, what: LimitedResource, bound: CountLimit) -> Result<(), ApiError> {
    if there >= bound.max {
        return Err(error::limit_reached(what, bound));
    }
    Ok(())
}
