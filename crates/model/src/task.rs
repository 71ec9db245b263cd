//! Tasks: long operations that a client starts and polls.

use crate::id::{ProjectId, SinkId, SourceKey};
use crate::time::Timestamp;

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEntry {
    /// The project whose token may read it.
    pub project: ProjectId,
    /// `<type>/<branch>/<source>[/<sink>]/<created at>_<5 characters>`.
    pub id: String,
    /// Type of the operation, like `api.create.source`.
    pub kind: String,
    /// Creation time.
    pub created_at: Timestamp,
    /// The node that runs it.
    pub node: String,
    /// Source of the operation.
    pub source: SourceKey,
    /// Sink of the operation, if it has one.
    pub sink: Option<SinkId>,
    /// Result; `None` while the task runs.
    pub end: Option<TaskEnd>,
}

/// Result of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEnd {
    /// End of the task.
    pub finished_at: Timestamp,
    /// Duration, milliseconds.
    pub duration_ms: u64,
    /// A message for people, of success or failure.
    pub outcome: Result<String, String>,
    /// Warnings for people: problems that did not make the task fail.
    pub warnings: Vec<String>,
}
