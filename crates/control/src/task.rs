//! Long work that a client starts and then asks about: one at a time for each source or sink,
//! recorded in the store, finished in the background.
//!
//! A task outlives the request that has started it. A stop of the server waits for tasks up to its
//! grace; what is left then ends with an error. Tasks of a process that was killed are ended by
//! whoever calls [`forebay_meta::Repo::fail_abandoned_tasks`] next.

use std::collections::HashSet;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forebay_meta::catalog::tasks::TaskError;
use forebay_meta::{Repo, StoreError};
use forebay_model::{Clock, SinkId, SourceKey, TaskEnd, TaskEntry};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the client is told when the cause is not for it; the log has it.
const UNKNOWN: &str = "Unknown error";
/// How often the end of a task is written again when the store fails.
const END_ATTEMPTS_MAX: u32 = 5;

/// What a task does; it ends with a success, or with why it failed, in a sentence for people.
/// [`None`] for a cause that is not for people; whoever returns it has logged it.
pub(crate) type TaskFuture = BoxFuture<'static, Result<TaskSuccess, Option<String>>>;

/// What a task that has succeeded says, in sentences for people.
#[derive(Debug, Default)]
pub(crate) struct TaskSuccess {
    /// What was done.
    pub(crate) result: String,
    /// What should be looked at all the same.
    pub(crate) warnings: Vec<String>,
}

/// What is worked on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TaskSubject {
    /// The source, or that of the sink.
    pub(crate) source: SourceKey,
    /// The sink, if it is one.
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

/// Why a task was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskStartError {
    /// Another one works on the same source or sink.
    #[error("another task works on it")]
    Busy,
    /// The server is about to stop.
    #[error("the server is stopping")]
    Stopping,
    /// It could not be recorded.
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

/// Takes the subject of a task for as long as it lives.
#[derive(Debug)]
struct SubjectLock {
    tasks: TaskRunner,
    subject: TaskSubject,
}

impl Drop for SubjectLock {
    fn drop(&mut self) {
        let mut busy = self.tasks.0.busy.lock();
        let busy = busy.as_mut().unwrap_or_else(|e| e.get_mut());
        busy.remove(&self.subject);
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

    /// Starts `work` on `subject` as a task of type `kind`; `suffix` makes its id its own.
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
        // Recording and working are one unit that goes on when the client goes away in between.
        let (reply, recorded) = oneshot::channel();
        let tasks = self.clone();
        let recording = task.clone();
        self.0.running.spawn(async move {
            let stored = tasks.0.repo.create_task(&recording).await;
            let go_on = stored.is_ok();
            // Nobody to tell: the client is gone, the work is done all the same.
            drop(reply.send(stored));
            if go_on {
                let outcome = tasks.run(&recording, work).await;
                // First free, then finished: who sees the end may go on at once.
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
        let mut busy = self.0.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.insert(subject.clone()).then(|| SubjectLock {
            tasks: self.clone(),
            subject: subject.clone(),
        })
    }

    async fn run(&self, task: &TaskEntry, work: TaskFuture) -> Result<TaskSuccess, String> {
        let timeout = self.0.timeout;
        let work = tokio::time::timeout(timeout, AssertUnwindSafe(work).catch_unwind());
        let outcome = tokio::select! {
            done = work => match done {
                Ok(Ok(Ok(result))) => Ok(result),
                Ok(Ok(Err(Some(error)))) => Err(error),
                Ok(Ok(Err(None))) => Err(UNKNOWN.to_owned()),
                Ok(Err(_panic)) => {
                    tracing::error!(task = %task.id, "a task has panicked");
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

    /// Records the end. When the store fails for long, the task stays unfinished until the node is
    /// started again.
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
                    tracing::error!(task = %task.id, %error, attempt, "the end of a task is not recorded");
                }
            }
            tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
        }
    }

    /// Takes no more tasks and waits for those that run, up to `grace`; what is left then is ended
    /// with an error. `true` when all came to their own end.
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
