//! Starts tasks for handlers, returns their status, and waits for their end.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use forebay_meta::catalog::keys::{self, StoreKey};
use forebay_meta::catalog::tasks::TaskError;
use forebay_meta::kv::store::WatchStream;
use forebay_meta::{Revision, Versioned};
use forebay_model::{HumanDuration, ProjectId};
use futures::StreamExt;
use http::{StatusCode, Uri};
use tokio::time::Instant;

use super::call::{ApiCall, query_parameters};
use super::config::base;
use super::error::{self, ApiError, ErrorName, sentence};
use super::json_response::JsonResponse;
use super::operation::WAIT;
use super::views::task_view;
use super::{ApiState, SharedApi};
use crate::task::{TaskFuture, TaskStartError, TaskSubject, TaskSuccess};
use forebay_api::params::TaskPath;
use forebay_api::task::TaskView;

/// Poll interval of source nodes and tasks when the store has no watch.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Result of a task's change.
pub(super) struct CompletedChange {
    pub(super) revision: Revision,
    /// Sentence for users.
    pub(super) result: Cow<'static, str>,
    /// Warnings for users, in sentences.
    pub(super) warnings: Vec<String>,
}

impl CompletedChange {
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

/// Starts a task; it ends when the source nodes have applied its change.
pub(super) async fn start(
    api: &SharedApi,
    kind: &'static str,
    subject: TaskSubject,
    work: impl Future<Output = Result<CompletedChange, ApiError>> + Send + 'static,
) -> Result<TaskResponse, ApiError> {
    let inner = Arc::clone(api);
    let work: TaskFuture = Box::pin(async move {
        match work.await {
            Ok(done) => {
                let mut result = done.result.into_owned();
                if !wait_for_nodes(&inner, done.revision).await {
                    result.push_str(" Not all source nodes have applied it yet.");
                }
                Ok(TaskSuccess {
                    result,
                    warnings: done.warnings,
                })
            }
            Err(error) => Err(reported_error(kind, &error)),
        }
    });
    let suffix = api.random.task_suffix();
    match api.tasks.start(kind, subject.clone(), &suffix, work).await {
        Ok(task) => Ok(TaskResponse::new(api, StatusCode::ACCEPTED, &task)),
        Err(TaskStartError::Busy) => Err(busy(kind, &subject)),
        Err(e @ TaskStartError::Stopping) => Err(ApiError::unavailable(e)),
        Err(TaskStartError::Store(e)) => Err(e.into()),
    }
}

/// Error text of a task. Internal causes are logged here.
fn reported_error(kind: &str, error: &ApiError) -> Option<String> {
    if error.status() == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(kind, %error, "task failed");
        return None;
    }
    Some(sentence(&error.message))
}

/// While another task creates the object, the compatible service prints its whole key.
fn busy(kind: &str, subject: &TaskSubject) -> ApiError {
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
            ApiError::from_template(ErrorName::TaskAlreadyRunning, &[&object])
        }
    };
    error.retry_after(1)
}

/// Waits until the live source nodes have applied the change, so that records are accepted when a
/// creation has finished. `false` after a timeout, so that a hanging node does not block the task.
pub(super) async fn wait_for_nodes(api: &ApiState, revision: Revision) -> bool {
    let wait = all_nodes_at(api, revision);
    tokio::time::timeout(api.config.reconcile_timeout.0, wait)
        .await
        .is_ok()
}

