//! Metrics of calls to the staging storage.

use forebay_model::MetricDefinition;
use tokio::time::Instant;

use super::error::StagingError;

const CALLS: &str = "forebay_staging_calls_total";
const SECONDS: &str = "forebay_staging_call_seconds";
const OPERATIONS: [&str; 4] = ["write", "read", "look up", "delete"];

/// All metrics of the staging storage.
pub const DEFINITIONS: &[MetricDefinition] = &[
    MetricDefinition::counter(
        CALLS,
        "Calls to the staging storage, by operation (write, read, look_up or delete) and outcome (ok or failed).",
    )
    .labels(&["operation", "outcome"]),
    MetricDefinition::histogram(
        SECONDS,
        "Time of a call to the staging storage, by operation, in seconds; of a read, until its first bytes.",
    )
    .labels(&["operation"]),
];

/// Creates all counters with 0, so that the first failure is an increase.
pub fn register() {
    for operation in OPERATIONS.map(label) {
        for outcome in ["ok", "failed"] {
            metrics::counter!(CALLS, "operation" => operation, "outcome" => outcome).increment(0);
        }
    }
}

fn label(operation: &'static str) -> &'static str {
    match operation {
        "look up" => "look_up",
        other => other,
    }
}

/// Counts a call and its time.
pub(super) async fn measured<T>(
    operation: &'static str,
    call: impl Future<Output = Result<T, StagingError>>,
) -> Result<T, StagingError> {
    let begun = Instant::now();
    let done = call.await;
    let operation = label(operation);
    let outcome = if done.is_ok() { "ok" } else { "failed" };
    metrics::counter!(CALLS, "operation" => operation, "outcome" => outcome).increment(1);
    metrics::histogram!(SECONDS, "operation" => operation).record(begun.elapsed());
    done
}
