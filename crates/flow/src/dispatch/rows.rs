//! Rows of one sink: rendered elsewhere first, then put into one block, all of them or none.

use std::cell::RefCell;
use std::sync::Arc;

use forebay_model::Timestamp;
use forebay_record::{RecordContext, RecordErrorKind};

use super::outcome::{Failure, Fate, Kept, Progress, Refusal, Refused, SinkResult};
use super::{Batch, Step};
use crate::budget::Charge;
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
    /// Bytes that refused records take.
    refused_bytes: u64,
}

/// What a refused record takes: its index.
const REFUSED_BYTES: u64 = size_of::<usize>() as u64;
/// What a letter takes besides its texts.
const LETTER_BYTES: u64 = 256;

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
        self.refused_bytes += REFUSED_BYTES;
        let list = if keep {
            let letter = Letter::new(record, &error);
            // It is written as JSON, which has the body once more.
            let texts = letter.message.len() + letter.column.len() + 2 * letter.body.len();
            self.refused_bytes += LETTER_BYTES + texts as u64;
            self.letters.push(letter);
            &mut self.kept
        } else {
            &mut self.refused
        };
        list.push(Refusal {
            index,
            line: record.line(),
            byte: record.byte(),
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
    received: Timestamp,
    progress: &Progress,
) -> Put {
    let wait = match rendered.rows {
        0 => None,
        count => match pipeline.append(rows, count, received) {
            Append::Full => return Put::Full,
            Append::Retired => return Put::Retired,
            Append::Taken(wait) => Some(wait),
        },
    };
    // From here on this attempt is the last one.
    if wait.is_some() || !rendered.letters.is_empty() {
        progress.begin();
    }
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

/// Rows that may have to wait for room in their pipeline.
#[derive(Debug)]
pub(super) struct Rows {
    bytes: Vec<u8>,
    rendered: Rendered,
    /// For the rows, and for what is kept of refused records.
    charge: Option<Charge>,
}

impl Rows {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            rendered: Rendered::default(),
            charge: None,
        }
    }

    /// Bytes that they take.
    pub(super) fn held(&self) -> u64 {
        self.bytes.len() as u64 + self.rendered.refused_bytes
    }

    /// Pays for them from now on.
    pub(super) fn charged(mut self, charge: Charge) -> Self {
        self.charge = Some(charge);
        self
    }

    /// Renders one more record; returns how many bytes that has taken.
    pub(super) fn add(
        &mut self,
        pipeline: &Pipeline,
        record: (usize, &RecordContext),
        cells: &[Evaluated],
        random: &Random,
    ) -> u64 {
        let before = self.held();
        self.rendered
            .render(pipeline, record, cells, random, &mut self.bytes);
        self.held() - before
    }

    /// Renders all records of a small request, in turns with other requests. What is read of a
    /// record is forgotten with its row.
    pub(super) async fn render(
        pipeline: &Pipeline,
        batch: &Batch,
        cells: Option<&[Vec<Evaluated>]>,
        random: &Random,
    ) -> Self {
        let mut this = Self::new();
        for (index, record) in batch.good() {
            let cells = cells.and_then(|c| c.get(index)).map(Vec::as_slice);
            let record = record.unparsed();
            this.add(
                pipeline,
                (index, &record),
                cells.unwrap_or_default(),
                random,
            );
            if index % TURN == TURN - 1 || pipeline.mapping().has_queries() {
                tokio::task::yield_now().await;
            }
        }
        let charge = batch.charge.budget().rows(this.held());
        this.charged(charge)
    }

    /// Puts them into a block, or says why not.
    pub(super) fn try_put(
        &mut self,
        pipeline: &Arc<Pipeline>,
        received: Timestamp,
        progress: &Progress,
    ) -> Put {
        put(
            pipeline,
            &self.bytes,
            &mut self.rendered,
            received,
            progress,
        )
    }

    /// Waits for room; [`SinkStep::Todo`] when the slice was closed meanwhile.
    pub(super) async fn put(
        mut self,
        pipeline: &Arc<Pipeline>,
        received: Timestamp,
        progress: &Progress,
    ) -> Step {
        loop {
            let changed = pipeline.changed();
            match self.try_put(pipeline, received, progress) {
                Put::Done(step) => return step,
                Put::Retired => return Step::Todo,
                Put::Full => changed.await,
            }
        }
    }
}
