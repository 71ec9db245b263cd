//! Tasks: how handlers start them, and how clients ask about them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use forebay_meta::Revision;
use forebay_meta::keys;
use forebay_meta::repo::tasks::TaskError;
use forebay_meta::store::Watch;
use futures::StreamExt;

use super::answer::Answer;
use super::call::Call;
use super::config::base;
use super::error::{self, ApiError, ErrorName, sentence};
use super::params::TaskPath;
use super::types::task::Task;
use super::{Inner, Shared};
use crate::task::{StartError, Subject, Success, Work};

/// How often source nodes are looked at when the store can't say that something has changed.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What a task has changed, and what it says about it.
pub(super) struct Done {
    /// The transaction.
    pub(super) revision: Revision,
    /// A sentence for people.
    pub(super) result: Cow<'static, str>,
    /// Sentences for people: what should be looked at all the same.
    pub(super) warnings: Vec<String>,
}

impl Done {
    pub(super) fn new(revision: Revision, result: impl Into<Cow<'static, str>>) -> Self {
        Self {
            revision,
            result: result.into(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn warn(mut self, warnings: Vec<String>) -> Self {
        self.warnings.extend(warnings);
        self
    }
}

/// Starts a task; it ends when the source nodes have followed its change.
pub(super) async fn start(
    api: &Shared,
    kind: &'static str,
    subject: Subject,
    work: impl Future<Output = Result<Done, ApiError>> + Send + 'static,
) -> Result<Answer<Task>, ApiError> {
    let inner = Arc::clone(api);
    let work: Work = Box::pin(async move {
        match work.await {
            Ok(done) => {
                let mut result = done.result.into_owned();
                if !follow(&inner, done.revision).await {
                    result.push_str(" Not all source nodes have followed it yet.");
                }
                Ok(Success {
                    result,
                    warnings: done.warnings,
                })
            }
            Err(error) => Err(told(kind, &error)),
        }
    });
    let suffix = api.random.task_suffix();
    match api.tasks.start(kind, subject.clone(), &suffix, work).await {
        Ok(task) => {
            let view = Task::new(&task, base(&api.config.public_url));
            Ok(Answer::accepted(view))
        }
        Err(StartError::Busy) => Err(busy(kind, &subject)),
        Err(e @ StartError::Stopping) => Err(ApiError::unavailable(e)),
        Err(StartError::Store(e)) => Err(e.into()),
    }
}

/// The text of a task's error. Causes that are not for people are logged here.
fn told(kind: &str, error: &ApiError) -> Option<String> {
    if error.name.status() == http::StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(kind, %error, "a task failed");
        return None;
    }
    Some(sentence(&error.message))
}

/// While a twin still creates the object, the compatible service prints its whole key.
fn busy(kind: &str, subject: &Subject) -> ApiError {
    let key = subject.to_string();
    let (what, id) = match &subject.sink {
        Some(sink) => ("sink", sink.as_str()),
        None => ("source", subject.source.source.as_str()),
    };
    let error = match kind {
        "api.create.source" => error::source_exists(&key),
        "api.create.sink" => error::sink_exists(&key),
        _ => {
            let object = format!("{what} \"{id}\"");
            ApiError::of(ErrorName::TaskAlreadyRunning, &[&object])
        }
    };
    error.retry_after(1)
}

/// Waits until the live source nodes have followed the change, so that a finished creation means
/// that records are taken. A node that hangs does not hold the task for ever: then it is `false`.
pub(super) async fn follow(api: &Inner, revision: Revision) -> bool {
    let wait = followed(api, revision);
    tokio::time::timeout(api.config.follow_timeout.0, wait)
        .await
        .is_ok()
}

async fn followed(api: &Inner, revision: Revision) {
    // Every word of a node that is far enough is later than the change itself.
    let watch = api
        .repo
        .store()
        .watch(keys::PROCESSED, revision.next())
        .await;
    let mut watch = watch.ok();
    loop {
        match api.repo.processed_revisions().await {
            Ok(nodes) if nodes.iter().all(|n| n.revision >= revision) => return,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "can't read how far source nodes are"),
        }
        match &mut watch {
            Some(open) => {
                if !has_news(open).await {
                    watch = None;
                }
            }
            // Without a watch it looks every so often; the caller's patience ends it.
            None => tokio::time::sleep(LOOK_INTERVAL).await,
        }
    }
}

/// Waits for a change; `false` when the watch has ended instead.
async fn has_news(watch: &mut Watch) -> bool {
    loop {
        match watch.next().await {
            Some(Ok(batch)) if batch.events.is_empty() => {}
            Some(Ok(_)) => return true,
            Some(Err(_)) | None => return false,
        }
    }
}

/// How far a task is.
#[utoipa::path(
    get, path = "/v1/tasks/{*taskId}", tag = "task", operation_id = "GetTask",
    params(TaskPath),
    responses((status = 200, description = "The task.", body = Task))
)]
pub(super) async fn get(
    State(api): State<Shared>,
    call: Call<TaskPath>,
) -> Result<Answer<Task>, ApiError> {
    let id = &call.path.task_id;
    match api.repo.task(call.who.project, id).await {
        Ok(task) => Ok(Answer::ok(Task::new(&task, base(&api.config.public_url)))),
        Err(TaskError::Store(e)) => Err(e.into()),
        Err(_) => Err(ApiError::of(ErrorName::TaskNotFound, &[id])),
    }
}
