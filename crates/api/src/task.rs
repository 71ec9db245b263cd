//! Tasks.

use forebay_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A long operation; poll its `url` until it is finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Task)]
#[serde(rename_all = "camelCase")]
pub struct TaskView {
    /// Id of the task.
    pub task_id: String,
    /// Operation of the task.
    #[schema(example = "api.create.source")]
    pub r#type: String,
    /// URL of the task.
    pub url: String,
    /// State of the task.
    pub status: TaskStatus,
    /// Whether it succeeded or failed.
    pub is_finished: bool,
    /// When it was started.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub finished_at: Option<Timestamp>,
    /// Duration in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub duration: Option<u64>,
    /// Result for users; only of a successful task.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub result: Option<String>,
    /// Warnings of a successful task for users; absent if there are none. An extension of Forebay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Error for users; only of a failed task.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<String>,
    /// Subject of a successful task, or of a failed deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub outputs: Option<TaskOutputs>,
}

/// State of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum TaskStatus {
    /// It runs.
    Processing,
    /// It succeeded.
    Success,
    /// It failed.
    Error,
}

/// Subject of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskOutputs {
    /// Management URL of the source or sink.
    pub url: String,
    /// Number of the project.
    pub project_id: u64,
    /// Number of the branch.
    pub branch_id: u64,
    /// Id of the source.
    pub source_id: String,
    /// Id of the sink; only if the task changes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub sink_id: Option<String>,
}
