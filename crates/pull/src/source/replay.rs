//! Dead letters as a source.

use std::sync::Arc;

use crate::convert::Reader;
use crate::engine::Run;
use crate::engine::outcome::{Failure, add};
use crate::engine::queue::Giver;
use crate::record::{Batch, Dead, Origin, Position, Record, Settled, Stage};
use crate::state::DeadLetter;

/// Dead letters that are read at once.
const READ_AT_ONCE: u32 = 500;

/// Which dead letters are put through again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All that are there at the beginning.
    All,
    /// These.
    Ids(Vec<u64>),
}

/// The highest number that there is now: what dies again gets a higher one and is not taken twice.
pub(crate) async fn last_id(run: &Run) -> Result<u64, Failure> {
    let mut last = 0;
    loop {
        let page = run.state.dead(last, READ_AT_ONCE).await;
        let page = page.map_err(run.state_failed())?;
        match page.letters.last() {
            Some(letter) => last = letter.id,
            None => return Ok(last),
        }
    }
}

/// What is replayed, and how.
pub(crate) struct Replay<'a> {
    pub(crate) selection: &'a Selection,
    /// Higher numbers are not taken.
    pub(crate) last: u64,
    /// Reads again the lines that were bad.
    pub(crate) reader: Reader,
    /// Lines that may be bad still.
    pub(crate) max_errors: u64,
}

/// Gives those whose stage is one of `stages`. Lines that are bad still stay dead letters.
pub(crate) async fn read(
    run: &Arc<Run>,
    replay: &Replay<'_>,
    stages: &[Stage],
    out: Giver<Batch>,
) -> Result<bool, Failure> {
    let (mut after, mut bad) = (0, 0);
    loop {
        let page = run.state.dead(after, READ_AT_ONCE).await;
        let page = page.map_err(run.state_failed())?;
        let Some(newest) = page.letters.last().map(|l| l.id) else {
            return Ok(true);
        };
        after = newest;
        let wanted = |l: &DeadLetter| {
            l.id <= replay.last
                && stages.contains(&l.failed_stage())
                && match replay.selection {
                    Selection::All => true,
                    Selection::Ids(ids) => ids.contains(&l.id),
                }
        };
        for letter in page.letters.into_iter().filter(wanted) {
            add(&run.progress.read, 1);
            let record = match again(letter, &replay.reader) {
                Ok(record) => record,
                Err(dead) => {
                    bad += 1;
                    let text = format!("{}: {}", dead.origin, dead.error);
                    run.settle(Settled {
                        done: Vec::new(),
                        dead: vec![*dead],
                    })
                    .await;
                    if bad > replay.max_errors {
                        return Err(Failure::TooManyErrors(format!(
                            "{bad} bad lines, allowed are {} (maxErrors); the last is {text}",
                            replay.max_errors
                        )));
                    }
                    continue;
                }
            };
            if run.control.stop.is_cancelled() || !out.give(Batch::Records(vec![record])).await {
                return Ok(false);
            }
        }
        if newest >= replay.last {
            return Ok(true);
        }
    }
}

/// The record of a dead letter; a line that is bad still is one again.
fn again(letter: DeadLetter, reader: &Reader) -> Result<Record, Box<Dead>> {
    let stage = letter.failed_stage();
    let position = Position(letter.id);
    let origin = Origin::Noted(letter.origin.into());
    let checked = match stage {
        Stage::Parse => reader.check(letter.body.clone()),
        Stage::Processing | Stage::Storage => Ok(()),
    };
    match checked {
        Ok(()) => Ok(Record {
            position,
            origin,
            body: letter.body,
        }),
        Err(error) => Err(Box::new(Dead {
            position,
            origin,
            stage,
            // Of what could not be unpacked there is no text to say more about.
            error: if letter.body.is_empty() {
                letter.error
            } else {
                error
            },
            body: letter.body,
            request: letter.request,
            status: None,
            attempts: letter.attempts + 1,
        })),
    }
}