async fn all_nodes_at(api: &ApiState, revision: Revision) {
    // Every report of an up-to-date node is later than the change itself.
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
            Err(error) => tracing::warn!(%error, "failed to read the revisions of source nodes"),
        }
        match &mut watch {
            Some(open) => {
                if !next_change(open).await {
                    watch = None;
                }
            }
            // Without a watch, poll; the caller's timeout ends it.
            None => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

/// Waits for a change; `false` if the watch ended.
async fn next_change(watch: &mut WatchStream) -> bool {
    loop {
        match watch.next().await {
            Some(Ok(batch)) if batch.events.is_empty() => {}
            Some(Ok(_)) => return true,
            Some(Err(_)) | None => return false,
        }
    }
}

/// Returns a task.
#[utoipa::path(
    get, path = "/v1/tasks/{*taskId}", tag = "task", operation_id = "GetTask",
    params(TaskPath),
    responses((status = 200, description = "The task.", body = TaskView))
)]
pub(super) async fn get(
    State(api): State<SharedApi>,
    call: ApiCall<TaskPath>,
) -> Result<TaskResponse, ApiError> {
    let id = &call.path.task_id;
    match api.repo.task(call.who.project, id).await {
        Ok(task) => Ok(TaskResponse::new(&api, StatusCode::OK, &task)),
        Err(TaskError::Store(e)) => Err(e.into()),
        Err(_) => Err(ApiError::from_template(ErrorName::TaskNotFound, &[id])),
    }
}

/// A task at this moment; [`wait`] replaces it by a later state on request.
pub(super) struct TaskResponse {
    status: StatusCode,
    view: TaskView,
    unfinished: Option<UnfinishedTask>,
}

/// The unfinished task of a response.
#[derive(Clone)]
struct UnfinishedTask {
    project: ProjectId,
    id: String,
}

impl TaskResponse {
    fn new(api: &ApiState, status: StatusCode, task: &forebay_model::TaskEntry) -> Self {
        let unfinished = task.end.is_none().then(|| UnfinishedTask {
            project: task.project,
            id: task.id.clone(),
        });
        Self {
            status,
            view: task_view(task, base(&api.config.public_url)),
            unfinished,
        }
    }
}

impl IntoResponse for TaskResponse {
    fn into_response(self) -> Response {
        let mut response = JsonResponse(self.status, self.view).into_response();
        if let Some(unfinished) = self.unfinished {
            response.extensions_mut().insert(unfinished);
        }
        response
    }
}

/// Middleware that waits for the end of a task (`?wait=5s`): responds with the task when it has
/// finished, or with the running task after that time. A disconnected client cancels nothing: the
/// task does not belong to the request.
pub(super) async fn wait(State(api): State<SharedApi>, request: Request, next: Next) -> Response {
    let until = requested_wait(request.uri()).map(|wait| {
        // Leave some of the request's time for the response.
        let longest = api.config.request_timeout.0.mul_f64(0.9);
        Instant::now() + wait.0.min(longest)
    });
    let mut response = next.run(request).await;
    let unfinished = response.extensions_mut().remove::<UnfinishedTask>();
    let (Some(until), Some(UnfinishedTask { project, id })) = (until, unfinished) else {
        return response;
    };
    match wait_for_end(&api, project, &id, until).await {
        Ok(task) => TaskResponse::new(&api, response.status(), &task).into_response(),
        // The task was started: keep the original response.
        Err(error) => {
            tracing::warn!(task = id, %error, "failed to wait for the end of a task");
            response
        }
    }
}

/// The requested wait; an invalid one was rejected before.
fn requested_wait(uri: &Uri) -> Option<HumanDuration> {
    let given = query_parameters(uri);
    let (_, text) = given.iter().find(|(name, _)| name == WAIT)?;
    text.parse().ok()
}

/// The task when it has ended, or its state at `until`.
async fn wait_for_end(
    api: &ApiState,
    project: ProjectId,
    id: &str,
    until: Instant,
) -> Result<forebay_model::TaskEntry, TaskError> {
    let key = StoreKey::Task(project, id).to_string();
    loop {
        let Versioned { value, revision } = api.repo.versioned_task(project, id).await?;
        if value.end.is_some() || Instant::now() >= until {
            return Ok(value);
        }
        let changed = async {
            let watch = api.repo.store().watch(&key, revision.next()).await;
            let is_news = match watch {
                Ok(mut watch) => next_change(&mut watch).await,
                Err(_) => false,
            };
            if !is_news {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        // Read again in either case.
        drop(tokio::time::timeout_at(until, changed).await);
    }
}
