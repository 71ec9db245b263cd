//! Routes that switch sources and sinks off and on, bring deleted ones back, and give a source a
//! new secret.

use std::sync::Arc;

use axum::extract::State;
use forebay_meta::SourceContent;
use forebay_model::{Sink, SourceKey, SourceKind, Stamp, VolumeId};

use super::answer::Answer;
use super::call::{Call, refuse_foreign};
use super::error::{self, ApiError};
use super::params::{DisableQuery, SinkPath, SourcePath};
use super::table_check;
use super::tasks::{self, Done, TaskAnswer};
use super::types::source::Source;
use super::types::task::Task;
use super::{Inner, Shared, sinks, sources};

/// Switches a source off. It takes no records, and neither do its sinks.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/disable", tag = "source", operation_id = "DisableSource",
    params(SourcePath, DisableQuery),
    responses((status = 202, description = "A task switches it off.", body = Task))
)]
pub(super) async fn disable_source(
    State(api): State<Shared>,
    call: Call<SourcePath, DisableQuery>,
) -> Result<TaskAnswer, ApiError> {
    let (inner, key, stamp) = source_of(&api, &call).await?;
    let subject = sources::subject(&key);
    tasks::start(&api, "api.disable.source", subject, async move {
        let reason = &call.query.reason;
        let disabled = inner.repo.disable_source(&key, reason, &stamp).await?;
        Ok(Done::new(
            disabled.revision,
            "Source has been disabled successfully.",
        ))
    })
    .await
}

/// Switches a source on, with the sinks that were switched off with it.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/enable", tag = "source", operation_id = "EnableSource",
    params(SourcePath),
    responses((status = 202, description = "A task switches it on.", body = Task))
)]
pub(super) async fn enable_source(
    State(api): State<Shared>,
    call: Call<SourcePath>,
) -> Result<TaskAnswer, ApiError> {
    let (inner, key, stamp) = source_of(&api, &call).await?;
    let subject = sources::subject(&key);
    tasks::start(&api, "api.enable.source", subject, async move {
        let volumes = volumes(&inner).await?;
        let enabled = inner.repo.enable_source(&key, &volumes, &stamp).await?;
        Ok(Done::new(
            enabled.revision,
            "Source has been enabled successfully.",
        ))
    })
    .await
}

/// Brings a deleted source back, with the sinks that were deleted with it.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/undelete", tag = "source", operation_id = "UndeleteSource",
    params(SourcePath),
    responses((status = 202, description = "A task brings it back.", body = Task))
)]
pub(super) async fn undelete_source(
    State(api): State<Shared>,
    call: Call<SourcePath>,
) -> Result<TaskAnswer, ApiError> {
    let missing = |_| error::deleted_source_not_found(&call.path.source_id);
    let key = call.source_key().map_err(missing)?;
    let found = api.repo.deleted_source(&key).await;
    // One with many sinks may have stopped half-way: the same request goes on.
    if found.is_ok() || !api.repo.is_partly_undeleted(&key).await? {
        sources::found_deleted(found, || {
            error::deleted_source_not_found(key.source.as_str())
        })?;
    }
    let stamp = call.who.stamp(api.clock.now());
    let (inner, subject) = (Arc::clone(&api), sources::subject(&key));
    tasks::start(&api, "api.undelete.source", subject, async move {
        let volumes = volumes(&inner).await?;
        let back = inner.repo.undelete_source(&key, &volumes, &stamp).await?;
        Ok(Done::new(
            back.revision,
            "Source has been undeleted successfully.",
        ))
    })
    .await
}

/// Gives a source a new secret. The old one opens nothing any more, on any node.
#[utoipa::path(
    post, path = "/v1/branches/{branchId}/sources/{sourceId}/rotate-secret", tag = "source", operation_id = "RotateSourceSecret",
    params(SourcePath),
    extensions(("x-errors" = json!(["versionCountLimitReached"]))),
    responses((status = 200, description = "The source with its new address.", body = Source))
)]
pub(super) async fn rotate_secret(
    State(api): State<Shared>,
    call: Call<SourcePath>,
) -> Result<Answer<Source>, ApiError> {
    let key = call.source_key()?;
    let stamp = call.who.stamp(api.clock.now());
    let fresh = api.random.secret();
    let change = |content: &mut SourceContent| {
        let SourceKind::Http { secret } = &mut content.kind;
        secret.clone_from(&fresh);
        Ok(())
    };
    let update = api
        .repo
        .update_source(&key, "Rotated secret.", &stamp, change);
    let source = update.await?;
    if !tasks::follow(&api, source.revision).await {
        tracing::warn!(source = %key, "not all source nodes have followed the new secret yet");
    }
    Ok(Answer::ok(sources::view(&api, &call.who, &source)))
}

/// Switches a sink off. Its source goes on without it.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/disable", tag = "sink", operation_id = "DisableSink",
    params(SinkPath, DisableQuery),
    responses((status = 202, description = "A task switches it off.", body = Task))
)]
pub(super) async fn disable_sink(
    State(api): State<Shared>,
    call: Call<SinkPath, DisableQuery>,
) -> Result<TaskAnswer, ApiError> {
    let (inner, sink, stamp) = sink_of(&api, &call).await?;
    let key = sink.key;
    let subject = sinks::subject(&key);
    tasks::start(&api, "api.disable.sink", subject, async move {
        let reason = &call.query.reason;
        let disabled = inner.repo.disable_sink(&key, reason, &stamp).await?;
        Ok(Done::new(
            disabled.revision,
            "Sink has been disabled successfully.",
        ))
    })
    .await
}

