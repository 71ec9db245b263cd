//! Routes of sources.

use std::sync::Arc;

use axum::extract::State;
use forebay_meta::catalog::definitions::UpdateRejection;
use forebay_meta::{DefinitionError, ListPage, Revision, SourceContent};
use forebay_model::{BranchKey, InvalidId, SettingsPatch, SourceId, SourceKey, SourceKind};

use super::body::{EmptyInput, JsonBody};
use super::call::ApiCall;
use super::config::base;
use super::error::{self, ApiError};
use super::json_response::JsonResponse;
use super::tasks::{self, CompletedChange, TaskResponse};
use super::views::{DELETE_SOURCE, source_view};
use super::{ApiState, SharedApi, cascade, verify};
use crate::auth::CallerIdentity;
use crate::task::TaskSubject;
use forebay_api::params::{BranchPath, DeleteSourceQuery, ListQuery, SourcePath};
use forebay_api::source::{SourceCreate, SourceList, SourceUpdate, SourceView};
use forebay_api::task::TaskView;

/// Creates a source.
#[utoipa::path(
    post, path = "/v1/branches/{branchId}/sources", tag = "source", operation_id = "CreateSource",
    params(BranchPath), request_body = SourceCreate,
    extensions(("x-errors" = json!(["sourceAlreadyExists"]))),
    responses((status = 202, description = "The task that creates it.", body = TaskView))
)]
pub(super) async fn create(
    State(api): State<SharedApi>,
    call: ApiCall<BranchPath, EmptyInput, JsonBody<SourceCreate>>,
) -> Result<TaskResponse, ApiError> {
    let body = call.body.0;
    let key = check_new(&api, call.branch, &body).await?;
    let verify = body.verify.as_ref();
    let verify = verify.map(|verify| verify::from_request(verify, None));
    let content = SourceContent {
        kind: SourceKind::Http {
            secret: api.random.secret(),
            verify: verify.transpose()?.flatten(),
        },
        name: body.name,
        description: body.description.unwrap_or_default(),
        settings: SettingsPatch::new(),
        definition_set: body.definition_set,
    };
    let stamp = call.who.audit_stamp(api.clock.now());
    let (inner, subject) = (Arc::clone(&api), subject(&key));
    tasks::start(&api, "api.create.source", subject, async move {
        let branch = &key.branch;
        inner.repo.ensure_branch(branch, true, &stamp).await?;
        let made = inner
            .repo
            .create_source(&key, content, "New source.", &stamp);
        Ok(CompletedChange::new(
            made.await?.revision,
            "Source has been created successfully.",
        ))
    })
    .await
}

/// Key of a new source, if it can be created.
pub(super) async fn check_new(
    api: &ApiState,
    branch: BranchKey,
    body: &SourceCreate,
) -> Result<SourceKey, ApiError> {
    let given = body.source_id.as_deref().unwrap_or(&body.name);
    let max = api.repo.limits().id_length as usize;
    let source = SourceId::from_name_within(given, max);
    let source = source.map_err(|e| invalid_id("sourceId", &e))?;
    reject_reserved("sourceId", source.as_str())?;
    let key = SourceKey { branch, source };
    match api.repo.source(&key).await {
        Err(DefinitionError::SourceNotFound(_)) => Ok(key),
        Ok(_) => Err(error::source_exists(key.source.as_str())),
        Err(e) => Err(e.into()),
    }
}

/// Lists the sources of a branch.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources", tag = "source", operation_id = "ListSources",
    params(BranchPath, ListQuery),
    responses((status = 200, description = "A page of sources, sorted by id.", body = SourceList))
)]
pub(super) async fn list(
    State(api): State<SharedApi>,
    call: ApiCall<BranchPath, ListQuery>,
) -> Result<JsonResponse<SourceList>, ApiError> {
    let (after, limit) = (&call.query.after_id, call.query.limit as usize);
    let listing = api.repo.sources(&call.branch, after, limit).await?;
    Ok(JsonResponse::ok(source_list(&api, &call, &listing)))
}

/// Lists the deleted sources of a branch.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/deleted", tag = "source", operation_id = "ListDeletedSources",
    params(BranchPath, ListQuery),
    responses((status = 200, description = "A page of deleted sources, sorted by id.", body = SourceList))
)]
pub(super) async fn list_deleted(
    State(api): State<SharedApi>,
    call: ApiCall<BranchPath, ListQuery>,
) -> Result<JsonResponse<SourceList>, ApiError> {
    let (after, limit) = (&call.query.after_id, call.query.limit as usize);
    let listing = api.repo.deleted_sources(&call.branch, after, limit).await?;
    Ok(JsonResponse::ok(source_list(&api, &call, &listing)))
}

fn source_list(
    api: &ApiState,
    call: &ApiCall<BranchPath, ListQuery>,
    listing: &ListPage<forebay_model::Source>,
) -> SourceList {
    let last = listing.items.last();
    let last = last.map_or("", |s| s.key.source.as_str());
    SourceList {
        project_id: call.branch.project.0,
        branch_id: call.branch.branch.0,
        page: call.query.page(listing.total, last),
        sources: listing
            .items
            .iter()
            .map(|s| view(api, &call.who, s))
            .collect(),
    }
}

/// Returns a source.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}", tag = "source", operation_id = "GetSource",
    params(SourcePath),
    responses((status = 200, description = "The source.", body = SourceView))
)]
pub(super) async fn get(
    State(api): State<SharedApi>,
    call: ApiCall<SourcePath>,
) -> Result<JsonResponse<SourceView>, ApiError> {
    let source = api.repo.source(&call.source_key()?).await?;
    Ok(JsonResponse::ok(view(&api, &call.who, &source)))
}

