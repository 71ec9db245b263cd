//! Pipeline of one slice: rows collect in an open block, which is sealed and appended when the disk
//! is free for it (ADR 0001); then all requests with a row in it are woken.
//!
//! An idle pipeline has no task and no buffer; ten thousand of them cost a few megabytes.

mod appender;
mod completion;
mod dead_letters;
mod local_log;
mod shared;
mod state;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use forebay_buffer::{Message, encode_standalone};
use forebay_model::settings::RejectionAction;
use forebay_model::{BlockCompression, SinkKey, SinkSettings, SliceKey, Timestamp};
use forebay_record::{
    CompiledMapping, CompiledMessage, DeadLetter, RecordContext, RecordError, RenderedMessage,
    RequestInfo, SealedBlock,
};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::tap::RecordTaps;
use crate::template::TemplateResult;
pub use appender::{Appender, BlockStream, BlockTicket, BlockToAppend, TopicStreams};
pub use completion::{AppendOutcome, AppendTicket, BlockAppendError};
pub use dead_letters::DeadLetterAppendError;
use dead_letters::DeadLetterWriter;
pub use local_log::{LocalLog, LocalStream};
pub use shared::PipelineShared;
use state::{BlockGuard, CompressedBlock, PipelineState, PutAttempt, SealTriggers, UnsealedBlock};

/// Blocks up to this size are compressed on the request's thread, which takes about half a
/// millisecond at most and delays other requests; larger ones on a thread of their own.
const INLINE_SEAL_MAX: usize = 128 << 10;

/// Smaller blocks are stored uncompressed. The upload joins and compresses them; compressing each
/// one before would be the largest cost of a record that arrives alone.
const PLAIN_BELOW: usize = 32 << 10;

/// Result of [`Pipeline::append`].
#[derive(Debug)]
pub enum AppendAttempt {
    /// The rows are in a block; the ticket resolves with its outcome.
    Taken(AppendTicket),
    /// Too much is in flight: retry after [`Pipeline::changed`].
    Full,
    /// The slice is closed: use the sink's current one.
    Retired,
}

/// Path of one sink's rows into one slice, or of its messages into its stream.
pub struct Pipeline {
    sink: SinkKey,
    /// `None`: it fills the stream of a topic.
    slice: Option<SliceKey>,
    /// Topic and definition of its messages; `None`: records become rows.
    messages: Option<(Arc<str>, CompiledMessage)>,
    mapping: Arc<CompiledMapping>,
    compression: BlockCompression,
    triggers: SealTriggers,
    waits: bool,
    stream: Arc<dyn BlockStream>,
    /// Destination of rejected records, if they are kept.
    dead_letters: Option<DeadLetterWriter>,
    shared: Arc<PipelineShared>,
    state: Mutex<PipelineState>,
    changed: Notify,
    /// Notified when rows begin to collect behind a block.
    gathering: Notify,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline")
            .field("slice", &self.slice)
            .finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Opens a pipeline into `slice`. `settings` and `mapping` are those of its file.
    pub fn open(
        slice: SliceKey,
        compression: BlockCompression,
        settings: &SinkSettings,
        mapping: Arc<CompiledMapping>,
        appender: &Arc<dyn Appender>,
        shared: Arc<PipelineShared>,
    ) -> Result<Arc<Self>, BlockAppendError> {
        let stream = appender.open(&slice)?;
        let rejection = &settings.rejection;
        let dead_letters = (rejection.action == RejectionAction::DeadLetter)
            .then(|| DeadLetterWriter::new(&slice.file.sink, rejection.dead_letters_max, appender));
        shared.meters.pipelines.increment(1);
        Ok(Arc::new(Self {
            sink: slice.file.sink.clone(),
            slice: Some(slice),
            messages: None,
            mapping,
            compression,
            triggers: SealTriggers::from_settings(settings),
            waits: settings.sync.wait,
            stream,
            dead_letters,
            shared,
            state: Mutex::default(),
            changed: Notify::new(),
            gathering: Notify::new(),
        }))
    }

    /// Opens a pipeline into the stream of a topic.
    pub(crate) fn for_topic(
        sink: SinkKey,
        topic: &str,
        message: CompiledMessage,
        settings: &SinkSettings,
        stream: Arc<dyn BlockStream>,
        shared: Arc<PipelineShared>,
    ) -> Arc<Self> {
        shared.meters.pipelines.increment(1);
        Arc::new(Self {
            sink,
            slice: None,
            mapping: Arc::clone(message.mapping()),
            messages: Some((topic.into(), message)),
            compression: BlockCompression::None,
            triggers: SealTriggers::from_settings(settings),
            waits: settings.sync.wait,
            stream,
            dead_letters: None,
            shared,
            state: Mutex::default(),
            changed: Notify::new(),
            gathering: Notify::new(),
        })
    }

