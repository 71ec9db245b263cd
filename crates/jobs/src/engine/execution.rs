//! State of a run, shared by its stages.

use std::sync::Arc;

use forebay_model::Clock;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::outcome::{JobControl, JobFailure, JobProgress, add};
use crate::record::{DeadRecord, RecordOrigin, RecordOutcomes, RecordPosition};
use crate::state::{JobState, StateError};

/// Outcomes that may wait for the checkpoint writer.
const OUTCOMES_AHEAD: usize = 256;

/// Maximum bytes of an idempotency key; some servers reject longer ones.
const KEY_MAX: usize = 255;

/// Looks up an environment variable by name.
pub type EnvironmentLookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Dependencies of a run.
#[derive(Clone)]
pub struct JobContext {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Environment variables, for S3.
    pub variable: EnvironmentLookup,
    /// Cancelled to stop the run in order.
    pub stop: CancellationToken,
    /// Counters of the run.
    pub progress: Arc<JobProgress>,
}

/// State shared by the stages of a run.
pub(crate) struct JobExecution {
    pub(crate) state: JobState,
    pub(crate) control: JobControl,
    pub(crate) progress: Arc<JobProgress>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Records per batch: one if an API accepts them one by one.
    pub(crate) batch_size: usize,
    /// Read ahead of the consumers: reading costs no API request.
    pub(crate) reads_ahead: bool,
    id: String,
    outcomes: mpsc::Sender<RecordOutcomes>,
}

impl JobExecution {
    /// Records the outcomes of records in the state.
    pub(crate) async fn acknowledge(&self, outcomes: RecordOutcomes) {
        if outcomes.delivered.is_empty() && outcomes.dead.is_empty() {
            return;
        }
        add(&self.progress.dead, outcomes.dead.len());
        // The checkpoint writer stops early only when it has failed, which ends the run.
        drop(self.outcomes.send(outcomes).await);
    }

    pub(crate) async fn acknowledge_record(&self, position: RecordPosition) {
        self.acknowledge(RecordOutcomes {
            delivered: vec![(position, 1)],
            dead: Vec::new(),
        })
        .await;
    }

    pub(crate) async fn move_to_dlq(&self, dead: DeadRecord) {
        tracing::warn!(origin = %dead.origin, stage = dead.stage.name(), error = dead.error, "record moved to dead letters");
        self.acknowledge(RecordOutcomes {
            delivered: Vec::new(),
            dead: vec![dead],
        })
        .await;
    }

    /// The same for each attempt of a record, and different for any other record of any job.
    pub(crate) fn idempotency_key(&self, origin: &RecordOrigin) -> String {
        idempotency_key(&self.id, origin)
    }

    pub(crate) fn state_failed(&self) -> impl Fn(StateError) -> JobFailure + use<> {
        |e| JobFailure::State(e.to_string())
    }
}

/// Bytes that are escaped in an idempotency key.
const NOT_IN_KEYS: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// An idempotency key that is a valid header value and unique per origin: other bytes are escaped as
/// `%0A`, and an origin that is too long is hashed.
fn idempotency_key(id: &str, origin: &RecordOrigin) -> String {
    let text = origin.to_string();
    let key = format!("{id}-{}", utf8_percent_encode(&text, NOT_IN_KEYS));
    if key.len() <= KEY_MAX {
        return key;
    }
    format!("{id}-{:x}", Sha256::digest(text))
}

/// Starts an execution. Returns it with the receiver of the outcomes of its records.
pub(super) async fn start_execution(
    state: JobState,
    context: &JobContext,
    unit: usize,
    reads_ahead: bool,
) -> Result<(Arc<JobExecution>, mpsc::Receiver<RecordOutcomes>), JobFailure> {
    let id = state
        .id()
        .await
        .map_err(|e| JobFailure::State(e.to_string()))?;
    let (sender, receiver) = mpsc::channel(OUTCOMES_AHEAD);
    let execution = JobExecution {
        state,
        control: JobControl::new(context.stop.child_token()),
        progress: Arc::clone(&context.progress),
        clock: Arc::clone(&context.clock),
        batch_size: unit,
        reads_ahead,
        id,
        outcomes: sender,
    };
    Ok((Arc::new(execution), receiver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_origin_has_its_own_idempotency_key() {
        let key =
            |file: &str, line| idempotency_key("id", &RecordOrigin::Line(file.into(), line, 0));
        assert_eq!(key("a.jsonl", 7), "id-a.jsonl:7");
        assert_ne!(key("a b", 1), key("a-b", 1));
        assert_ne!(key("é", 1), key("è", 1));
        assert_ne!(key("a b", 1), key("a%20b", 1));
        let (long, other) = ("é".repeat(200), format!("{}e", "é".repeat(199)));
        assert_ne!(key(&long, 1), key(&other, 1));
        assert_ne!(key(&long, 1), key(&long, 2));
        let is_plain =
            |key: &str| key.len() <= KEY_MAX && key.bytes().all(|b| b.is_ascii_graphic());
        assert!(is_plain(&key(&long, 1)) && is_plain(&key("\n\t\u{fffd}", 1)));
    }
}
