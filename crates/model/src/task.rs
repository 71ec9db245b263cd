//! Long work that a client starts and then asks about.

use crate::id::{ProjectId, SinkId, SourceKey};
use crate::time::Timestamp;

/// One piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEntry {
    /// The project whose token may ask about it.
    pub project: ProjectId,
    /// `<type>/<branch>/<source>[/<sink>]/<created at>_<5 characters>`.
    pub id: String,
    /// What it does, like `api.create.source`.
    pub kind: String,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// The node that works on it.
    pub node: String,
    /// What it works on.
    pub source: SourceKey,
    /// What it works on, when that is a sink.
    pub sink: Option<SinkId>,
    /// How it ended; `None` while it runs.
    pub end: Option<TaskEnd>,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEnd {
    /// When.
    pub finished_at: Timestamp,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
    /// A sentence for people.
    pub outcome: Result<String, String>,
    /// Sentences for people: what has not kept it from succeeding, and should be looked at.
    pub warnings: Vec<String>,
}
