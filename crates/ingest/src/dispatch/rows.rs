//! Rows of one sink: rendered into a scratch buffer, then appended to one block, all of them or
//! none.

use std::cell::RefCell;
use std::sync::Arc;

use forebay_model::Timestamp;
use forebay_record::{
    CsvReader, CsvRecord, DeadLetter, RandomBits, RecordContext, RecordErrorKind, RenderedMessage,
};

use super::outcome::{
    KeptRecords, RecordRejection, RejectedRecords, RequestProgress, SinkFailure, SinkResult,
    WriteOutcome,
};
use super::record_batch::RecordBatch;
use crate::memory_limiter::MemoryPermit;
use crate::pipeline::{AppendAttempt, AppendTicket, BlockTicket, Pipeline};
use crate::tap::TappedRecord;
pub(super) use crate::template::TemplateResult;

/// Scratch buffers larger than this are freed.
const SCRATCH_KEPT: usize = 1 << 20;
/// Records rendered between two yields to other requests.
const YIELD_EVERY: usize = 64;

thread_local! {
    // Rows are rendered here and copied into their block: copying a kilobyte costs less than
    // holding the block's lock while a record is parsed.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with an empty buffer that this thread reuses.
pub(super) fn with_scratch<T>(f: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = SCRATCH.take();
    buffer.clear();
    let result = f(&mut buffer);
    if buffer.capacity() <= SCRATCH_KEPT {
        SCRATCH.set(buffer);
    }
    result
}

/// Result of rendering a request's records.
#[derive(Debug, Default)]
pub(super) struct RenderSummary {
    pub(super) rows: u32,
    pub(super) rejected: RejectedRecords,
    /// Rejected, and to be kept.
    kept: RejectedRecords,
    dead_letters: Vec<DeadLetter>,
    /// Samples for taps, offered once the rows are in a block.
    tapped: Vec<TappedRecord>,
    /// Bytes held for rejected records.
    rejected_bytes: u64,
}

/// Bytes held for a rejected record: its index.
const REJECTION_BYTES: u64 = size_of::<usize>() as u64;
/// Bytes of a dead letter besides its texts.
const DEAD_LETTER_BYTES: u64 = 256;

impl RenderSummary {
    /// Summary of rows that were not rendered.
    pub(super) fn with_rows(rows: usize) -> Self {
        Self {
            rows: u32::try_from(rows).unwrap_or(u32::MAX),
            ..Self::default()
        }
    }

    pub(super) fn render_record(
        &mut self,
        pipeline: &Pipeline,
        (index, record): (usize, &RecordContext),
        cells: &[TemplateResult],
        random: &RandomBits,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        let rendered = pipeline.render_parts(record, cells, &mut || random(), out);
        if let Some(taps) = pipeline.taps() {
            let tapped = match &rendered {
                Ok(message) => taps.row(pipeline.sink(), record, || match message {
                    Some(message) => message_parts(message),
                    None => row_cells(pipeline, out.get(start..).unwrap_or_default()),
                }),
                Err(error) => taps.rejected(pipeline.sink(), record, error),
            };
            self.tapped.extend(tapped);
        }
        let Err(error) = rendered else {
            self.rows += 1;
            return;
        };
        let keep = pipeline.keeps_rejected() && error.kind != RecordErrorKind::Unavailable;
        self.rejected_bytes += REJECTION_BYTES;
        let list = if keep {
            let dead_letter = DeadLetter::new(record, &error);
            // It is written as JSON, which contains the body once more.
            let texts =
                dead_letter.message.len() + dead_letter.column.len() + 2 * dead_letter.body.len();
            self.rejected_bytes += DEAD_LETTER_BYTES + texts as u64;
            self.dead_letters.push(dead_letter);
            &mut self.kept
        } else {
            &mut self.rejected
        };
        list.push(RecordRejection {
            index,
            line: record.line(),
            byte: record.byte(),
            error,
        });
    }

    /// Appends rejected records that are to be kept to the dead letters. Those that can't be
    /// appended are rejected after all.
    fn append_dead_letters(&mut self, pipeline: &Pipeline) -> Option<BlockTicket> {
        let dead_letters = std::mem::take(&mut self.dead_letters);
        let request = &dead_letters.first()?.request;
        match pipeline.append_dead_letters(request, &dead_letters) {
            Ok(ticket) => Some(ticket),
            Err(not_kept) => {
                let mut kept = std::mem::take(&mut self.kept);
                for rejection in &mut kept.first {
                    let error = &mut rejection.error;
                    error.message = format!("{}; not kept, since {not_kept}", error.message);
                }
                self.rejected.merge(kept);
                None
            }
        }
    }

    /// Combines the outcomes of the rows and of the dead letters.
    pub(super) fn into_result(self, outcome: WriteOutcome, kept: WriteOutcome) -> SinkResult {
        SinkResult {
            outcome,
            rows: self.rows,
            rejected: self.rejected,
            kept: KeptRecords {
                records: self.kept,
                outcome: kept,
            },
        }
    }

    /// Result for rows that were not appended.
    pub(super) fn into_failure(self, failure: SinkFailure) -> SinkResult {
        self.into_result(WriteOutcome::Failed(failure), WriteOutcome::Nothing)
    }
}

/// Cells of a rendered row, by column.
fn row_cells(pipeline: &Pipeline, row: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut record = CsvRecord::default();
    // Rendered a moment ago: it is well-formed.
    if !CsvReader::new(row)
        .read(&mut record)
        .is_ok_and(|found| found)
    {
        return Vec::new();
    }
    let names = pipeline.mapping().column_names().map(str::to_owned);
    names.zip(record.iter().map(<[u8]>::to_vec)).collect()
}

/// Parts of a message, named as the columns of its mapping.
fn message_parts(message: &RenderedMessage) -> Vec<(String, Vec<u8>)> {
    let mut parts = vec![("value".to_owned(), message.value.clone())];
    parts.extend(
        message
            .key
            .iter()
            .map(|key| ("key".to_owned(), key.clone())),
    );
    let headers = message.headers.iter();
    parts.extend(headers.map(|(name, value)| (format!("headers.{name}"), value.clone())));
    parts
}

/// Puts rows into the pipeline's open block, and rejected records into the dead letters if the sink
/// keeps them.
pub(super) fn try_append(
    pipeline: &Arc<Pipeline>,
    rows: &[u8],
    rendered: &mut RenderSummary,
    received: Timestamp,
    progress: &RequestProgress,
) -> DispatchAttempt {
    let wait = match rendered.rows {
        0 => None,
        count => match pipeline.append(rows, count, received) {
            AppendAttempt::Full => return DispatchAttempt::Full,
            AppendAttempt::Retired => return DispatchAttempt::Retired,
            AppendAttempt::Taken(wait) => Some(wait),
        },
    };
    // From here on the attempt can't be repeated.
    if wait.is_some() || !rendered.dead_letters.is_empty() {
        progress.begin();
    }
    let mut rendered = std::mem::take(rendered);
    let tapped = std::mem::take(&mut rendered.tapped);
    let dead_letters = rendered.append_dead_letters(pipeline);
    for sample in tapped {
        sample.with_kept(dead_letters.is_some()).offer();
    }
    if wait.is_none() && dead_letters.is_none() {
        return DispatchAttempt::Done(SinkStep::Done(
            rendered.into_result(WriteOutcome::Nothing, WriteOutcome::Nothing),
        ));
    }
    if pipeline.waits() || dead_letters.is_some() {
        return DispatchAttempt::Done(SinkStep::Waiting(wait, dead_letters, rendered));
    }
    // The response does not wait for the disk, but a volume that rejects data is reported at once.
    let outcome = wait
        .and_then(|w| w.try_outcome())
        .map_or(WriteOutcome::Accepted, WriteOutcome::from);
    DispatchAttempt::Done(SinkStep::Done(
        rendered.into_result(outcome, WriteOutcome::Nothing),
    ))
}

/// Progress of a request at one sink.
pub(super) enum SinkStep {
    /// Rows are in a block, rejected records on their way to the log.
    Waiting(Option<AppendTicket>, Option<BlockTicket>, RenderSummary),
    Done(SinkResult),
    /// Nothing could be done without waiting.
    Todo,
}

/// Result of an attempt.
pub(super) enum DispatchAttempt {
    Done(SinkStep),
    Full,
    Retired,
}

/// Rows that may have to wait for capacity in their pipeline.
#[derive(Debug)]
pub(super) struct PendingRows {
    bytes: Vec<u8>,
    rendered: RenderSummary,
    /// Covers the rows, and what is kept of rejected records.
    memory_permit: Option<MemoryPermit>,
}

impl PendingRows {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            rendered: RenderSummary::default(),
            memory_permit: None,
        }
    }

    /// Bytes that the rows hold.
    pub(super) fn held_bytes(&self) -> u64 {
        self.bytes.len() as u64 + self.rendered.rejected_bytes
    }

    /// Sets the memory permit of the rows.
    pub(super) fn with_permit(mut self, memory_permit: MemoryPermit) -> Self {
        self.memory_permit = Some(memory_permit);
        self
    }

    /// Renders one more record; returns the bytes added.
    pub(super) fn add(
        &mut self,
        pipeline: &Pipeline,
        record: (usize, &RecordContext),
        cells: &[TemplateResult],
        random: &RandomBits,
    ) -> u64 {
        let before = self.held_bytes();
        self.rendered
            .render_record(pipeline, record, cells, random, &mut self.bytes);
        self.held_bytes() - before
    }

    /// Renders all records of a small request, yielding to other requests. What is parsed of a
    /// record is dropped with its row.
    pub(super) async fn render_batch(
        pipeline: &Pipeline,
        batch: &RecordBatch,
        cells: Option<&[Vec<TemplateResult>]>,
        random: &RandomBits,
    ) -> Self {
        let mut this = Self::new();
        for (index, record) in batch.valid_records() {
            let cells = cells.and_then(|c| c.get(index)).map(Vec::as_slice);
            let record = record.unparsed();
            this.add(
                pipeline,
                (index, &record),
                cells.unwrap_or_default(),
                random,
            );
            if index % YIELD_EVERY == YIELD_EVERY - 1 || pipeline.mapping().has_queries() {
                tokio::task::yield_now().await;
            }
        }
        let memory_permit = batch
            .memory_permit
            .limiter()
            .acquire_for_rows(this.held_bytes());
        this.with_permit(memory_permit)
    }

    /// Puts the rows into a block, or returns why not.
    pub(super) fn try_put(
        &mut self,
        pipeline: &Arc<Pipeline>,
        received: Timestamp,
        progress: &RequestProgress,
    ) -> DispatchAttempt {
        try_append(
            pipeline,
            &self.bytes,
            &mut self.rendered,
            received,
            progress,
        )
    }

    /// Waits for capacity; [`SinkStep::Todo`] when the slice was closed meanwhile.
    pub(super) async fn put(
        mut self,
        pipeline: &Arc<Pipeline>,
        received: Timestamp,
        progress: &RequestProgress,
    ) -> SinkStep {
        loop {
            let changed = pipeline.changed();
            match self.try_put(pipeline, received, progress) {
                DispatchAttempt::Done(step) => return step,
                DispatchAttempt::Retired => return SinkStep::Todo,
                DispatchAttempt::Full => changed.await,
            }
        }
    }
}
