//! Long operations started by a client: one at a time per source or sink, recorded in the store,
//! run in the background.
//!
//! A task outlives the request that started it. A shutdown waits for tasks up to its grace period
//! and ends the others with an error. Tasks of a killed process are ended by the next
//! [`forebay_meta::Repo::fail_abandoned_tasks`].

use std::collections::HashSet;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use forebay_meta::catalog::tasks::TaskError;
use forebay_meta::{Repo, StoreError};
use forebay_model::{Backoff, Clock, SinkId, SourceKey, TaskEnd, TaskEntry};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::RunningTask;

/// Shown to the client when the cause is internal; the log has it.
const UNKNOWN: &str = "Unknown error";
/// Attempts to record the end of a task when the store fails.
const END_ATTEMPTS_MAX: u32 = 5;
/// Waits between them.
const END_BACKOFF: Backoff = Backoff::doubling(Duration::from_millis(200), Duration::from_secs(4));

/// The work of a task; an error has a sentence for users, or [`None`] for an internal cause, which
/// is already logged.
pub(crate) type TaskFuture = BoxFuture<'static, Result<TaskSuccess, Option<String>>>;

/// Result of a successful task, in sentences for users.
#[derive(Debug, Default)]
pub(crate) struct TaskSuccess {
    pub(crate) result: String,
    pub(crate) warnings: Vec<String>,
}

/// Source or sink that a task changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TaskSubject {
    /// The source, or the source of the sink.
    pub(crate) source: SourceKey,
    pub(crate) sink: Option<SinkId>,
}

impl fmt::Display for TaskSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)?;
        match &self.sink {
            Some(sink) => write!(f, "/{sink}"),
            None => Ok(()),
        }
    }
}

