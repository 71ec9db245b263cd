//! Metrics of the control plane.

use std::time::Duration;

use forebay_model::MetricDefinition;

const TASKS: &str = "forebay_tasks_total";
const TASKS_RUNNING: &str = "forebay_tasks_running";
const TASK_SECONDS: &str = "forebay_task_seconds";

/// All metrics of the control plane.
pub const DEFINITIONS: &[MetricDefinition] = &[
    MetricDefinition::counter(
        TASKS,
        "Finished tasks of the management API, by kind (like api.create.source) and outcome (success or error).",
    )
    .labels(&["kind", "outcome"]),
    MetricDefinition::gauge(TASKS_RUNNING, "Running tasks of the management API."),
    MetricDefinition::histogram(
        TASK_SECONDS,
        "Time of a task of the management API, in seconds.",
    ),
];

/// A running task; counts it when it ends, however it ends.
pub(crate) struct RunningTask(());

impl RunningTask {
    pub(crate) fn begin() -> Self {
        metrics::gauge!(TASKS_RUNNING).increment(1.0);
        Self(())
    }

    /// Counts the outcome. `kind` is one of the constants of the API.
    pub(crate) fn finish(self, kind: String, is_success: bool, time: Duration) {
        let outcome = if is_success { "success" } else { "error" };
        metrics::counter!(TASKS, "kind" => kind, "outcome" => outcome).increment(1);
        metrics::histogram!(TASK_SECONDS).record(time);
    }
}

impl Drop for RunningTask {
    fn drop(&mut self) {
        metrics::gauge!(TASKS_RUNNING).decrement(1.0);
    }
}