    pub(crate) fn sink(&self) -> &SinkKey {
        &self.sink
    }

    /// The open taps, if there are any.
    pub(crate) fn taps(&self) -> Option<&RecordTaps> {
        let taps = &self.shared.taps;
        taps.is_open().then_some(taps)
    }

    pub fn slice(&self) -> Option<&SliceKey> {
        self.slice.as_ref()
    }

    /// Appends the rendered record to `out`: a row, or a message.
    ///
    /// # Errors
    /// When the record can't be rendered; `out` is unchanged then.
    pub fn render(
        &self,
        record: &RecordContext,
        cells: &[TemplateResult],
        random: &mut dyn FnMut() -> u128,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        self.render_parts(record, cells, random, out).map(drop)
    }

    /// As [`Self::render`]; also returns the parts of a message.
    pub(crate) fn render_parts(
        &self,
        record: &RecordContext,
        cells: &[TemplateResult],
        random: &mut dyn FnMut() -> u128,
        out: &mut Vec<u8>,
    ) -> Result<Option<RenderedMessage>, RecordError> {
        let Some((topic, message)) = &self.messages else {
            return self
                .mapping
                .render(record, cells, random, out)
                .map(|()| None);
        };
        let rendered = message.render(record, cells, random)?;
        let parts = self.taps().map(|_| rendered.clone());
        let headers = rendered.headers.into_iter();
        let message = Message {
            key: rendered.key.map(Into::into),
            payload: Some(rendered.value.into()),
            headers: headers.map(|(n, v)| (n, Some(v.into()))).collect(),
            timestamp_ms: None,
        };
        encode_standalone(out, topic, &message, record.request().received.as_millis());
        Ok(parts)
    }

    pub fn mapping(&self) -> &Arc<CompiledMapping> {
        &self.mapping
    }

    /// Whether a response waits until the rows are safe.
    pub fn waits(&self) -> bool {
        self.waits
    }

