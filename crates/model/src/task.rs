//! Tasks: long operations that a client starts and polls.

use serde::{Deserialize, Serialize};

use crate::id::{ProjectId, SinkId, SourceKey};
use crate::time::Timestamp;

/// A task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<SinkId>,
    /// Result; `None` while the task runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<TaskEnd>,
}

/// Result of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskEnd {
    /// End of the task.
    pub finished_at: Timestamp,
    /// Duration, milliseconds.
    pub duration_ms: u64,
    /// A message for people, of success or failure.
    #[serde(flatten, with = "OutcomeForm")]
    pub outcome: Result<String, String>,
    /// Warnings for people: problems that did not make the task fail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Form of [`TaskEnd::outcome`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Result<String, String>")]
enum OutcomeForm {
    #[serde(rename = "result")]
    Ok(String),
    #[serde(rename = "error")]
    Err(String),
}
