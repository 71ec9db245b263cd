//! Routes of versions: listed, shown, and returned to.

use std::sync::Arc;

use axum::extract::State;
use forebay_meta::DefinitionError;
use forebay_model::SinkTarget;

use super::answer::Answer;
use super::call::Call;
use super::error::{self, ApiError};
use super::params::{ListQuery, SinkPath, SinkVersionPath, SourcePath, SourceVersionPath};
use super::table_check;
use super::tasks::{self, Done, TaskAnswer};
use super::types::common::{Page, Version, Versions};
use super::types::sink::SinkType;
use super::types::task::Task;
use super::{Shared, sinks, sources};

/// Versions of a source.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/versions", tag = "source", operation_id = "ListSourceVersions",
    params(SourcePath, ListQuery),
    responses((status = 200, description = "Some of the versions, oldest first.", body = Versions))
)]
pub(super) async fn list_source(
    State(api): State<Shared>,
    call: Call<SourcePath, ListQuery>,
) -> Result<Answer<Versions>, ApiError> {
    let all = api.repo.source_versions(&call.source_key()?).await?;
    let after = call.query.after_id.clone();
    Ok(Answer::ok(page(all, &call.query, after)))
}

/// A version of a source.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/versions/{versionNumber}", tag = "source", operation_id = "GetSourceVersion",
    params(SourceVersionPath),
    responses((status = 200, description = "The version, without its content.", body = Version))
)]
pub(super) async fn get_source(
    State(api): State<Shared>,
    call: Call<SourceVersionPath>,
) -> Result<Answer<Version>, ApiError> {
    let key = call.source_key()?;
    api.repo.source(&key).await?;
    let number = call.path.version_number;
    match api.repo.source_version(&key, number).await {
        Ok(kept) => Ok(Answer::ok((&kept.version).into())),
        Err(DefinitionError::VersionNotFound(_)) => {
            Err(error::source_version_not_found(key.source.as_str(), number))
        }
        Err(e) => Err(e.into()),
    }
}

/// Gives a source the content that it had as a version. It stays on or off, and its secret stays.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/versions/{versionNumber}/rollback", tag = "source", operation_id = "RollbackSourceVersion",
    params(SourceVersionPath),
    responses((status = 202, description = "A task does it.", body = Task))
)]
pub(super) async fn rollback_source(
    State(api): State<Shared>,
    call: Call<SourceVersionPath>,
) -> Result<TaskAnswer, ApiError> {
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
    let stamp = call.who.stamp(api.clock.now());
    let (inner, subject) = (Arc::clone(&api), sources::subject(&key));
    tasks::start(&api, "api.rollback.sourceVersion", subject, async move {
        let done = inner.repo.rollback_source(&key, number, &stamp).await?;
        Ok(Done::new(
            done.revision,
            "Source version was rolled back successfully.",
        ))
    })
    .await
}

/// Versions of a sink.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/versions", tag = "sink", operation_id = "ListSinkVersions",
    params(SinkPath, ListQuery),
    responses((status = 200, description = "Some of the versions, oldest first.", body = Versions))
)]
pub(super) async fn list_sink(
    State(api): State<Shared>,
    call: Call<SinkPath, ListQuery>,
) -> Result<Answer<Versions>, ApiError> {
    let key = call.sink_key()?;
    sinks::existing(&api, &key).await?;
    let all = api.repo.sink_versions(&key).await?;
    // Of sinks the padded number is shown, of sources what was given: as the compatible service.
    let after = match call.query.after_id.as_str() {
        "" => String::new(),
        given => padded(given),
    };
    Ok(Answer::ok(page(all, &call.query, after)))
}

/// A version of a sink.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/versions/{versionNumber}", tag = "sink", operation_id = "GetSinkVersion",
    params(SinkVersionPath),
    responses((status = 200, description = "The version, without its content.", body = Version))
)]
pub(super) async fn get_sink(
    State(api): State<Shared>,
    call: Call<SinkVersionPath>,
) -> Result<Answer<Version>, ApiError> {
    let key = call.sink_key()?;
    sinks::existing(&api, &key).await?;
    let number = call.path.version_number;
    match api.repo.sink_version(&key, number).await {
        Ok(kept) => Ok(Answer::ok((&kept.version).into())),
        Err(DefinitionError::VersionNotFound(_)) => {
            Err(error::sink_version_not_found(key.sink.as_str(), number))
        }
        Err(e) => Err(e.into()),
    }
}

/// Gives a sink the content that it had as a version. It stays on or off.
#[utoipa::path(
    put, path = "/v1/branches/{branchId}/sources/{sourceId}/sinks/{sinkId}/versions/{versionNumber}/rollback", tag = "sink", operation_id = "RollbackSinkVersion",
    params(SinkVersionPath),
    extensions(("x-errors" = json!(["tableNotAvailable"]))),
    responses((status = 202, description = "A task does it.", body = Task))
)]
pub(super) async fn rollback_sink(
    State(api): State<Shared>,
    call: Call<SinkVersionPath>,
) -> Result<TaskAnswer, ApiError> {
    let key = call.sink_key()?;
    let sink = sinks::existing(&api, &key).await?;
    let number = call.path.version_number;
    let checked = match api.repo.sink_version(&key, number).await {
        Ok(kept) => {
            refuse_other_type(number, &kept.content.target, &sink.target)?;
            match kept.content.target.table() {
                Some(table) => table_check::check(&api, &call.who, table).await?,
                None => table_check::Checked::default(),
            }
        }
        Err(DefinitionError::VersionNotFound(_)) => {
            return Err(error::sink_version_not_found(key.sink.as_str(), number));
        }
        Err(e) => return Err(e.into()),
    };
    let stamp = call.who.stamp(api.clock.now());
    let (inner, subject) = (Arc::clone(&api), sinks::subject(&key));
    tasks::start(&api, "api.rollback.sinkVersion", subject, async move {
        let volumes = sinks::volumes(&inner).await?;
        checked.settle(&inner, &stamp).await?;
        let done = inner.repo.rollback_sink(&key, number, &volumes, &stamp);
        Ok(Done::new(
            done.await?.revision,
            "Sink version was rolled back successfully.",
        )
        .warn(checked.warnings))
    })
    .await
}

/// A sink that was made again under the id of one of another type has versions of that, too.
fn refuse_other_type(number: u32, wanted: &SinkTarget, now: &SinkTarget) -> Result<(), ApiError> {
    if SinkType::of(wanted) == SinkType::of(now) {
        return Ok(());
    }
    let (wanted, now) = (wanted.type_name(), now.type_name());
    Err(ApiError::bad_request(format!(
        "the type of a sink can't be changed: it is \"{now}\", version \"{number}\" is of type \"{wanted}\"."
    )))
}

/// A version's number as ids are compared: with ten digits.
fn padded(number: impl std::fmt::Display) -> String {
    format!("{:0>10}", number.to_string())
}

/// The part of the versions that was asked for. Its total counts only what comes after `afterId`,
/// as the compatible service does.
fn page(all: Vec<forebay_model::Version>, query: &ListQuery, after_id: String) -> Versions {
    let after = padded(&query.after_id);
    let mut left: Vec<_> = all.iter().filter(|v| padded(v.number) > after).collect();
    let total_count = left.len();
    left.truncate(query.limit as usize);
    let last_id = left.last().map_or_else(String::new, |v| padded(v.number));
    Versions {
        versions: left.into_iter().map(Version::from).collect(),
        page: Page {
            limit: query.limit,
            total_count,
            after_id,
            last_id,
        },
    }
}
