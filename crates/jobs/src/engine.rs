//! Runs a job: stages between bounded queues.
//!
//! ```text
//! source ─► queue ─► processing × N ─► queue ─► storage × N ─► outcomes ─► state
//! ```
//!
//! A record that has left the source is in a queue, with a worker, or acknowledged (delivered or a dead
//! letter). Whatever is not acknowledged when a run ends is read again by the next run. The stages end one
//! after another, each after its predecessor, so a stopped run finishes work in progress.

use std::sync::Arc;

use forebay_model::DeadLetterSelection;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::convert::LineReader;
use crate::definition::{JobDefinition, JobDestination, JobSource};
use crate::record::{JobStage, RecordOutcomes, StageBatch};
use crate::source::api::ApiSource;
use crate::source::files::FileSource;
use crate::source::replay::{self, ReplayPlan};
use crate::stage::RecordPoster;
use crate::state::JobState;
use crate::store::KeyedTableWriter;

pub(crate) mod checkpoint;
pub(crate) mod execution;
pub(crate) mod outcome;
pub(crate) mod queue;
mod retry;

use checkpoint::{CheckpointMode, CheckpointTracker, write_checkpoints};
pub use execution::{EnvironmentLookup, JobContext};
use execution::{JobExecution, start_execution};
use outcome::JobFailure;
use queue::{QueueReceiver, QueueSender, queue};

/// Records per batch, where batching is possible.
const RECORDS_PER_BATCH: usize = 500;

/// Outcome of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobOutcome {
    /// The source is exhausted.
    Complete,
    /// Stopped on request; the next run resumes.
    Stopped,
    /// The run failed; the next run resumes once the cause is fixed.
    Failed(JobFailure),
}

/// Runs a job until it completes, is stopped or fails.
#[tracing::instrument(name = "job", level = "debug", skip_all, fields(job = definition.name))]
pub async fn run(definition: &JobDefinition, state: JobState, context: &JobContext) -> JobOutcome {
    let unit = if definition.processing.is_some()
        || matches!(definition.destination, JobDestination::Http(_))
    {
        1
    } else {
        RECORDS_PER_BATCH
    };
    let reads_ahead = matches!(definition.source, JobSource::Files(_));
    let (execution, outcomes) = match start_execution(state, context, unit, reads_ahead).await {
        Ok(begun) => begun,
        Err(failure) => return JobOutcome::Failed(failure),
    };
    let is_complete = match &definition.source {
        JobSource::HttpApi(api) => {
            let checkpoints = CheckpointWriter::start(&execution, outcomes, CheckpointMode::Inbox);
            let read = async |out| match ApiSource::new(Arc::clone(&execution), api).await {
                Ok(source) => source.read(out).await,
                Err(failure) => {
                    execution.control.fail(failure);
                    false
                }
            };
            let read = run_stages(&execution, definition, true, read).await;
            checkpoints.finish(&execution).await;
            read
        }
        JobSource::Files(files) => {
            let tracker = Arc::new(CheckpointTracker::default());
            let checkpoints = CheckpointWriter::start(
                &execution,
                outcomes,
                CheckpointMode::Files(Arc::clone(&tracker)),
            );
            let source = FileSource {
                execution: Arc::clone(&execution),
                files: files.clone(),
                tracker,
                reader: LineReader::new(definition, &context.progress),
                concurrency: definition.concurrency(),
            };
            let read = async |out| source.read(context, out).await;
            let read = run_stages(&execution, definition, true, read).await;
            checkpoints.finish(&execution).await;
            if read
                && execution.control.failure().is_none()
                && let Err(e) = execution.state.forget_files().await
            {
                execution.control.fail(execution.state_failed()(e));
            }
            read
        }
    };
    job_outcome(&execution, is_complete)
}

