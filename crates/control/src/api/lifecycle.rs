//! Routes that disable, enable, pause, resume and undelete sources and sinks, and rotate a source's
//! secret.

use std::sync::Arc;

use axum::extract::State;
use forebay_meta::SourceContent;
use forebay_model::{AuditStamp, Sink, SourceKey, SourceKind, VolumeId};

use super::call::{ApiCall, reject_foreign};
use super::cascade::close_files;
use super::error::{self, ApiError};
use super::json_response::JsonResponse;
use super::table_check;
use super::tasks::{self, CompletedChange, TaskResponse};
use super::{ApiState, SharedApi, sinks, sources};
use forebay_api::params::{DisableQuery, SinkPath, SourcePath};
use forebay_api::source::SourceView;
use forebay_api::task::TaskView;

/// Disables a source. It rejects records, and so do its sinks.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/disable", tag = "source", operation_id = "DisableSource",
    params(SourcePath, DisableQuery),
    responses((status = 202, description = "The task that disables it.", body = TaskView))
)]
pub(super) async fn disable_source(
    State(api): State<SharedApi>,
    call: ApiCall<SourcePath, DisableQuery>,
) -> Result<TaskResponse, ApiError> {
    let (inner, key, stamp) = begin_source_change(&api, &call).await?;
    let subject = sources::subject(&key);
    tasks::start(&api, "api.disable.source", subject, async move {
        let reason = &call.query.reason;
        let disabled = inner.repo.disable_source(&key, reason, &stamp).await?;
        close_files(&inner, &key, &stamp).await;
        Ok(CompletedChange::new(
            disabled.revision,
            "Source has been disabled successfully.",
        ))
    })
    .await
}

/// Enables a source, with the sinks that were disabled with it.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/enable", tag = "source", operation_id = "EnableSource",
    params(SourcePath),
    responses((status = 202, description = "The task that enables it.", body = TaskView))
)]
pub(super) async fn enable_source(
    State(api): State<SharedApi>,
    call: ApiCall<SourcePath>,
) -> Result<TaskResponse, ApiError> {
    let (inner, key, stamp) = begin_source_change(&api, &call).await?;
    let subject = sources::subject(&key);
    tasks::start(&api, "api.enable.source", subject, async move {
        let volumes = volumes(&inner).await?;
        let enabled = inner.repo.enable_source(&key, &stamp).await?;
        let settled = inner.repo.settle_sinks(&key, &volumes, &stamp).await?;
        Ok(CompletedChange::new(
            enabled.revision.max(settled),
            "Source has been enabled successfully.",
        ))
    })
    .await
}

/// Undeletes a source, with the sinks that were deleted with it.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/undelete", tag = "source", operation_id = "UndeleteSource",
    params(SourcePath),
    responses((status = 202, description = "The task that undeletes it.", body = TaskView))
)]
pub(super) async fn undelete_source(
    State(api): State<SharedApi>,
    call: ApiCall<SourcePath>,
) -> Result<TaskResponse, ApiError> {
    let missing = |_| error::deleted_source_not_found(&call.path.source_id);
    let key = call.source_key().map_err(missing)?;
    sources::found_deleted(api.repo.deleted_source(&key).await, || {
        error::deleted_source_not_found(key.source.as_str())
    })?;
    let stamp = call.who.audit_stamp(api.clock.now());
    let (inner, subject) = (Arc::clone(&api), sources::subject(&key));
    tasks::start(&api, "api.undelete.source", subject, async move {
        let volumes = volumes(&inner).await?;
        let back = inner.repo.undelete_source(&key, &stamp).await?;
        let settled = inner.repo.settle_sinks(&key, &volumes, &stamp).await?;
        Ok(CompletedChange::new(
            back.revision.max(settled),
            "Source has been undeleted successfully.",
        ))
    })
    .await
}

