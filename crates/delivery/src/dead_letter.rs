//! Dead letters: records that a mapping has rejected and that were accepted all the same. They are
//! kept in a separate stream of the log per sink until they are replayed or dropped.
//!
//! A replay renders the rows with the current mapping into a stream of the log; then one
//! transaction of the store turns that stream into a slice of the sink's open file and marks the
//! dead letters as resolved. If the process is killed before the transaction, nothing has happened
//! (the store does not know the stream); after it, the slice is delivered like any other. So each
//! dead letter is delivered once (`docs/adr/0606-…`).

mod block_builder;
mod edit;
mod error;
mod reader;
mod render;
mod rows;

use std::fmt;
use std::sync::Arc;

use forebay_log::{Block, Log};
use forebay_meta::catalog::dead_letters::{
    DeadLetterOutcome, DeadLetterResolution, DeadLetterResolveError,
};
use forebay_meta::{FileError, Repo};
use forebay_model::failpoint::{self, FailPoint};
use forebay_model::{
    CauseReport, Clock, DeadLetterEdit, DeadLetterFacts, DeadLetterFilter, DeadLetterQuery,
    DeadLetterReplay, DiscardReport, ReplayReport, SinkKey, SliceKey, Statistics, VolumeId,
};
use forebay_record::block::decode;
use forebay_record::dead_letter::decode_block;
use forebay_record::{DeadLetter, RandomBits, RowLimits};
use tokio::sync::Mutex;

pub use error::DeadLetterError;
pub use reader::{BlockContent, CAUSES_MAX, SCAN_MAX, SELECTION_MAX, StoredDeadLetter};
pub(crate) use reader::{DeadLetterReader, SelectedDeadLetters, unreadable};
use render::{RenderedDeadLetters, ReplayMapping};

use forebay_ingest::pipeline::{AppendOutcome, Appender, BlockAppendError, BlockToAppend};
use forebay_ingest::streams::{compression, dead_letter_stream};
use forebay_ingest::template::TemplatePool;

/// How often a replay is restarted because the sink's file was rotated meanwhile.
const ATTEMPTS_MAX: u32 = 5;

/// Lists, replays and drops the dead letters of this node's volume.
#[derive(Clone)]
pub struct SinkDeadLetters {
    /// Stores which dead letters are resolved.
    pub repo: Repo,
    /// Holds the dead letters.
    pub log: Log,
    /// Volume of the log.
    pub volume: VolumeId,
    /// Appends replayed rows.
    pub appender: Arc<dyn Appender>,
    pub clock: Arc<dyn Clock>,
    /// Evaluates templates; without it dead letters that need templates stay.
    pub templates: Option<Arc<TemplatePool>>,
    /// Source of the bits of UUIDs.
    pub random: RandomBits,
    pub limits: RowLimits,
    /// Serializes replays and drops.
    pub lock: Arc<Mutex<()>>,
}

impl fmt::Debug for SinkDeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters")
            .field("volume", &self.volume)
            .finish_non_exhaustive()
    }
}

impl BlockContent for DeadLetter {
    fn decode(block: Block) -> Result<Vec<Self>, DeadLetterError> {
        let codec = compression(block.codec)
            .ok_or_else(|| unreadable(format_args!("unknown codec {}", block.codec)))?;
        let text = decode(&block.payload, codec, block.raw_len as usize).map_err(unreadable)?;
        let dead_letters = decode_block(&text).map_err(unreadable)?;
        if dead_letters.len() != block.records as usize {
            let (has, says) = (dead_letters.len(), block.records);
            return Err(unreadable(format_args!(
                "a block has {has} dead letters instead of {says}"
            )));
        }
        Ok(dead_letters)
    }

    fn facts(&self) -> DeadLetterFacts<'_> {
        DeadLetterFacts {
            received: self.request.received,
            column: &self.column,
            error: &self.error,
            message: self.message.as_str().into(),
            body: &self.body,
        }
    }

    fn edit(&mut self, edit: &DeadLetterEdit) -> Result<(), String> {
        edit::edit_record(self, edit)
    }
}

