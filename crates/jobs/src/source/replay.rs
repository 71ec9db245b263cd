//! Replays dead letters as a source.

use std::sync::Arc;

use forebay_model::DeadLetterSelection;

use crate::convert::LineReader;
use crate::engine::execution::JobExecution;
use crate::engine::outcome::{JobFailure, add};
use crate::engine::queue::QueueSender;
use crate::record::{
    DeadRecord, JobStage, Record, RecordOrigin, RecordOutcomes, RecordPosition, StageBatch,
};
use crate::state::JobDeadLetter;

/// Dead letters per read of the state.
const READ_AT_ONCE: u32 = 500;

/// The highest id at present: a record that fails again gets a higher one and is not replayed twice.
pub(crate) async fn last_id(execution: &JobExecution) -> Result<u64, JobFailure> {
    let mut last = 0;
    loop {
        let page = execution.state.dead_letters(last, READ_AT_ONCE).await;
        let page = page.map_err(execution.state_failed())?;
        match page.dead_letters.last() {
            Some(dead_letter) => last = dead_letter.id,
            None => return Ok(last),
        }
    }
}

/// Parameters of a replay.
pub(crate) struct ReplayPlan<'a> {
    pub(crate) selection: &'a DeadLetterSelection,
    /// Higher ids are not replayed.
    pub(crate) last: u64,
    /// Parses lines that were bad.
    pub(crate) reader: LineReader,
    /// Maximum number of lines that are still bad.
    pub(crate) max_errors: u64,
}

/// Sends dead letters of these stages. Lines that are still bad stay dead letters.
pub(crate) async fn read(
    execution: &Arc<JobExecution>,
    replay: &ReplayPlan<'_>,
    stages: &[JobStage],
    out: QueueSender<StageBatch>,
) -> Result<bool, JobFailure> {
    let (mut after, mut bad) = (0, 0);
    loop {
        let page = execution.state.dead_letters(after, READ_AT_ONCE).await;
        let page = page.map_err(execution.state_failed())?;
        let Some(newest) = page.dead_letters.last().map(|l| l.id) else {
            return Ok(true);
        };
        after = newest;
        let wanted = |l: &JobDeadLetter| {
            l.id <= replay.last
                && stages.contains(&l.failed_stage())
                && match replay.selection {
                    DeadLetterSelection::After(after) => after.is_none_or(|after| l.id > after),
                    DeadLetterSelection::These(ids) => ids.contains(&l.id),
                }
        };
        for dead_letter in page.dead_letters.into_iter().filter(wanted) {
            add(&execution.progress.read, 1);
            let record = match record_to_replay(dead_letter, &replay.reader) {
                Ok(record) => record,
                Err(dead) => {
                    bad += 1;
                    let text = format!("{}: {}", dead.origin, dead.error);
                    execution
                        .acknowledge(RecordOutcomes {
                            delivered: Vec::new(),
                            dead: vec![*dead],
                        })
                        .await;
                    if bad > replay.max_errors {
                        return Err(JobFailure::TooManyErrors(format!(
                            "{bad} bad lines, allowed are {} (maxErrors); the last is {text}",
                            replay.max_errors
                        )));
                    }
                    continue;
                }
            };
            if execution.control.stop.is_cancelled()
                || !out.send(StageBatch::Records(vec![record])).await
            {
                return Ok(false);
            }
        }
        if newest >= replay.last {
            return Ok(true);
        }
    }
}

/// The record of a dead letter, or a dead letter again if its line is still bad.
fn record_to_replay(
    dead_letter: JobDeadLetter,
    reader: &LineReader,
) -> Result<Record, Box<DeadRecord>> {
    let stage = dead_letter.failed_stage();
    let position = RecordPosition(dead_letter.id);
    let origin = RecordOrigin::Recorded(dead_letter.origin.into());
    let checked = match stage {
        JobStage::Parse => reader.check(dead_letter.body.clone()),
        JobStage::Processing | JobStage::Storage => Ok(()),
    };
    match checked {
        Ok(()) => Ok(Record {
            position,
            origin,
            body: dead_letter.body,
        }),
        Err(error) => Err(Box::new(DeadRecord {
            position,
            origin,
            stage,
            // Without a body (data that could not be decompressed), the first error stays.
            error: if dead_letter.body.is_empty() {
                dead_letter.error
            } else {
                error
            },
            body: dead_letter.body,
            request: dead_letter.request,
            status: None,
            attempts: dead_letter.attempts + 1,
        })),
    }
}