/// Rotates the secret of a source. The old one is invalid at once, on all nodes.
#[utoipa::path(
    post, path = "/v1/branches/{branchId}/sources/{sourceId}/rotate-secret", tag = "source", operation_id = "RotateSourceSecret",
    params(SourcePath),
    extensions(("x-errors" = json!(["versionCountLimitReached"]))),
    responses((status = 200, description = "The source with its new URL.", body = SourceView))
)]
pub(super) async fn rotate_secret(
    State(api): State<SharedApi>,
    call: ApiCall<SourcePath>,
) -> Result<JsonResponse<SourceView>, ApiError> {
    let key = call.source_key()?;
    let stamp = call.who.audit_stamp(api.clock.now());
    let fresh = api.random.secret();
    let change = |content: &mut SourceContent| {
        let SourceKind::Http { secret, .. } = &mut content.kind;
        secret.clone_from(&fresh);
        Ok(())
    };
    let update = api
        .repo
        .update_source(&key, "Rotated secret.", &stamp, change);
    let source = update.await?;
    if !tasks::wait_for_nodes(&api, source.revision).await {
        tracing::warn!(source = %key, "not all source nodes have applied the new secret yet");
    }
    Ok(JsonResponse::ok(sources::view(&api, &call.who, &source)))
}

/// Disables a sink. Its source continues without it.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/disable", tag = "sink", operation_id = "DisableSink",
    params(SinkPath, DisableQuery),
    responses((status = 202, description = "The task that disables it.", body = TaskView))
)]
pub(super) async fn disable_sink(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath, DisableQuery>,
) -> Result<TaskResponse, ApiError> {
    let (inner, sink, stamp) = begin_sink_change(&api, &call).await?;
    let key = sink.key;
    let subject = sinks::subject(&key);
    tasks::start(&api, "api.disable.sink", subject, async move {
        let reason = &call.query.reason;
        let disabled = inner.repo.disable_sink(&key, reason, &stamp).await?;
        Ok(CompletedChange::new(
            disabled.revision,
            "Sink has been disabled successfully.",
        ))
    })
    .await
}

/// Enables a sink. A sink that was disabled with its source is enabled with it.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/enable", tag = "sink", operation_id = "EnableSink",
    params(SinkPath),
    extensions(("x-errors" = json!(["tableNotAvailable"]))),
    responses((status = 202, description = "The task that enables it.", body = TaskView))
)]
pub(super) async fn enable_sink(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath>,
) -> Result<TaskResponse, ApiError> {
    let (inner, sink, stamp) = begin_sink_change(&api, &call).await?;
    let checked = match sink.target.table() {
        Some(table) => table_check::check(&api, &call.who, table).await?,
        None => table_check::TableCheck::default(),
    };
    let key = sink.key;
    let subject = sinks::subject(&key);
    tasks::start(&api, "api.enable.sink", subject, async move {
        let volumes = volumes(&inner).await?;
        checked.record_adoption(&inner, &stamp).await?;
        let enabled = inner.repo.enable_sink(&key, &volumes, &stamp).await?;
        let source = inner.repo.source(&key.source).await?;
        let result = if source.disabled.is_some() {
            "Sink has been enabled successfully. It accepts records when its source is enabled."
        } else {
            "Sink has been enabled successfully."
        };
        Ok(CompletedChange::new(enabled.revision, result).warn(checked.warnings))
    })
    .await
}

/// Pauses the delivery of a topic; it still accepts records and retains them.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/pause", tag = "sink", operation_id = "PauseSink",
    params(SinkPath, DisableQuery),
    responses((status = 202, description = "The task that pauses it.", body = TaskView))
)]
pub(super) async fn pause_sink(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath, DisableQuery>,
) -> Result<TaskResponse, ApiError> {
    let (inner, sink, stamp) = begin_sink_change(&api, &call).await?;
    reject_table(&sink)?;
    let key = sink.key;
    let subject = sinks::subject(&key);
    tasks::start(&api, "api.pause.sink", subject, async move {
        let reason = &call.query.reason;
        let paused = inner.repo.pause_sink(&key, reason, &stamp).await?;
        Ok(CompletedChange::new(
            paused.revision,
            "Sink has been paused successfully.",
        ))
    })
    .await
}

