//! Tasks.

use forebay_api::task::{TaskOutputs, TaskStatus, TaskView};
use forebay_model::TaskEntry;

use super::encode_path;

/// Type of the task that deletes a source.
pub(in crate::api) const DELETE_SOURCE: &str = "api.delete.source";

/// `public_url` is the base of the API.
pub(in crate::api) fn task_view(task: &TaskEntry, public_url: &str) -> TaskView {
    let end = task.end.as_ref();
    let result = end.and_then(|e| e.outcome.as_ref().ok());
    let error = end.and_then(|e| e.outcome.as_ref().err());
    TaskView {
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
            .then(|| task_outputs(task, public_url)),
    }
}

fn task_outputs(task: &TaskEntry, public_url: &str) -> TaskOutputs {
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
    TaskOutputs {
        url,
        project_id: branch.project.0,
        branch_id: branch.branch.0,
        source_id: source.to_string(),
        sink_id: task.sink.as_ref().map(ToString::to_string),
    }
}