    fn lock(&self) -> MutexGuard<'_, PipelineState> {
        // State changes are complete before anything in them could panic.
        self.state.lock()
    }

    /// Puts `records` rendered rows into one block: all of them or none.
    pub fn append(self: &Arc<Self>, rows: &[u8], records: u32, at: Timestamp) -> AppendAttempt {
        let put = self.lock().put(
            (rows, records, at),
            &self.triggers,
            &self.shared.memory_limiter,
        );
        match put {
            PutAttempt::Taken { wait, taken, first } => {
                if first {
                    self.gathering.notify_one();
                }
                taken.into_iter().flatten().for_each(|t| self.seal(t));
                AppendAttempt::Taken(wait)
            }
            PutAttempt::Full => AppendAttempt::Full,
            PutAttempt::Retired => AppendAttempt::Retired,
        }
    }

    /// Whether rejected records are kept.
    pub(crate) fn keeps_rejected(&self) -> bool {
        self.dead_letters.is_some()
    }

    /// Appends the dead letters of one request: all of them or none. The ticket resolves with their
    /// outcome.
    pub(crate) fn append_dead_letters(
        &self,
        request: &RequestInfo,
        dead_letters: &[DeadLetter],
    ) -> Result<BlockTicket, DeadLetterAppendError> {
        let writer = self.dead_letters.as_ref().ok_or(BlockAppendError::Closed)?;
        let encoders = (&self.shared.encoders, self.compression);
        writer.append(encoders, request, dead_letters)
    }

    /// Resolves after a block has ended or the pipeline was retired. Create it before the attempt,
    /// so that no change is missed.
    pub fn changed(&self) -> impl Future<Output = ()> + '_ {
        self.changed.notified()
    }

    /// Accepts no more rows; those accepted are completed.
    pub(crate) fn stop_accepting(&self) {
        self.lock().retire();
        self.changed.notify_waiters();
    }

    /// Accepts no more rows, and resolves when all those accepted are completed.
    pub async fn drain(self: &Arc<Self>) {
        self.stop_accepting();
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.lock().is_idle() {
                return;
            }
            changed.await;
        }
    }

    /// Whether it accepts no more rows.
    pub(crate) fn is_retired(&self) -> bool {
        self.lock().is_retired()
    }

    /// Compresses a block, here or on another thread, and appends it.
    fn seal(self: &Arc<Self>, taken: UnsealedBlock) {
        if taken.rows.len() <= INLINE_SEAL_MAX {
            self.seal_inline(taken);
        } else {
            let this = Arc::clone(self);
            let tasks = &this.shared.tasks.clone();
            drop(tasks.spawn_blocking(move || this.seal_inline(taken)));
        }
    }

    fn seal_inline(self: &Arc<Self>, taken: UnsealedBlock) {
        let mut next = Some(taken);
        while let Some(taken) = next {
            let number = taken.number;
            let (result, buffer) = self.compress(taken);
            let mut state = self.lock();
            if let Ok(ready) = &result {
                let compressed = ready.block.compression != BlockCompression::None;
                state.learn(&ready.block.sealed, compressed, buffer, &self.triggers);
            }
            state.on_sealed(number, result, |state, ready| {
                self.append_sealed(state, ready)
            });
            // A rejected block wakes no driver: what collected behind it is sealed here.
            next = state.take_if_due(&self.triggers);
            let drive = !state.driven && !state.tickets.is_empty();
            state.driven |= drive;
            drop(state);
            if drive {
                drop(self.shared.tasks.spawn(Arc::clone(self).await_commits()));
            }
        }
    }

    fn compress(&self, taken: UnsealedBlock) -> (Result<CompressedBlock, BlockGuard>, Vec<u8>) {
        let UnsealedBlock {
            rows,
            records,
            first_at,
            last_at,
            guard,
            ..
        } = taken;
        let encoded = if rows.len() < PLAIN_BELOW {
            Ok((rows.clone(), BlockCompression::None))
        } else {
            let encoders = &self.shared.encoders;
            encoders.take(self.compression).and_then(|mut encoder| {
                let payload = encoder.encode(&rows)?;
                encoders.put(self.compression, encoder);
                Ok((payload, self.compression))
            })
        };
        match encoded {
            Ok((payload, compression)) => {
                let sealed = SealedBlock {
                    payload,
                    raw_len: rows.len(),
                    records,
                };
                self.measure(&sealed);
                let block = BlockToAppend {
                    sealed,
                    first_at,
                    last_at,
                    compression,
                };
                (Ok(CompressedBlock { block, guard }), rows)
            }
            Err(e) => {
                let error =
                    BlockAppendError::Other(format!("the block can't be compressed: {e}").into());
                guard.completion.complete(AppendOutcome::Rejected(error));
                (Err(guard), rows)
            }
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a histogram's values are floats"
    )]
    fn measure(&self, sealed: &SealedBlock) {
        let meters = &self.shared.meters;
        meters.block_rows.record(f64::from(sealed.records));
        meters.block_raw_bytes.record(sealed.raw_len as f64);
        meters
            .block_stored_bytes
            .increment(sealed.payload.len() as u64);
    }

    fn append_sealed(&self, state: &mut PipelineState, ready: Result<CompressedBlock, BlockGuard>) {
        let Ok(CompressedBlock { block, guard }) = ready else {
            state.on_block_ended();
            self.changed.notify_waiters();
            return;
        };
        match self.stream.append(block) {
            Ok(ticket) => state.tickets.push_back((ticket, guard)),
            Err(error) => {
                guard.completion.complete(AppendOutcome::Rejected(error));
                state.on_block_ended();
                self.changed.notify_waiters();
            }
        }
    }

    /// Waits for the blocks in flight, one after the other, and seals what has collected meanwhile.
    /// Ends when none is in flight.
    async fn await_commits(self: Arc<Self>) {
        loop {
            let next = {
                let mut state = self.lock();
                let next = state.tickets.pop_front();
                state.driven = next.is_some();
                next
            };
            let Some((ticket, guard)) = next else {
                return;
            };
            let outcome = self.await_outcome(ticket).await;
            let taken = {
                let mut state = self.lock();
                state.on_block_ended();
                state.take_if_due(&self.triggers)
            };
            guard.completion.complete(outcome);
            drop(guard);
            self.changed.notify_waiters();
            if let Some(taken) = taken {
                self.seal(taken);
            }
        }
    }

    /// Waits for a block. Rows that collect meanwhile are sealed when they are due; while there are
    /// none, no timer runs.
    async fn await_outcome(self: &Arc<Self>, mut ticket: BlockTicket) -> AppendOutcome {
        loop {
            let gathering = self.gathering.notified();
            let deadline = self.lock().deadline(&self.triggers);
            let Some(deadline) = deadline else {
                tokio::select! {
                    biased;
                    outcome = &mut ticket => return outcome,
                    () = gathering => continue,
                }
            };
            tokio::select! {
                biased;
                outcome = &mut ticket => return outcome,
                () = tokio::time::sleep_until(deadline) => {
                    let (taken, full) = {
                        let mut state = self.lock();
                        (state.take_if_due(&self.triggers), state.is_full())
                    };
                    match taken {
                        Some(taken) => self.seal(taken),
                        // The maximum is in flight: only the end of a block can help.
                        None if full => return ticket.await,
                        None => {}
                    }
                }
            }
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.shared.meters.pipelines.decrement(1);
    }
}

#[cfg(test)]
mod tests;