/// Changes a source.
#[utoipa::path(
    patch, path = "/v1/branches/{branchId}/sources/{sourceId}", tag = "source", operation_id = "UpdateSource",
    params(SourcePath), request_body = SourceUpdate,
    responses((status = 202, description = "The task that changes it.", body = TaskView))
)]
pub(super) async fn update(
    State(api): State<SharedApi>,
    call: ApiCall<SourcePath, EmptyInput, JsonBody<SourceUpdate>>,
) -> Result<TaskResponse, ApiError> {
    let key = call.source_key()?;
    let present = api.repo.source(&key).await?;
    let body = call.body.0;
    if let Some(request) = &body.verify {
        let SourceKind::Http { verify, .. } = &present.kind;
        verify::from_request(request, verify.as_ref())?;
    }
    let stamp = call.who.audit_stamp(api.clock.now());
    let (inner, subject) = (Arc::clone(&api), subject(&key));
    tasks::start(&api, "api.update.source", subject, async move {
        let description = body.change_description.as_deref().unwrap_or("Updated.");
        let change = |content: &mut SourceContent| {
            replace(&mut content.name, body.name.as_ref());
            replace(&mut content.description, body.description.as_ref());
            if let Some(request) = &body.verify {
                let SourceKind::Http { verify, .. } = &mut content.kind;
                let changed = verify::from_request(request, verify.as_ref());
                *verify = changed.map_err(|e| Box::new(e) as UpdateRejection)?;
            }
            replace_set(&mut content.definition_set, body.definition_set.as_ref());
            Ok(())
        };
        let updated = inner.repo.update_source(&key, description, &stamp, change);
        Ok(CompletedChange::new(
            updated.await?.revision,
            "Source has been updated successfully.",
        ))
    })
    .await
}

/// Deletes a source and its sinks. Accepted records are still delivered.
///
/// It can be undeleted, unless it was deleted together with its tables.
#[utoipa::path(
    delete, path = "/v1/branches/{branchId}/sources/{sourceId}", tag = "source", operation_id = "DeleteSource",
    params(SourcePath, DeleteSourceQuery),
    responses((status = 202, description = "The task that deletes it.", body = TaskView))
)]
pub(super) async fn delete(
    State(api): State<SharedApi>,
    call: ApiCall<SourcePath, DeleteSourceQuery>,
) -> Result<TaskResponse, ApiError> {
    let key = call.source_key()?;
    let cascade = call.query.cascade;
    match api.repo.source(&key).await {
        // A deleted source can still be deleted permanently.
        Err(DefinitionError::SourceNotFound(_)) if cascade => {
            found_deleted(api.repo.deleted_source(&key).await, || {
                error::source_not_found(key.source.as_str())
            })?;
        }
        found => drop(found?),
    }
    let stamp = call.who.audit_stamp(api.clock.now());
    let (inner, subject) = (Arc::clone(&api), subject(&key));
    tasks::start(&api, DELETE_SOURCE, subject, async move {
        if cascade {
            return cascade::delete_source(&inner, &key, &stamp).await;
        }
        let revision: Revision = inner.repo.delete_source(&key, &stamp).await?;
        cascade::close_files(&inner, &key, &stamp).await;
        Ok(CompletedChange::new(
            revision,
            "Source has been deleted successfully.",
        ))
    })
    .await
}

/// A source for this caller: its URL contains the secret, so read-only tokens do not get it.
pub(super) fn view(
    api: &ApiState,
    who: &CallerIdentity,
    source: &forebay_model::Source,
) -> SourceView {
    let public_url = base(&api.config.source_public_url);
    source_view(source, who.admin.then_some(public_url))
}

/// Returns the not-found error of a deleted source or sink.
pub(super) fn found_deleted<T>(
    found: Result<T, DefinitionError>,
    missing: impl FnOnce() -> ApiError,
) -> Result<T, ApiError> {
    match found {
        Ok(found) => Ok(found),
        Err(DefinitionError::SourceNotFound(_) | DefinitionError::SinkNotFound(_)) => {
            Err(missing())
        }
        Err(e) => Err(e.into()),
    }
}

pub(super) fn subject(key: &SourceKey) -> TaskSubject {
    TaskSubject {
        source: key.clone(),
        sink: None,
    }
}

pub(super) fn replace<T: Clone>(value: &mut T, with: Option<&T>) {
    if let Some(with) = with {
        value.clone_from(with);
    }
}

/// An empty name removes the set.
pub(super) fn replace_set(value: &mut Option<String>, with: Option<&String>) {
    if let Some(with) = with {
        *value = (!with.is_empty()).then(|| with.clone());
    }
}

pub(super) fn invalid_id(field: &str, error: &InvalidId) -> ApiError {
    let message = match error {
        InvalidId::Empty => format!("\"{field}\" must not be empty."),
        InvalidId::TooLong { .. } => format!("invalid \"{field}\": {error}."),
    };
    ApiError::bad_request(message).at(field)
}

/// Rejects ids that have another meaning in paths: such a source could not be addressed.
pub(super) fn reject_reserved(field: &str, id: &str) -> Result<(), ApiError> {
    if id == "deleted" {
        return Err(ApiError::bad_request(format!(
            "\"{field}\" must not be \"{id}\", which is reserved."
        ))
        .at(field));
    }
    Ok(())
}