/// Resumes the delivery of a topic, oldest messages first.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/resume", tag = "sink", operation_id = "ResumeSink",
    params(SinkPath),
    responses((status = 202, description = "The task that resumes it.", body = TaskView))
)]
pub(super) async fn resume_sink(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath>,
) -> Result<TaskResponse, ApiError> {
    let (inner, sink, stamp) = begin_sink_change(&api, &call).await?;
    reject_table(&sink)?;
    let key = sink.key;
    let subject = sinks::subject(&key);
    tasks::start(&api, "api.resume.sink", subject, async move {
        let resumed = inner.repo.resume_sink(&key, &stamp).await?;
        Ok(CompletedChange::new(
            resumed.revision,
            "Sink has been resumed successfully.",
        ))
    })
    .await
}

fn reject_table(sink: &Sink) -> Result<(), ApiError> {
    if sink.target.topic().is_some() {
        return Ok(());
    }
    let id = &sink.key.sink;
    Err(ApiError::bad_request(format!(
        "sink \"{id}\" is a table: only sinks of the types \"kafka\" and \"http\" can be paused and resumed."
    )))
}

/// Undeletes a sink.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/undelete", tag = "sink", operation_id = "UndeleteSink",
    params(SinkPath),
    extensions(("x-errors" = json!(["tableNotAvailable"]))),
    responses((status = 202, description = "The task that undeletes it.", body = TaskView))
)]
pub(super) async fn undelete_sink(
    State(api): State<SharedApi>,
    call: ApiCall<SinkPath>,
) -> Result<TaskResponse, ApiError> {
    let key = call.sink_key()?;
    api.repo.source(&key.source).await?;
    reject_foreign(&key).map_err(|_| error::deleted_sink_not_found(key.sink.as_str()))?;
    let deleted = sources::found_deleted(api.repo.deleted_sink(&key).await, || {
        error::deleted_sink_not_found(key.sink.as_str())
    })?;
    let checked = match deleted.target.table() {
        Some(table) => table_check::check_return(&api, &call.who, table).await?,
        None => table_check::TableCheck::default(),
    };
    let stamp = call.who.audit_stamp(api.clock.now());
    let (inner, subject) = (Arc::clone(&api), sinks::subject(&key));
    tasks::start(&api, "api.undelete.sink", subject, async move {
        let volumes = volumes(&inner).await?;
        checked.record_adoption(&inner, &stamp).await?;
        let back = inner.repo.undelete_sink(&key, &volumes, &stamp).await?;
        Ok(
            CompletedChange::new(back.revision, "Sink has been undeleted successfully.")
                .warn(checked.warnings),
        )
    })
    .await
}

/// Context of a task that changes the source in the path, which must exist.
async fn begin_source_change<Q>(
    api: &SharedApi,
    call: &ApiCall<SourcePath, Q>,
) -> Result<(SharedApi, SourceKey, AuditStamp), ApiError> {
    let key = call.source_key()?;
    api.repo.source(&key).await?;
    Ok((Arc::clone(api), key, call.who.audit_stamp(api.clock.now())))
}

/// Context of a task that changes the sink in the path, which must exist.
async fn begin_sink_change<Q>(
    api: &SharedApi,
    call: &ApiCall<SinkPath, Q>,
) -> Result<(SharedApi, Sink, AuditStamp), ApiError> {
    let sink = sinks::existing(api, &call.sink_key()?).await?;
    Ok((Arc::clone(api), sink, call.who.audit_stamp(api.clock.now())))
}

/// Volumes for files that may have to be opened; the task decides whether one is needed.
async fn volumes(api: &ApiState) -> Result<Vec<VolumeId>, ApiError> {
    let volumes = api.repo.volumes().await?;
    Ok(volumes.into_iter().take(1).map(|v| v.id).collect())
}
