//! Tasks: how handlers start them, and how clients ask about them and wait for their end.

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
use super::params::TaskPath;
use super::types::task::TaskView;
use super::{ApiState, SharedApi};
use crate::task::{TaskFuture, TaskStartError, TaskSubject, TaskSuccess};

/// How often source nodes and tasks are looked at when the store can't say that something has changed.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Parameter of everything that answers with a task: how long the answer may wait for its end.
pub(super) const WAIT: &str = "wait";
/// The longest wait that can be asked for.
pub(super) const WAIT_MAX: HumanDuration = HumanDuration::secs(60);

/// What a task has changed, and what it says about it.
pub(super) struct CompletedChange {
    /// The transaction.
    pub(super) revision: Revision,
    /// A sentence for people.
    pub(super) result: Cow<'static, str>,
    /// Sentences for people: what should be looked at all the same.
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

/// Starts a task; it ends when the source nodes have followed its change.
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
                    result.push_str(" Not all source nodes have followed it yet.");
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

/// The text of a task's error. Causes that are not for people are logged here.
fn reported_error(kind: &str, error: &ApiError) -> Option<String> {
    if error.name.status() == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(kind, %error, "a task failed");
        return None;
    }
    Some(sentence(&error.message))
}

/// While a twin still creates the object, the compatible service prints its whole key.
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

/// Waits until the live source nodes have followed the change, so that a finished creation means
/// that records are taken. A node that hangs does not hold the task for ever: then it is `false`.
pub(super) async fn wait_for_nodes(api: &ApiState, revision: Revision) -> bool {
    let wait = all_nodes_at(api, revision);
    tokio::time::timeout(api.config.reconcile_timeout.0, wait)
        .await
        .is_ok()
}

async fn all_nodes_at(api: &ApiState, revision: Revision) {
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
                if !next_change(open).await {
                    watch = None;
                }
            }
            // Without a watch it looks every so often; the caller's patience ends it.
            None => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

/// Waits for a change; `false` when the watch has ended instead.
async fn next_change(watch: &mut WatchStream) -> bool {
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

/// A task, as it is at this moment; [`wait`] answers with a later moment if the client asks for it.
pub(super) struct TaskResponse {
    status: StatusCode,
    view: TaskView,
    unfinished: Option<UnfinishedTask>,
}

/// The unfinished task that an answer is about.
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
            view: TaskView::new(task, base(&api.config.public_url)),
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

/// The middleware that lets a client wait for the end of a task (`?wait=5s`): the answer is the
/// finished task as soon as it is that, or the running one when the time is over. Who goes away in
/// between has cancelled nothing: the task is not this request's.
pub(super) async fn wait(State(api): State<SharedApi>, request: Request, next: Next) -> Response {
    let until = requested_wait(request.uri()).map(|wait| {
        // Some time of the request is left to answer.
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
        // It was started all the same: the answer stays the one that says so.
        Err(error) => {
            tracing::warn!(task = id, %error, "the end of a task can't be waited for");
            response
        }
    }
}

/// How long a request wants to wait; what is not a time was refused before.
fn requested_wait(uri: &Uri) -> Option<HumanDuration> {
    let given = query_parameters(uri);
    let (_, text) = given.iter().find(|(name, _)| name == WAIT)?;
    text.parse().ok()
}

/// The task when it has ended, or as it is at `until`.
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
        // Either way it is looked at once more.
        drop(tokio::time::timeout_at(until, changed).await);
    }
}
