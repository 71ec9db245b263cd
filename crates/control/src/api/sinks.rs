//! Routes of sinks.

use std::sync::Arc;

use axum::extract::State;
use forebay_meta::catalog::definitions::UpdateRejection;
use forebay_meta::{DefinitionError, ListPage, SinkContent};
use forebay_model::{
    Mapping, SettingsPatch, SinkId, SinkKey, SinkTarget, SourceKey, TableBackend, TableId,
    TableSink, VolumeId,
};

use super::body::{EmptyInput, JsonBody};
use super::call::{ApiCall, reject_foreign};
use super::error::{self, ApiError};
use super::id_reuse;
use super::json_response::JsonResponse;
use super::mapping::{backend, mapping, table_id};
use super::sources::{invalid_id, reject_reserved, replace, replace_set};
use super::table_check;
use super::tasks::{self, CompletedChange, TaskResponse};
use super::topics::{self, TopicChange};
use super::views::ToView;
use super::{ApiState, SharedApi};
use crate::auth::CallerIdentity;
use crate::task::TaskSubject;
use forebay_api::params::{ListQuery, SinkPath, SourcePath};
use forebay_api::sink::{
    SinkCreate, SinkList, SinkType, SinkUpdate, SinkView, TableCreate, TableUpdate,
};
use forebay_api::task::TaskView;
use forebay_api::topic::TopicCreate;

/// Creates a sink.
#[utoipa::path(
    post, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks", tag = "sink", operation_id = "CreateSink",
    params(SourcePath), request_body = SinkCreate,
    extensions(("x-errors" = json!(["sinkAlreadyExists", "sinkIdInUse", "tableNotAvailable"]))),
    responses((status = 202, description = "The task that creates it.", body = TaskView))
)]
pub(super) async fn create(
    State(api): State<SharedApi>,
    call: ApiCall<SourcePath, EmptyInput, JsonBody<SinkCreate>>,
) -> Result<TaskResponse, ApiError> {
    let new = NewSink::from_request(&api, call.source_key()?, call.body.0).await?;
    api.repo.source(&new.key.source).await?;
    new.check_free(&api).await?;
    let checked = new.check_table(&api, &call.who).await?;
    let NewSink { key, content, kind } = new;
    let stamp = call.who.audit_stamp(api.clock.now());
    let (inner, subject) = (Arc::clone(&api), subject(&key));
    tasks::start(&api, "api.create.sink", subject, async move {
        id_reuse::reject_in_task(&inner, &key, kind).await?;
        let volumes = volumes(&inner).await?;
        checked.record_adoption(&inner, &stamp).await?;
        let repo = &inner.repo;
        let made = repo.create_sink(&key, content, "New sink.", &volumes, &stamp);
        Ok(
            CompletedChange::new(made.await?.revision, "Sink has been created successfully.")
                .warn(checked.warnings),
        )
    })
    .await
}

/// A validated new sink.
pub(super) struct NewSink {
    pub(super) key: SinkKey,
    content: SinkContent,
    kind: SinkType,
}

impl NewSink {
    /// Validates a request.
    pub(super) async fn from_request(
        api: &ApiState,
        source: SourceKey,
        body: SinkCreate,
    ) -> Result<Self, ApiError> {
        let given = body.sink_id.as_deref().unwrap_or(&body.name);
        let max = api.repo.limits().id_length as usize;
        let sink = SinkId::from_name_within(given, max);
        let sink = sink.map_err(|e| invalid_id("sinkId", &e))?;
        reject_reserved("sinkId", sink.as_str())?;
        let kind = body.r#type;
        let content = SinkContent {
            target: target(api, sink.as_str(), kind, body.table, body.topic).await?,
            name: body.name,
            description: body.description.unwrap_or_default(),
            settings: SettingsPatch::new(),
            definition_set: body.definition_set,
        };
        let key = SinkKey { source, sink };
        Ok(Self { key, content, kind })
    }