impl TaskSubject {
    /// `<branch>/<source>[/<sink>]`, the middle of a task's id.
    fn in_project(&self) -> String {
        let branch = self.source.branch.branch;
        match &self.sink {
            Some(sink) => format!("{branch}/{}/{sink}", self.source.source),
            None => format!("{branch}/{}", self.source.source),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskStartError {
    /// Another task changes the same source or sink.
    #[error("another task is running on it")]
    Busy,
    #[error("the server is stopping")]
    Stopping,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The tasks of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct TaskRunner(Arc<TaskRunnerState>);

#[derive(Debug)]
struct TaskRunnerState {
    repo: Repo,
    clock: Arc<dyn Clock>,
    node: String,
    timeout: Duration,
    busy: Mutex<HashSet<TaskSubject>>,
    running: TaskTracker,
    interrupt: CancellationToken,
}

/// Locks the subject of a task until dropped.
#[derive(Debug)]
struct SubjectLock {
    tasks: TaskRunner,
    subject: TaskSubject,
}

impl Drop for SubjectLock {
    fn drop(&mut self) {
        self.tasks.0.busy.lock().remove(&self.subject);
    }
}

impl TaskRunner {
    pub(crate) fn new(repo: Repo, clock: Arc<dyn Clock>, node: String, timeout: Duration) -> Self {
        Self(Arc::new(TaskRunnerState {
            repo,
            clock,
            node,
            timeout,
            busy: Mutex::new(HashSet::new()),
            running: TaskTracker::new(),
            interrupt: CancellationToken::new(),
        }))
    }

    /// Starts `work` on `subject` as a task of type `kind`; `suffix` makes its id unique.
    pub(crate) async fn start(
        &self,
        kind: &'static str,
        subject: TaskSubject,
        suffix: &str,
        work: TaskFuture,
    ) -> Result<TaskEntry, TaskStartError> {
        if self.0.running.is_closed() {
            return Err(TaskStartError::Stopping);
        }
        let lock = self.lock_subject(&subject).ok_or(TaskStartError::Busy)?;
        let created_at = self.0.clock.now();
        let task = TaskEntry {
            project: subject.source.branch.project,
            id: format!("{kind}/{}/{created_at}_{suffix}", subject.in_project()),
            kind: kind.to_owned(),
            created_at,
            node: self.0.node.clone(),
            source: subject.source,
            sink: subject.sink,
            end: None,
        };
        // Recording and running are one unit that continues if the client disconnects in between.
        let (reply, recorded) = oneshot::channel();
        let tasks = self.clone();
        let recording = task.clone();
        self.0.running.spawn(async move {
            let stored = tasks.0.repo.create_task(&recording).await;
            let go_on = stored.is_ok();
            // The client has disconnected; the work continues.
            drop(reply.send(stored));
            if go_on {
                let (running, begun) = (RunningTask::begin(), Instant::now());
                let outcome = tasks.run(&recording, work).await;
                running.finish(recording.kind.clone(), outcome.is_ok(), begun.elapsed());
                // Unlock before recording the end: a client that reads the end may start the next
                // task at once.
                drop(lock);
                tasks.end(&recording, outcome).await;
            }
        });
        match recorded.await {
            Ok(Ok(())) => Ok(task),
            Ok(Err(TaskError::Store(e))) => Err(e.into()),
            Ok(Err(e)) => Err(StoreError::Unavailable(e.to_string()).into()),
            Err(_) => Err(TaskStartError::Stopping),
        }
    }

    fn lock_subject(&self, subject: &TaskSubject) -> Option<SubjectLock> {
        let mut busy = self.0.busy.lock();
        busy.insert(subject.clone()).then(|| SubjectLock {
            tasks: self.clone(),
            subject: subject.clone(),
        })
    }

    #[tracing::instrument(name = "task", level = "debug", skip_all, fields(id = %task.id))]
    async fn run(&self, task: &TaskEntry, work: TaskFuture) -> Result<TaskSuccess, String> {
        let timeout = self.0.timeout;
        let work = tokio::time::timeout(timeout, AssertUnwindSafe(work).catch_unwind());
        let outcome = tokio::select! {
            done = work => match done {
                Ok(Ok(Ok(result))) => Ok(result),
                Ok(Ok(Err(Some(error)))) => Err(error),
                Ok(Ok(Err(None))) => Err(UNKNOWN.to_owned()),
                Ok(Err(_panic)) => {
                    tracing::error!(task = %task.id, "task panicked");
                    Err(UNKNOWN.to_owned())
                }
                Err(_) => Err(format!("The task took longer than {timeout:?}.")),
            },
            () = self.0.interrupt.cancelled() => {
                Err("The server was stopped before the task was finished.".to_owned())
            }
        };
        match &outcome {
            Ok(_) => tracing::info!(task = %task.id, "task finished"),
            Err(error) => tracing::warn!(task = %task.id, error, "task failed"),
        }
        outcome
    }

    /// Records the end. If the store keeps failing, the task stays unfinished until the node
    /// restarts.
    async fn end(&self, task: &TaskEntry, outcome: Result<TaskSuccess, String>) {
        let finished_at = self.0.clock.now();
        let millis = finished_at.since(task.created_at).as_millis();
        let (outcome, warnings) = match outcome {
            Ok(success) => (Ok(success.result), success.warnings),
            Err(error) => (Err(error), Vec::new()),
        };
        let end = TaskEnd {
            finished_at,
            duration_ms: u64::try_from(millis).unwrap_or(u64::MAX),
            outcome,
            warnings,
        };
        for attempt in 1..=END_ATTEMPTS_MAX {
            match self
                .0
                .repo
                .finish_task(task.project, &task.id, end.clone())
                .await
            {
                Ok(_) | Err(TaskError::Ended(_) | TaskError::NotFound(_)) => return,
                Err(error) => {
                    tracing::error!(task = %task.id, %error, attempt, "failed to record the end of a task");
                }
            }
            tokio::time::sleep(END_BACKOFF.delay(attempt)).await;
        }
    }

    /// Accepts no more tasks and waits up to `grace` for running ones; the others end with an
    /// error. Returns whether all tasks finished by themselves.
    pub(crate) async fn shutdown(&self, grace: Duration) -> bool {
        self.0.running.close();
        let all = self.0.running.wait();
        if tokio::time::timeout(grace, all).await.is_ok() {
            return true;
        }
        self.0.interrupt.cancel();
        self.0.running.wait().await;
        false
    }
}
