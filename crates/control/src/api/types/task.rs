//! Tasks.

use forebay_model::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::common::encode_path;

/// A long operation; poll its `url` until it is finished.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Task)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TaskView {
    task_id: String,
    #[schema(example = "api.create.source")]
    r#type: String,
    /// URL of the task.
    url: String,
    status: TaskStatus,
    is_finished: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    finished_at: Option<Timestamp>,
    /// Duration in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    duration: Option<u64>,
    /// Result for users; only of a successful task.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    result: Option<String>,
    /// Warnings of a successful task for users; absent if there are none. An extension of Forebay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// Error for users; only of a failed task.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
    /// Subject of a successful task, or of a failed deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    outputs: Option<TaskOutputs>,
}

/// Type of the task that deletes a source.
pub(crate) const DELETE_SOURCE: &str = "api.delete.source";

/// State of a task.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
enum TaskStatus {
    Processing,
    Success,
    Error,
}

/// Subject of a task.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TaskOutputs {
    /// Management URL of the source or sink.
    url: String,
    project_id: u64,
    branch_id: u64,
    source_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sink_id: Option<String>,
}

impl TaskView {
    /// `public_url` is the base of the API.
    pub(crate) fn new(task: &forebay_model::TaskEntry, public_url: &str) -> Self {
        let end = task.end.as_ref();
        let result = end.and_then(|e| e.outcome.as_ref().ok());
        let error = end.and_then(|e| e.outcome.as_ref().err());
        Self {
            task_id: task.id.clone(),
            r#type: task.kind.clone(),
            url: format!("{public_url}/v1/tasks/{}", encode_path(&task.id)),
            status: match (result, error) {
                (Some(_), _) => TaskStatus::Success,
                (_, Some(_)) => TaskStatus::Error,
                _ => TaskStatus::Processing,
            },
            is_finished: end.is_some(),
            created_at: task.created_at,
            finished_at: end.map(|e| e.finished_at),
            duration: end.map(|e| e.duration_ms),
            result: result.cloned(),
            warnings: end.map(|e| e.warnings.clone()).unwrap_or_default(),
            error: error.cloned(),
            // A deletion that failed halfway also has outputs.
            outputs: (result.is_some() || (error.is_some() && task.kind == DELETE_SOURCE))
                .then(|| TaskOutputs::new(task, public_url)),
        }
    }
}

impl TaskOutputs {
    fn new(task: &forebay_model::TaskEntry, public_url: &str) -> Self {
        let branch = task.source.branch;
        let source = &task.source.source;
        let mut url = format!(
            "{public_url}/v1/branches/{}/sources/{}",
            branch.branch,
            encode_path(source.as_str())
        );
        if let Some(sink) = &task.sink {
            url = format!("{url}/sinks/{}", encode_path(sink.as_str()));
        }
        Self {
            url,
            project_id: branch.project.0,
            branch_id: branch.branch.0,
            source_id: source.to_string(),
            sink_id: task.sink.as_ref().map(ToString::to_string),
        }
    }
}