    /// Checks at the backend whether the sink may use its table.
    pub(super) async fn check_table(
        &self,
        api: &ApiState,
        who: &CallerIdentity,
    ) -> Result<table_check::TableCheck, ApiError> {
        match self.content.target.table() {
            Some(table) => table_check::check(api, who, table).await,
            None => Ok(table_check::TableCheck::default()),
        }
    }

    /// Rejects an id that is used, or that a deleted sink of another type with data left had.
    pub(super) async fn check_free(&self, api: &ApiState) -> Result<(), ApiError> {
        match api.repo.sink(&self.key).await {
            Err(DefinitionError::SinkNotFound(_)) => {}
            Ok(_) => return Err(error::sink_exists(self.key.sink.as_str())),
            Err(e) => return Err(e.into()),
        }
        id_reuse::reject_other_type(api, &self.key, self.kind).await
    }
}

/// Target of a new sink.
async fn target(
    api: &ApiState,
    sink: &str,
    r#type: SinkType,
    table: Option<TableCreate>,
    topic: Option<TopicCreate>,
) -> Result<SinkTarget, ApiError> {
    let only = |field: &str, types: &str| {
        let text = format!("\"{field}\" is only for the sink types {types}.");
        ApiError::bad_request(text)
    };
    let Some(kind) = topics::kind(r#type) else {
        if topic.is_some() {
            return Err(only("topic", "\"kafka\" and \"http\""));
        }
        let table = table.ok_or_else(|| {
            ApiError::bad_request("\"table\" must be configured for the \"table\" sink type.")
        })?;
        let parts = (
            backend(api, table.r#type),
            table_id(&table.table_id),
            mapping(api, table.mapping).await,
        );
        return match parts {
            (Ok(backend), Ok(table), Ok(mapping)) => Ok(SinkTarget::Table(TableSink {
                backend,
                table,
                mapping,
            })),
            (backend, table, mapping) => Err(all_of([backend.err(), table.err(), mapping.err()])),
        };
    };
    if table.is_some() {
        return Err(only("table", "\"table\""));
    }
    let name = kind.name();
    let topic = topic.ok_or_else(|| {
        ApiError::bad_request(format!(
            "\"topic\" must be configured for the \"{name}\" sink type."
        ))
    })?;
    let topic = topics::topic(api, kind, sink, topic).await?;
    Ok(SinkTarget::Topic(topic))
}

/// The violations of several parts; an error of the server alone.
fn all_of<const N: usize>(errors: [Option<ApiError>; N]) -> ApiError {
    let mut errors: Vec<ApiError> = errors.into_iter().flatten().collect();
    match errors.iter().position(|e| e.status().is_server_error()) {
        Some(at) => errors.swap_remove(at),
        None => ApiError::combine(errors).unwrap_or_else(|| ApiError::internal("no violation")),
    }
}

/// Lists the sinks of a source.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks", tag = "sink", operation_id = "ListSinks",
    params(SourcePath, ListQuery),
    responses((status = 200, description = "A page of sinks, sorted by id.", body = SinkList))
)]
pub(super) async fn list(
    State(api): State<SharedApi>,
    call: ApiCall<SourcePath, ListQuery>,
) -> Result<JsonResponse<SinkList>, ApiError> {
    let source = call.source_key()?;
    api.repo.source(&source).await?;
    let (after, limit) = (&call.query.after_id, call.query.limit as usize);
    let listing = api.repo.sinks(&source, after, limit).await?;
    Ok(JsonResponse::ok(sink_list(&call, &listing)))
}

/// Lists the deleted sinks of a source.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/deleted", tag = "sink", operation_id = "ListDeletedSinks",
    params(SourcePath, ListQuery),
    responses((status = 200, description = "A page of deleted sinks, sorted by id.", body = SinkList))
)]
pub(super) async fn list_deleted(
    State(api): State<SharedApi>,
    call: ApiCall<SourcePath, ListQuery>,
) -> Result<JsonResponse<SinkList>, ApiError> {
    let source = call.source_key()?;
    api.repo.source(&source).await?;
    let (after, limit) = (&call.query.after_id, call.query.limit as usize);
    let listing = api.repo.deleted_sinks(&source, after, limit).await?;
    Ok(JsonResponse::ok(sink_list(&call, &listing)))
}