/// Replays dead letters, each from the stage where it failed.
pub async fn replay(
    definition: &JobDefinition,
    selection: &DeadLetterSelection,
    state: JobState,
    context: &JobContext,
) -> JobOutcome {
    let (execution, outcomes) = match start_execution(state, context, 1, false).await {
        Ok(begun) => begun,
        Err(failure) => return JobOutcome::Failed(failure),
    };
    let checkpoints = CheckpointWriter::start(&execution, outcomes, CheckpointMode::Dead);
    let last = match replay::last_id(&execution).await {
        Ok(last) => last,
        Err(failure) => return JobOutcome::Failed(failure),
    };
    let replay = ReplayPlan {
        selection,
        last,
        reader: LineReader::new(definition, &context.progress),
        max_errors: match &definition.source {
            JobSource::Files(files) => files.max_errors,
            // Records of an API are parsed with their page.
            JobSource::HttpApi(_) => u64::MAX,
        },
    };
    let mut is_complete = true;
    let before: &[JobStage] = &[JobStage::Parse, JobStage::Processing];
    for (stages, with_processing) in [(before, true), (&[JobStage::Storage], false)] {
        let read = async |out| {
            let read = replay::read(&execution, &replay, stages, out).await;
            read.unwrap_or_else(|failure| {
                execution.control.fail(failure);
                false
            })
        };
        is_complete &= run_stages(&execution, definition, with_processing, read).await;
    }
    checkpoints.finish(&execution).await;
    job_outcome(&execution, is_complete)
}

fn job_outcome(execution: &JobExecution, is_complete: bool) -> JobOutcome {
    match execution.control.failure() {
        Some(failure) => JobOutcome::Failed(failure),
        None if is_complete => JobOutcome::Complete,
        None => JobOutcome::Stopped,
    }
}

/// The task that writes outcomes to the state.
struct CheckpointWriter {
    drained: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl CheckpointWriter {
    fn start(
        execution: &Arc<JobExecution>,
        outcomes: mpsc::Receiver<RecordOutcomes>,
        mode: CheckpointMode,
    ) -> Self {
        let drained = CancellationToken::new();
        let task = write_checkpoints(Arc::clone(execution), outcomes, mode, drained.clone());
        Self {
            drained,
            task: AbortOnDropHandle::new(tokio::spawn(task)),
        }
    }

    /// Waits until all outcomes are stored; no stage may send any more.
    async fn finish(self, execution: &JobExecution) {
        self.drained.cancel();
        if let Err(e) = self.task.await {
            execution.control.fail(JobFailure::State(format!(
                "the checkpoint writer failed: {e}"
            )));
        }
    }
}

/// Runs the stages after the source `read` until all have ended. Returns the result of `read`.
async fn run_stages(
    execution: &Arc<JobExecution>,
    definition: &JobDefinition,
    with_processing: bool,
    read: impl AsyncFnOnce(QueueSender<StageBatch>) -> bool,
) -> bool {
    let capacity = if execution.batch_size == 1 {
        definition.queue as usize
    } else {
        2
    };
    let (sender, receiver) = queue(capacity);
    let mut tasks = JoinSet::new();
    let started = spawn_stages(execution, definition, with_processing, receiver, &mut tasks).await;
    if let Err(failure) = started {
        execution.control.fail(failure);
        tasks.abort_all();
        return false;
    }
    let is_end = read(sender).await;
    while let Some(ended) = tasks.join_next().await {
        if let Err(e) = ended {
            let text = format!("a worker failed: {e}");
            execution.control.fail(JobFailure::Destination(text));
        }
    }
    is_end
}

async fn spawn_stages(
    execution: &Arc<JobExecution>,
    definition: &JobDefinition,
    with_processing: bool,
    receiver: QueueReceiver<StageBatch>,
    tasks: &mut JoinSet<()>,
) -> Result<(), JobFailure> {
    let mut receiver = receiver;
    if let Some(config) = definition.processing.as_ref().filter(|_| with_processing) {
        let poster = Arc::new(RecordPoster::new(
            Arc::clone(execution),
            config,
            JobStage::Processing,
        )?);
        let (sender, next) = queue(definition.queue as usize);
        for _ in 0..poster.workers() {
            tasks.spawn(Arc::clone(&poster).work(receiver.clone(), Some(sender.clone())));
        }
        receiver = next;
    }
    match &definition.destination {
        JobDestination::Http(config) => {
            let poster = Arc::new(RecordPoster::new(
                Arc::clone(execution),
                config,
                JobStage::Storage,
            )?);
            for _ in 0..poster.workers() {
                tasks.spawn(Arc::clone(&poster).work(receiver.clone(), None));
            }
        }
        JobDestination::Table(config) => {
            let writer = KeyedTableWriter::new(Arc::clone(execution), config).await?;
            tasks.spawn(Arc::new(writer).work(receiver));
        }
    }
    Ok(())
}