/// Switches a sink on. One that was switched off with its source comes back with it.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/enable", tag = "sink", operation_id = "EnableSink",
    params(SinkPath),
    extensions(("x-errors" = json!(["tableNotAvailable"]))),
    responses((status = 202, description = "A task switches it on.", body = Task))
)]
pub(super) async fn enable_sink(
    State(api): State<Shared>,
    call: Call<SinkPath>,
) -> Result<TaskAnswer, ApiError> {
    let (inner, sink, stamp) = sink_of(&api, &call).await?;
    let checked = match sink.target.table() {
        Some(table) => table_check::check(&api, &call.who, table).await?,
        None => table_check::Checked::default(),
    };
    let key = sink.key;
    let subject = sinks::subject(&key);
    tasks::start(&api, "api.enable.sink", subject, async move {
        let volumes = volumes(&inner).await?;
        checked.settle(&inner, &stamp).await?;
        let enabled = inner.repo.enable_sink(&key, &volumes, &stamp).await?;
        let source = inner.repo.source(&key.source).await?;
        let result = if source.disabled.is_some() {
            "Sink has been enabled successfully. It takes records when its source is enabled."
        } else {
            "Sink has been enabled successfully."
        };
        Ok(Done::new(enabled.revision, result).warn(checked.warnings))
    })
    .await
}

/// Stops the delivery of a topic; records are taken all the same, and wait.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/pause", tag = "sink", operation_id = "PauseSink",
    params(SinkPath, DisableQuery),
    responses((status = 202, description = "A task stops its delivery.", body = Task))
)]
pub(super) async fn pause_sink(
    State(api): State<Shared>,
    call: Call<SinkPath, DisableQuery>,
) -> Result<TaskAnswer, ApiError> {
    let (inner, sink, stamp) = sink_of(&api, &call).await?;
    refuse_table(&sink)?;
    let key = sink.key;
    let subject = sinks::subject(&key);
    tasks::start(&api, "api.pause.sink", subject, async move {
        let reason = &call.query.reason;
        let paused = inner.repo.pause_sink(&key, reason, &stamp).await?;
        Ok(Done::new(
            paused.revision,
            "Sink has been paused successfully.",
        ))
    })
    .await
}

/// Begins the delivery of a topic again, with what has waited longest.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/resume", tag = "sink", operation_id = "ResumeSink",
    params(SinkPath),
    responses((status = 202, description = "A task begins its delivery again.", body = Task))
)]
pub(super) async fn resume_sink(
    State(api): State<Shared>,
    call: Call<SinkPath>,
) -> Result<TaskAnswer, ApiError> {
    let (inner, sink, stamp) = sink_of(&api, &call).await?;
    refuse_table(&sink)?;
    let key = sink.key;
    let subject = sinks::subject(&key);
    tasks::start(&api, "api.resume.sink", subject, async move {
        let resumed = inner.repo.resume_sink(&key, &stamp).await?;
        Ok(Done::new(
            resumed.revision,
            "Sink has been resumed successfully.",
        ))
    })
    .await
}

fn refuse_table(sink: &Sink) -> Result<(), ApiError> {
    if sink.target.topic().is_some() {
        return Ok(());
    }
    let id = &sink.key.sink;
    Err(ApiError::bad_request(format!(
        "sink \"{id}\" is a table: only sinks of the types \"kafka\" and \"http\" can be paused and resumed."
    )))
}

/// Brings a deleted sink back.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/undelete", tag = "sink", operation_id = "UndeleteSink",
    params(SinkPath),
    extensions(("x-errors" = json!(["tableNotAvailable"]))),
    responses((status = 202, description = "A task brings it back.", body = Task))
)]
pub(super) async fn undelete_sink(
    State(api): State<Shared>,
    call: Call<SinkPath>,
) -> Result<TaskAnswer, ApiError> {
    let key = call.sink_key()?;
    api.repo.source(&key.source).await?;
    refuse_foreign(&key).map_err(|_| error::deleted_sink_not_found(key.sink.as_str()))?;
    let deleted = sources::found_deleted(api.repo.deleted_sink(&key).await, || {
        error::deleted_sink_not_found(key.sink.as_str())
    })?;
    let checked = match deleted.target.table() {
        Some(table) => table_check::check_return(&api, &call.who, table).await?,
        None => table_check::Checked::default(),
    };
    let stamp = call.who.stamp(api.clock.now());
    let (inner, subject) = (Arc::clone(&api), sinks::subject(&key));
    tasks::start(&api, "api.undelete.sink", subject, async move {
        let volumes = volumes(&inner).await?;
        checked.settle(&inner, &stamp).await?;
        let back = inner.repo.undelete_sink(&key, &volumes, &stamp).await?;
        Ok(
            Done::new(back.revision, "Sink has been undeleted successfully.")
                .warn(checked.warnings),
        )
    })
    .await
}

/// What a task needs that changes the source of the address, which is there.
async fn source_of<Q>(
    api: &Shared,
    call: &Call<SourcePath, Q>,
) -> Result<(Shared, SourceKey, Stamp), ApiError> {
    let key = call.source_key()?;
    api.repo.source(&key).await?;
    Ok((Arc::clone(api), key, call.who.stamp(api.clock.now())))
}

/// What a task needs that changes the sink of the address, which is there.
async fn sink_of<Q>(
    api: &Shared,
    call: &Call<SinkPath, Q>,
) -> Result<(Shared, Sink, Stamp), ApiError> {
    let sink = sinks::existing(api, &call.sink_key()?).await?;
    Ok((Arc::clone(api), sink, call.who.stamp(api.clock.now())))
}

/// Volumes for the files that may have to be opened; whether there has to be one is known later.
async fn volumes(api: &Inner) -> Result<Vec<VolumeId>, ApiError> {
    let volumes = api.repo.volumes().await?;
    Ok(volumes.into_iter().take(1).map(|v| v.id).collect())
}
