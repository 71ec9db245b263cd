//! Tasks: long operations with a result that a client can query.

use std::time::Duration;

use forebay_model::{NodeId, ProjectId, TaskEnd, TaskEntry, Timestamp};

use super::{Repo, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::kv::store::StoreError;

/// Error of a task whose node stopped.
const NODE_STOPPED: &str = "The node that ran the task stopped before the task was finished.";

/// Retention of tasks after their end, or, if unfinished, after their creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskRetention {
    /// Of successful tasks.
    pub success: Duration,
    /// Of all other tasks.
    pub other: Duration,
}

impl Default for TaskRetention {
    fn default() -> Self {
        Self {
            success: Duration::from_secs(3600),
            other: Duration::from_secs(48 * 3600),
        }
    }
}

/// Error of finding or changing a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    #[error("task \"{0}\" not found")]
    NotFound(String),
    /// The id is in use.
    #[error("task \"{0}\" already exists")]
    Exists(String),
    #[error("task \"{0}\" has already ended")]
    Ended(String),
    /// Too many concurrent changes; may be retried.
    #[error("too many concurrent changes, try again")]
    Conflict,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Repo {
    /// Stores a task that begins.
    pub async fn create_task(&self, task: &TaskEntry) -> Result<(), TaskError> {
        let key = StoreKey::Task(task.project, &task.id);
        let mut txn = self.begin();
        txn.expect_absent(key);
        txn.put(key, task)?;
        if task.end.is_none() {
            let node = NodeId(task.node.clone());
            let unfinished = StoreKey::UnfinishedTask(&node, task.project, &task.id);
            txn.put(unfinished, task)?;
        }
        match self.commit(txn).await? {
            Some(_) => Ok(()),
            None => Err(TaskError::Exists(task.id.clone())),
        }
    }

    /// Stores the end of a task; once.
    pub async fn finish_task(
        &self,
        project: ProjectId,
        id: &str,
        end: TaskEnd,
    ) -> Result<TaskEntry, TaskError> {
        let end = &end;
        self.transact(|txn| {
            Box::pin(async move {
                let read = self.task_entry(project, id).await?;
                if read.end.is_some() {
                    return Err(TaskError::Ended(id.to_owned()));
                }
                let mut task = read.value.clone();
                task.end = Some(end.clone());
                let node = NodeId(task.node.clone());
                txn.expect_unchanged(StoreKey::Task(project, id), &read);
                txn.put(StoreKey::Task(project, id), &task)?;
                txn.delete(StoreKey::UnfinishedTask(&node, project, id));
                Ok(task)
            })
        })
        .await
        .map(|done| done.value)
    }

    async fn task_entry(
        &self,
        project: ProjectId,
        id: &str,
    ) -> Result<Versioned<TaskEntry>, TaskError> {
        let found = self.read(StoreKey::Task(project, id)).await?;
        found.ok_or_else(|| TaskError::NotFound(id.to_owned()))
    }

    /// Reads a task with the revision that last wrote it.
    pub async fn versioned_task(
        &self,
        project: ProjectId,
        id: &str,
    ) -> Result<Versioned<TaskEntry>, TaskError> {
        self.task_entry(project, id).await
    }

    /// Reads a task of a project.
    pub async fn task(&self, project: ProjectId, id: &str) -> Result<TaskEntry, TaskError> {
        self.task_entry(project, id).await.map(|t| t.value)
    }

    /// Ends abandoned tasks with an error: unfinished tasks of nodes that are not live, and those
    /// that a live node created before its start. Returns their number.
    pub async fn fail_abandoned_tasks(&self, now: Timestamp) -> Result<usize, TaskError> {
        // Read the tasks first: a node that registers after that has none of them.
        let unfinished = self.read_all::<TaskEntry>(keys::UNFINISHED_TASKS).await?;
        let nodes = self.nodes().await?;
        let mut failed = 0;
        for unfinished_task in unfinished {
            let task = unfinished_task.value;
            let is_alive = nodes
                .iter()
                .any(|n| n.id.0 == task.node && n.started_at <= task.created_at);
            if is_alive {
                continue;
            }
            let millis = now.since(task.created_at).as_millis();
            let end = TaskEnd {
                finished_at: now,
                duration_ms: u64::try_from(millis).unwrap_or(u64::MAX),
                outcome: Err(NODE_STOPPED.to_owned()),
                warnings: Vec::new(),
            };
            match self.finish_task(task.project, &task.id, end).await {
                Ok(_) => failed += 1,
                Err(TaskError::Ended(_) | TaskError::NotFound(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(failed)
    }

    /// Removes tasks that are older than their retention. Returns their number.
    pub async fn remove_old_tasks(
        &self,
        retention: TaskRetention,
        now: Timestamp,
    ) -> Result<usize, TaskError> {
        let mut removed = 0;
        for read in self.read_all::<TaskEntry>(keys::TASKS).await? {
            let (since, keep) = match &read.end {
                Some(end) if end.outcome.is_ok() => (end.finished_at, retention.success),
                Some(end) => (end.finished_at, retention.other),
                None => (read.created_at, retention.other),
            };
            if now.since(since) < keep {
                continue;
            }
            let key = StoreKey::Task(read.project, &read.id);
            let node = NodeId(read.node.clone());
            let mut txn = self.begin();
            txn.expect_unchanged(key, &read);
            txn.delete(key);
            txn.delete(StoreKey::UnfinishedTask(&node, read.project, &read.id));
            // A task that was finished concurrently is removed next time.
            removed += usize::from(self.commit(txn).await?.is_some());
        }
        Ok(removed)
    }
}