fn sink_list(
    call: &ApiCall<SourcePath, ListQuery>,
    listing: &ListPage<forebay_model::Sink>,
) -> SinkList {
    let last = listing.items.last();
    let last = last.map_or("", |s| s.key.sink.as_str());
    SinkList {
        project_id: call.branch.project.0,
        branch_id: call.branch.branch.0,
        source_id: call.path.source_id.clone(),
        page: call.query.page(listing.total, last),
        sinks: listing.items.iter().map(ToView::to_view).collect(),
    }
}

/// Returns a sink.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}", tag = "sink", operation_id = "GetSink",
    params(SinkPath),
    responses((status = 200, description = "The sink.", body = SinkView))
)]
pub(super) async fn get(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath>,
) -> Result<JsonResponse<SinkView>, ApiError> {
    let sink = existing(&api, &call.sink_key()?).await?;
    Ok(JsonResponse::ok(sink.to_view()))
}

/// Changes a sink. Records accepted before are imported with the previous definition.
#[utoipa::path(
    patch, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}", tag = "sink", operation_id = "UpdateSink",
    params(SinkPath), request_body = SinkUpdate,
    extensions(("x-errors" = json!(["tableNotAvailable"]))),
    responses((status = 202, description = "The task that changes it.", body = TaskView))
)]
pub(super) async fn update(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath, EmptyInput, JsonBody<SinkUpdate>>,
) -> Result<TaskResponse, ApiError> {
    let key = call.sink_key()?;
    let mut body = call.body.0;
    let (changes, checked) = SinkChanges::from_request(&api, &call.who, &key, &mut body).await?;
    let stamp = call.who.audit_stamp(api.clock.now());
    let (inner, subject) = (Arc::clone(&api), subject(&key));
    tasks::start(&api, "api.update.sink", subject, async move {
        let volumes = volumes(&inner).await?;
        checked.record_adoption(&inner, &stamp).await?;
        let description = body.change_description.as_deref().unwrap_or("Updated.");
        let change = |content: &mut SinkContent| {
            replace(&mut content.name, body.name.as_ref());
            replace(&mut content.description, body.description.as_ref());
            replace_set(&mut content.definition_set, body.definition_set.as_ref());
            changes
                .apply(&inner, &mut content.target)
                .map_err(|e| Box::new(e) as UpdateRejection)
        };
        let repo = &inner.repo;
        let updated = repo.update_sink(&key, description, &volumes, &stamp, change);
        Ok(CompletedChange::new(
            updated.await?.revision,
            "Sink has been updated successfully.",
        )
        .warn(checked.warnings))
    })
    .await
}

/// Validated changes of a table.
struct TableChange {
    backend: Option<TableBackend>,
    table: Option<TableId>,
    mapping: Option<Mapping>,
}

impl TableChange {
    async fn from_request(api: &ApiState, request: TableUpdate) -> Result<Self, ApiError> {
        let parts = (
            request.r#type.map(|t| backend(api, t)).transpose(),
            request.table_id.as_deref().map(table_id).transpose(),
            match request.mapping {
                Some(request) => mapping(api, request).await.map(Some),
                None => Ok(None),
            },
        );
        match parts {
            (Ok(backend), Ok(table), Ok(mapping)) => Ok(Self {
                backend,
                table,
                mapping,
            }),
            (backend, table, mapping) => Err(all_of([backend.err(), table.err(), mapping.err()])),
        }
    }
}

/// Validated changes of a target.
pub(super) struct SinkChanges {
    r#type: Option<SinkType>,
    table: Option<TableChange>,
    topic: Option<TopicChange>,
}

