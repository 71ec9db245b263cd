//! Routes of versions: list, get and rollback.

use std::sync::Arc;

use axum::extract::State;
use forebay_meta::DefinitionError;
use forebay_model::SinkTarget;

use super::call::ApiCall;
use super::error::{self, ApiError};
use super::json_response::JsonResponse;
use super::table_check;
use super::tasks::{self, CompletedChange, TaskResponse};
use super::views::ToView;
use super::{SharedApi, sinks, sources};
use crate::compat::versions::{sink_page_start, version_page};
use forebay_api::common::{VersionList, VersionView};
use forebay_api::params::{ListQuery, SinkPath, SinkVersionPath, SourcePath, SourceVersionPath};
use forebay_api::sink::SinkType;
use forebay_api::task::TaskView;

/// Lists the versions of a source.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/versions", tag = "source", operation_id = "ListSourceVersions",
    params(SourcePath, ListQuery),
    responses((status = 200, description = "A page of versions, oldest first.", body = VersionList))
)]
pub(super) async fn list_source(
    State(api): State<SharedApi>,
    call: ApiCall<SourcePath, ListQuery>,
) -> Result<JsonResponse<VersionList>, ApiError> {
    let all = api.repo.source_versions(&call.source_key()?).await?;
    let views = all.iter().map(ToView::to_view).collect();
    let page = version_page(views, &call.query, &call.query.after_id);
    Ok(JsonResponse::ok(page))
}

/// Returns a version of a source.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/versions/{versionNumber}", tag = "source", operation_id = "GetSourceVersion",
    params(SourceVersionPath),
    responses((status = 200, description = "The version, without its content.", body = VersionView))
)]
pub(super) async fn get_source(
    State(api): State<SharedApi>,
    call: ApiCall<SourceVersionPath>,
) -> Result<JsonResponse<VersionView>, ApiError> {
    let key = call.source_key()?;
    api.repo.source(&key).await?;
    let number = call.path.version_number;
    match api.repo.source_version(&key, number).await {
        Ok(kept) => Ok(JsonResponse::ok(kept.version.to_view())),
        Err(DefinitionError::VersionNotFound(_)) => {
            Err(error::source_version_not_found(key.source.as_str(), number))
        }
        Err(e) => Err(e.into()),
    }
}

/// Rolls a source back to the content of a version. Its disabled state and secret do not change.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/versions/{versionNumber}/rollback", tag = "source", operation_id = "RollbackSourceVersion",
    params(SourceVersionPath),
    responses((status = 202, description = "The task that rolls it back.", body = TaskView))
)]
pub(super) async fn rollback_source(
    State(api): State<SharedApi>,
    call: ApiCall<SourceVersionPath>,
) -> Result<TaskResponse, ApiError> {
    let key = call.source_key()?;
    api.repo.source(&key).await?;
    let number = call.path.version_number;
    match api.repo.source_version(&key, number).await {
        Ok(_) => {}
        Err(DefinitionError::VersionNotFound(_)) => {
            let id = key.source.as_str();
            return Err(error::source_version_not_found(id, number));
        }
        Err(e) => return Err(e.into()),
    }
    let stamp = call.who.audit_stamp(api.clock.now());
    let (inner, subject) = (Arc::clone(&api), sources::subject(&key));
    tasks::start(&api, "api.rollback.sourceVersion", subject, async move {
        let done = inner.repo.rollback_source(&key, number, &stamp).await?;
        Ok(CompletedChange::new(
            done.revision,
            "Source version was rolled back successfully.",
        ))
    })
    .await
}

/// Lists the versions of a sink.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/versions", tag = "sink", operation_id = "ListSinkVersions",
    params(SinkPath, ListQuery),
    responses((status = 200, description = "A page of versions, oldest first.", body = VersionList))
)]
pub(super) async fn list_sink(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath, ListQuery>,
) -> Result<JsonResponse<VersionList>, ApiError> {
    let key = call.sink_key()?;
    sinks::existing(&api, &key).await?;
    let all = api.repo.sink_versions(&key).await?;
    let views = all.iter().map(ToView::to_view).collect();
    let start = sink_page_start(&call.query.after_id);
    let page = version_page(views, &call.query, &start);
    Ok(JsonResponse::ok(page))
}

/// Returns a version of a sink.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/versions/{versionNumber}", tag = "sink", operation_id = "GetSinkVersion",
    params(SinkVersionPath),
    responses((status = 200, description = "The version, without its content.", body = VersionView))
)]
pub(super) async fn get_sink(
    State(api): State<SharedApi>,
    call: ApiCall<SinkVersionPath>,
) -> Result<JsonResponse<VersionView>, ApiError> {
    let key = call.sink_key()?;
    sinks::existing(&api, &key).await?;
    let number = call.path.version_number;
    match api.repo.sink_version(&key, number).await {
        Ok(kept) => Ok(JsonResponse::ok(kept.version.to_view())),
        Err(DefinitionError::VersionNotFound(_)) => {
            Err(error::sink_version_not_found(key.sink.as_str(), number))
        }
        Err(e) => Err(e.into()),
    }
}

/// Rolls a sink back to the content of a version. Its disabled state does not change.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/versions/{versionNumber}/rollback", tag = "sink", operation_id = "RollbackSinkVersion",
    params(SinkVersionPath),
    extensions(("x-errors" = json!(["tableNotAvailable"]))),
    responses((status = 202, description = "The task that rolls it back.", body = TaskView))
)]
pub(super) async fn rollback_sink(
    State(api): State<SharedApi>,
    call: ApiCall<SinkVersionPath>,
) -> Result<TaskResponse, ApiError> {
    let key = call.sink_key()?;
    let sink = sinks::existing(&api, &key).await?;
    let number = call.path.version_number;
    let checked = match api.repo.sink_version(&key, number).await {
        Ok(kept) => {
            reject_other_type(number, &kept.content.target, &sink.target)?;
            match kept.content.target.table() {
                Some(table) => table_check::check(&api, &call.who, table).await?,
                None => table_check::TableCheck::default(),
            }
        }
        Err(DefinitionError::VersionNotFound(_)) => {
            return Err(error::sink_version_not_found(key.sink.as_str(), number));
        }
        Err(e) => return Err(e.into()),
    };
    let stamp = call.who.audit_stamp(api.clock.now());
    let (inner, subject) = (Arc::clone(&api), sinks::subject(&key));
    tasks::start(&api, "api.rollback.sinkVersion", subject, async move {
        let volumes = sinks::volumes(&inner).await?;
        checked.record_adoption(&inner, &stamp).await?;
        let done = inner.repo.rollback_sink(&key, number, &volumes, &stamp);
        Ok(CompletedChange::new(
            done.await?.revision,
            "Sink version was rolled back successfully.",
        )
        .warn(checked.warnings))
    })
    .await
}

/// A sink recreated under the id of a sink of another type also has versions of that type.
fn reject_other_type(number: u32, wanted: &SinkTarget, now: &SinkTarget) -> Result<(), ApiError> {
    if SinkType::from_target(wanted) == SinkType::from_target(now) {
        return Ok(());
    }
    let (wanted, now) = (wanted.type_name(), now.type_name());
    Err(ApiError::bad_request(format!(
        "the type of a sink can't be changed: it is \"{now}\", version \"{number}\" is of type \"{wanted}\"."
    )))
}
