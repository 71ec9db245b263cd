//! Rows of one sink: rendered elsewhere first, then put into one block, all of them or none.

use std::cell::RefCell;
use std::sync::Arc;

use forebay_record::{CompiledMapping, RecordContext};

use super::outcome::{Fate, Refusal, Refused, SinkResult};
use super::{Batch, Step};
use crate::pipeline::{Append, Pipeline};
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
}

impl Rendered {
    /// So many rows that were not even rendered.
    pub(super) fn of(rows: usize) -> Self {
        Self {
            rows: u32::try_from(rows).unwrap_or(u32::MAX),
            refused: Refused::default(),
        }
    }

    /// Renders one record.
    pub(super) fn render(
        &mut self,
        mapping: &CompiledMapping,
        (index, record): (usize, &RecordContext),
        cells: &[Evaluated],
        random: &Random,
        out: &mut Vec<u8>,
    ) {
        match mapping.render(record, cells, &mut || random(), out) {
            Ok(()) => self.rows += 1,
            Err(error) => self.refused.push(Refusal {
                index,
                line: record.line(),
                error,
            }),
        }
    }

    pub(super) fn result(self, fate: Fate) -> SinkResult {
        SinkResult {
            fate,
            rows: self.rows,
            refused: self.refused,
        }
    }
}

/// Puts rows into the pipeline's open block.
pub(super) fn put(
    pipeline: &Arc<Pipeline>,
    rows: &[u8],
    rendered: &mut Rendered,
    batch: &Batch,
) -> Put {
    if rendered.rows == 0 {
        return Put::Done(Step::Done(std::mem::take(rendered).result(Fate::Nothing)));
    }
    let Some(first) = batch.records.first() else {
        return Put::Done(Step::Done(std::mem::take(rendered).result(Fate::Nothing)));
    };
    let received = first.request().received;
    match pipeline.append(rows, rendered.rows, received) {
        Append::Full => Put::Full,
        Append::Retired => Put::Retired,
        Append::Taken(wait) => {
            let rendered = std::mem::take(rendered);
            if pipeline.waits() {
                return Put::Done(Step::Waiting(wait, rendered));
            }
            // Nobody waits for the disk, but that a volume takes nothing is said at once.
            let fate = wait.now().map_or(Fate::Accepted, Fate::from);
            Put::Done(Step::Done(rendered.result(fate)))
        }
    }
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
        mapping: &CompiledMapping,
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
                .render(mapping, (index, record), cells, random, &mut this.bytes);
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