impl SinkDeadLetters {
    /// Lists unresolved dead letters of a sink, at most `limit` and [`SELECTION_MAX`], with the last
    /// one that was read if there are more.
    pub async fn list(
        &self,
        sink: &SinkKey,
        query: &DeadLetterQuery,
        limit: usize,
    ) -> Result<(Vec<StoredDeadLetter<DeadLetter>>, Option<u64>), DeadLetterError> {
        let found = self.select(sink, query, limit).await?;
        Ok((found.dead_letters, found.more_after))
    }

    /// Counts unresolved dead letters by their causes; reads at most [`SCAN_MAX`].
    pub async fn causes(
        &self,
        sink: &SinkKey,
        after: Option<u64>,
        filter: &DeadLetterFilter,
    ) -> Result<CauseReport, DeadLetterError> {
        let filter = filter.clone();
        self.read(sink, move |reader| {
            reader.causes::<DeadLetter>(after, &filter)
        })
        .await
    }

    /// Replays dead letters with the current mapping, at most [`SELECTION_MAX`] per call.
    ///
    /// # Errors
    /// No dead letter is replayed then, unless the outcome of the transaction is unknown.
    pub async fn replay(
        &self,
        sink: &SinkKey,
        replay: &DeadLetterReplay,
    ) -> Result<ReplayReport, DeadLetterError> {
        let _lock = self.lock.lock().await;
        self.reject_while_moving_rows(sink).await?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut found = self.select_for(sink, replay).await?;
            let edited = found.edit(&replay.edits);
            let now = self.clock.now();
            let (slice, file) = self.repo.new_replay_slice(sink, &self.volume, now).await?;
            let renders = (self.templates.as_deref(), &self.random);
            let mapping = ReplayMapping::new(&file, &self.limits, renders, replay.dry_run);
            let rendered = mapping.render(&found.dead_letters).await?;
            let RenderedDeadLetters {
                blocks,
                dead_letters,
                rejected,
                rows,
            } = rendered;
            let done = ReplayReport {
                replayed: dead_letters.len() as u64,
                rejected: edited.into_iter().chain(rejected).collect(),
                skipped: found.skipped,
                rows,
                more_after: found.more_after,
            };
            if dead_letters.is_empty() || replay.dry_run {
                return Ok(done);
            }
            match self
                .deliver(sink, &slice, blocks, dead_letters, found.lost)
                .await
            {
                Ok(()) => {
                    failpoint::at(FailPoint::ReplayResolved);
                    self.trim_resolved(sink).await;
                    return Ok(done);
                }
                Err(error) => {
                    if error.is_uncertain() {
                        // It may already be a slice and hold the only copy of these rows.
                        return Err(error);
                    }
                    // The store does not know this stream: its rows were not delivered and will not
                    // be.
                    self.delete_replay_stream(&slice).await;
                    let rotated = matches!(
                        &error,
                        DeadLetterError::State(DeadLetterResolveError::File(FileError::Conflict))
                    );
                    if !rotated || attempt == ATTEMPTS_MAX {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Makes the blocks a slice, and resolves the dead letters.
    async fn deliver(
        &self,
        sink: &SinkKey,
        slice: &SliceKey,
        blocks: Vec<BlockToAppend>,
        dead_letters: Vec<u64>,
        lost: Vec<(u64, u64)>,
    ) -> Result<(), DeadLetterError> {
        let statistics = self.append_blocks(slice, blocks).await?;
        failpoint::at(FailPoint::ReplayAppended);
        let end = DeadLetterOutcome::Replayed(slice.clone(), statistics);
        self.resolve(sink, dead_letters, lost, end).await
    }

    /// Drops dead letters, at most [`SELECTION_MAX`] per call.
    ///
    /// # Errors
    /// No dead letter is dropped then, unless the outcome of the transaction is unknown.
    pub async fn discard(
        &self,
        sink: &SinkKey,
        query: &DeadLetterQuery,
    ) -> Result<DiscardReport, DeadLetterError> {
        let _lock = self.lock.lock().await;
        self.reject_while_moving_rows(sink).await?;
        let found = self.select(sink, query, SELECTION_MAX).await?;
        let dead_letters: Vec<u64> = found.numbers().collect();
        let dropped = dead_letters.len() as u64;
        if dropped > 0 || !found.lost.is_empty() {
            self.resolve(sink, dead_letters, found.lost, DeadLetterOutcome::Dropped)
                .await?;
            self.trim_resolved(sink).await;
        }
        Ok(DiscardReport {
            dropped,
            more_after: found.more_after,
        })
    }

    async fn select(
        &self,
        sink: &SinkKey,
        query: &DeadLetterQuery,
        max: usize,
    ) -> Result<SelectedDeadLetters<DeadLetter>, DeadLetterError> {
        let query = query.clone();
        self.read(sink, move |reader| reader.select(&query, max))
            .await
    }

    /// The dead letters of a replay.
    async fn select_for(
        &self,
        sink: &SinkKey,
        replay: &DeadLetterReplay,
    ) -> Result<SelectedDeadLetters<DeadLetter>, DeadLetterError> {
        if replay.edits.is_empty() {
            return self.select(sink, &replay.query, SELECTION_MAX).await;
        }
        let numbers: Vec<u64> = replay.edits.keys().copied().collect();
        self.read(sink, move |reader| {
            reader.select_unresolved(numbers.into_iter())
        })
        .await
    }

    /// Reads the dead letters of a sink on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        sink: &SinkKey,
        read: impl FnOnce(&DeadLetterReader<'_>) -> Result<T, DeadLetterError> + Send + 'static,
    ) -> Result<T, DeadLetterError> {
        let state = self.repo.dead_letter_state(sink, &self.volume).await?;
        let (log, name) = (self.log.clone(), dead_letter_stream(sink));
        let read = tokio::task::spawn_blocking(move || {
            let stream = log.find(&name).map(|id| (0, id));
            read(&DeadLetterReader {
                log: &log,
                streams: stream.as_slice(),
                resolved: &state.resolved,
            })
        });
        read.await
            .map_err(|e| DeadLetterError::Read(e.to_string()))?
    }

    /// Writes the blocks to disk as the whole stream of a slice.
    async fn append_blocks(
        &self,
        slice: &SliceKey,
        blocks: Vec<BlockToAppend>,
    ) -> Result<Statistics, DeadLetterError> {
        let stream = self.appender.open(slice)?;
        for block in blocks {
            match stream.append(block)?.await {
                AppendOutcome::Stored => {}
                AppendOutcome::Rejected(error) => return Err(error.into()),
                AppendOutcome::Unknown(cause) => return Err(BlockAppendError::Failed(cause).into()),
            }
        }
        Ok(self.appender.close(slice).await?)
    }

    async fn resolve(
        &self,
        sink: &SinkKey,
        dead_letters: Vec<u64>,
        lost: Vec<(u64, u64)>,
        end: DeadLetterOutcome,
    ) -> Result<(), DeadLetterError> {
        let finished = DeadLetterResolution {
            numbers: dead_letters,
            lost,
            counts: self.counts(sink),
            end,
        };
        let now = self.clock.now();
        self.repo
            .resolve_dead_letters(sink, &self.volume, &finished, now)
            .await?;
        Ok(())
    }

    /// Removes resolved dead letters from the log. The next call removes what was missed.
    async fn trim_resolved(&self, sink: &SinkKey) {
        let trimmed = match self.repo.dead_letter_state(sink, &self.volume).await {
            Ok(state) => {
                let stream = self.log.find(&dead_letter_stream(sink));
                match stream.map(|id| self.log.trim(id, state.resolved.floor())) {
                    Some(Ok(ticket)) => ticket.await.map(drop).map_err(|e| e.to_string()),
                    Some(Err(error)) => Err(error.to_string()),
                    None => Ok(()),
                }
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = trimmed {
            tracing::warn!(%sink, error, "removing resolved dead letters failed");
        }
    }

    async fn delete_replay_stream(&self, slice: &SliceKey) {
        let Some(stream) = self.log.find(&slice.to_string()) else {
            return;
        };
        if let Ok(ticket) = self.log.delete_stream(stream)
            && let Err(error) = ticket.await
        {
            tracing::warn!(%slice, %error, "deleting the stream of a failed replay failed");
        }
    }
}