impl SinkChanges {
    /// Validates a request against the current sink, and checks the table that it would have.
    pub(super) async fn from_request(
        api: &ApiState,
        who: &CallerIdentity,
        key: &SinkKey,
        body: &mut SinkUpdate,
    ) -> Result<(Self, table_check::TableCheck), ApiError> {
        let changes = Self {
            r#type: body.r#type,
            table: match body.table.take() {
                Some(request) => Some(TableChange::from_request(api, request).await?),
                None => None,
            },
            topic: match body.topic.take() {
                Some(request) => Some(TopicChange::from_request(api, request).await?),
                None => None,
            },
        };
        let mut now = existing(api, key).await?;
        changes.apply(api, &mut now.target)?;
        let checked = match now.target.table().filter(|_| changes.table.is_some()) {
            Some(table) => table_check::check(api, who, table).await?,
            None => table_check::TableCheck::default(),
        };
        Ok((changes, checked))
    }

    /// Applies the changes if the target type matches.
    fn apply(&self, api: &ApiState, target: &mut SinkTarget) -> Result<(), ApiError> {
        let is = target.type_name();
        if self
            .r#type
            .is_some_and(|t| t != SinkType::from_target(target))
        {
            return Err(ApiError::bad_request(format!(
                "the type of a sink can't be changed: it is \"{is}\", create another sink."
            )));
        }
        let reject = |field: &str| {
            let text = format!("\"{field}\" can't be set: the type of the sink is \"{is}\".");
            Err(ApiError::bad_request(text))
        };
        match target {
            SinkTarget::Table(_) if self.topic.is_some() => reject("topic"),
            SinkTarget::Topic(_) if self.table.is_some() => reject("table"),
            SinkTarget::Table(table) => {
                if let Some(change) = &self.table {
                    replace(&mut table.backend, change.backend.as_ref());
                    replace(&mut table.table, change.table.as_ref());
                    replace(&mut table.mapping, change.mapping.as_ref());
                }
                Ok(())
            }
            SinkTarget::Topic(topic) => match &self.topic {
                Some(change) => change.apply(api, topic),
                None => Ok(()),
            },
        }
    }
}

/// Deletes a sink. Accepted records are still delivered.
#[utoipa::path(
    delete, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}", tag = "sink", operation_id = "DeleteSink",
    params(SinkPath),
    responses((status = 202, description = "The task that deletes it.", body = TaskView))
)]
pub(super) async fn delete(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath>,
) -> Result<TaskResponse, ApiError> {
    let key = call.sink_key()?;
    existing(&api, &key).await?;
    let stamp = call.who.audit_stamp(api.clock.now());
    let (inner, subject) = (Arc::clone(&api), subject(&key));
    tasks::start(&api, "api.delete.sink", subject, async move {
        Ok(CompletedChange::new(
            inner.repo.delete_sink(&key, &stamp).await?,
            "Sink has been deleted successfully.",
        ))
    })
    .await
}

/// An existing sink; its source is checked first.
pub(super) async fn existing(
    api: &ApiState,
    key: &SinkKey,
) -> Result<forebay_model::Sink, ApiError> {
    api.repo.source(&key.source).await?;
    reject_foreign(key)?;
    Ok(api.repo.sink(key).await?.value)
}

pub(super) fn subject(key: &SinkKey) -> TaskSubject {
    TaskSubject {
        source: key.source.clone(),
        sink: Some(key.sink.clone()),
    }
}

/// Volumes for a sink's file: as many as its settings require, one of one node.
pub(super) async fn volumes(api: &ApiState) -> Result<Vec<VolumeId>, ApiError> {
    let volumes = api.repo.volumes().await?;
    if volumes.is_empty() {
        return Err(ApiError::unavailable(
            "no volume is available for the file, try again when a node with a volume is up",
        ));
    }
    Ok(volumes.into_iter().take(1).map(|v| v.id).collect())
}
