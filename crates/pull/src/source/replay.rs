//! Dead letters as a source.

use std::sync::Arc;

use crate::engine::Run;
use crate::engine::outcome::{Failure, add};
use crate::engine::queue::Giver;
use crate::record::{Origin, Position, Record, Stage};
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

/// Gives those whose stage is one of `stages` and whose number is at most `last`.
pub(crate) async fn read(
    run: &Arc<Run>,
    selection: &Selection,
    stages: &[Stage],
    last: u64,
    out: Giver<Vec<Record>>,
) -> Result<bool, Failure> {
    let mut after = 0;
    loop {
        let page = run.state.dead(after, READ_AT_ONCE).await;
        let page = page.map_err(run.state_failed())?;
        let Some(newest) = page.letters.last().map(|l| l.id) else {
            return Ok(true);
        };
        after = newest;
        let wanted = |l: &DeadLetter| {
            l.id <= last
                && stages.contains(&l.failed_stage())
                && match selection {
                    Selection::All => true,
                    Selection::Ids(ids) => ids.contains(&l.id),
                }
        };
        for letter in page.letters.into_iter().filter(wanted) {
            add(&run.progress.read, 1);
            let record = Record {
                position: Position {
                    batch: letter.id,
                    index: 0,
                },
                origin: Origin::Noted(letter.origin.into()),
                body: letter.body,
                row: None,
            };
            if run.control.stop.is_cancelled() || !out.give(vec![record]).await {
                return Ok(false);
            }
        }
        if newest >= last {
            return Ok(true);
        }
    }
}
