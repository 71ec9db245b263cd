//! Rows of one sink: rendered elsewhere first, then put into one block, all of them or none.

use std::cell::RefCell;
use std::sync::Arc;

use forebay_record::{RecordContext, RecordErrorKind};

use super::outcome::{Failure, Fate, Kept, Refusal, Refused, SinkResult};
use super::{Batch, Step};
use crate::dead_letter::Letter;
use crate::pipeline::{Append, BlockTicket, Pipeline};
pub(super) use crate::template::Evaluated;

/// Where the random bits of UUIDs come from.
pub type Random = Arc<dyn Fn() -> u128 + Send + Sync>;

/// A scratch buffer that has become larger than this is given back.
const SCRATCH_KEPT: usize = 1 << 20;
/// Records rendered before other requests get their turn.
const TURN: usize = 64;

thread_local! {
    // Rows are made here and copied into their block: a copy of a kilobyte costs less than holding
    // the block's lock while a record is parsed.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with an empty buffer that this thread uses again and again.
pub(super) fn with_scratch<T>(f: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = SCRATCH.take();
    buffer.clear();
    let result = f(&mut buffer);
    if buffer.capacity() <= SCRATCH_KEPT {
        SCRATCH.set(buffer);
    }
    result
}

/// What a mapping made of a request's records.
#[derive(Debug, Default)]
pub(super) struct Rendered {
    pub(super) rows: u32,
    pub(super) refused: Refused,
    /// Refused, and to be kept.
    kept: Refused,
    letters: Vec<Letter>,
}

impl Rendered {
    /// So many rows that were not even rendered.
    pub(super) fn of(rows: usize) -> Self {
        Self {
            rows: u32::try_from(rows).unwrap_or(u32::MAX),
            ..Self::default()
        }
    }

    /// Renders one record.
    pub(super) fn render(
        &mut self,
        pipeline: &Pipeline,
        (index, record): (usize, &RecordContext),
        cells: &[Evaluated],
        random: &Random,
        out: &mut Vec<u8>,
    ) {
        let rendered = pipeline.render(record, cells, &mut || random(), out);
        let Err(error) = rendered else {
            self.rows += 1;
            return;
        };
        // A template that can't be run at the moment says nothing about the record.
        let keep = pipeline.keeps_refused() && error.kind != RecordErrorKind::Unavailable;
        let list = if keep {
            self.letters.push(Letter::new(record, &error));
            &mut self.kept
        } else {
            &mut self.refused
        };
        list.push(Refusal {
            index,
            line: record.line(),
            error,
        });
    }

    /// Hands refused records that are to be kept to the log. What it does not take is refused after
    /// all.
    fn keep(&mut self, pipeline: &Pipeline) -> Option<BlockTicket> {
        let letters = std::mem::take(&mut self.letters);
        let request = &letters.first()?.request;
        match pipeline.keep(request, &letters) {
            Ok(ticket) => Some(ticket),
            Err(not_kept) => {
                let mut kept = std::mem::take(&mut self.kept);
                for refusal in &mut kept.first {
                    let error = &mut refusal.error;
                    error.message = format!("{}; not kept, since {not_kept}", error.message);
                }
                self.refused.merge(kept);
                None
            }
        }
    }

    /// What became of the rows, and of the refused records that were handed to the log.
    pub(super) fn result(self, fate: Fate, kept: Fate) -> SinkResult {
        SinkResult {
            fate,
            rows: self.rows,
            refused: self.refused,
            kept: Kept {
                records: self.kept,
                fate: kept,
            },
        }
    }

    /// The same for rows that did not get that far.
    pub(super) fn failed(self, failure: Failure) -> SinkResult {
        self.result(Fate::Failed(failure), Fate::Nothing)
    }
}

/// Puts rows into the pipeline's open block, and refused records to the dead letters if the sink
/// keeps them.
pub(super) fn put(
    pipeline: &Arc<Pipeline>,
    rows: &[u8],
    rendered: &mut Rendered,
    batch: &Batch,
) -> Put {
    let first = batch.records.first().filter(|_| rendered.rows > 0);
    let wait = match first {
        None => None,
        Some(first) => match pipeline.append(rows, rendered.rows, first.request().received) {
            Append::Full => return Put::Full,
            Append::Retired => return Put::Retired,
            Append::Taken(wait) => Some(wait),
        },
    };
    // From here on this attempt is the last one.
    let mut rendered = std::mem::take(rendered);
    let letters = rendered.keep(pipeline);
    if wait.is_none() && letters.is_none() {
        return Put::Done(Step::Done(rendered.result(Fate::Nothing, Fate::Nothing)));
    }
    if pipeline.waits() || letters.is_some() {
        return Put::Done(Step::Waiting(wait, letters, rendered));
    }
    // Nobody waits for the disk, but that a volume takes nothing is said at once.
    let fate = wait
        .and_then(|w| w.now())
        .map_or(Fate::Accepted, Fate::from);
    Put::Done(Step::Done(rendered.result(fate, Fate::Nothing)))
}

/// How an attempt ended.
pub(super) enum Put {
    Done(Step),
    Full,
    Retired,
}

/// Rows that may have to wait for room.
pub(super) struct Rows {
    bytes: Vec<u8>,
    rendered: Rendered,
}

impl Rows {
    /// Renders all records, in turns with other requests.
    pub(super) async fn render(
        pipeline: &Pipeline,
        batch: &Batch,
        cells: Option<&[Vec<Evaluated>]>,
        random: &Random,
    ) -> Self {
        let mut this = Self {
            bytes: Vec::new(),
            rendered: Rendered::default(),
        };
        for (index, record) in batch.good() {
            let cells = cells.and_then(|c| c.get(index)).map(Vec::as_slice);
            let cells = cells.unwrap_or_default();
            this.rendered
                .render(pipeline, (index, record), cells, random, &mut this.bytes);
            if index % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
        this
    }

    /// Waits for room; [`Step::Todo`] when the slice was closed meanwhile.
    pub(super) async fn put(mut self, pipeline: &Arc<Pipeline>, batch: &Batch) -> Step {
        loop {
            let changed = pipeline.changed();
            match put(pipeline, &self.bytes, &mut self.rendered, batch) {
                Put::Done(step) => return step,
                Put::Retired => return Step::Todo,
                Put::Full => changed.await,
            }
        }
    }
}
