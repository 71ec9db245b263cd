//! Dead letters: records that a mapping has rejected and that were accepted all the same. They are
//! kept in a separate stream of the log per sink until they are replayed or dropped.
//!
//! A replay renders the rows with the current mapping into a stream of the log; then one
//! transaction of the store turns that stream into a slice of the sink's open file and marks the
//! dead letters as resolved. If the process is killed before the transaction, nothing has happened
//! (the store does not know the stream); after it, the slice is delivered like any other. So each
//! dead letter is delivered once (`docs/adr/0606-…`).

mod block_builder;
mod error;
mod reader;
mod rows;

use std::fmt;
use std::sync::Arc;

use forebay_log::{Block, Log};
use forebay_meta::catalog::dead_letters::{
    DeadLetterOutcome, DeadLetterResolution, DeadLetterResolveError,
};
use forebay_meta::{FileError, Repo};
use forebay_model::{
    BlockCompression, Clock, DeadLetterSelection, DiscardReport, Mapping, ReplayReport, SinkKey,
    SliceKey, Statistics, VolumeId,
};
use forebay_record::block::decode;
use forebay_record::dead_letter::decode_block;
use forebay_record::{CompiledMapping, DeadLetter, RandomBits, RecordContext, RowLimits};
use tokio::sync::Mutex;

use block_builder::{BlockBuilder, write_row};
pub use error::DeadLetterError;
pub(crate) use reader::{BlockContent, DeadLetterReader, SelectedDeadLetters, unreadable};
pub use reader::{SELECTION_MAX, StoredDeadLetter};

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

    fn size(&self) -> usize {
        self.body.len()
    }
}

/// Rows of dead letters, as blocks.
struct RenderedDeadLetters {
    blocks: Vec<BlockToAppend>,
    dead_letters: Vec<u64>,
    rejected: Vec<(u64, String)>,
}

impl SinkDeadLetters {
    /// Lists unresolved dead letters of a sink, at most `limit` and [`SELECTION_MAX`].
    pub async fn list(
        &self,
        sink: &SinkKey,
        selection: &DeadLetterSelection,
        limit: usize,
    ) -> Result<Vec<StoredDeadLetter<DeadLetter>>, DeadLetterError> {
        Ok(self.select(sink, selection, limit).await?.dead_letters)
    }

    /// Replays dead letters with the current mapping, at most [`SELECTION_MAX`] per call.
    ///
    /// # Errors
    /// No dead letter is replayed then, unless the outcome of the transaction is unknown.
    pub async fn replay(
        &self,
        sink: &SinkKey,
        selection: &DeadLetterSelection,
    ) -> Result<ReplayReport, DeadLetterError> {
        let _lock = self.lock.lock().await;
        self.reject_while_moving_rows(sink).await?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let found = self.select(sink, selection, SELECTION_MAX).await?;
            let now = self.clock.now();
            let (slice, file) = self.repo.new_replay_slice(sink, &self.volume, now).await?;
            let mapping = CompiledMapping::compile_checked(&file.table.mapping, &self.limits);
            let compression = file.settings.compression();
            let by = (&mapping, &file.table.mapping);
            let rendered = self
                .render_blocks(by, compression, &found.dead_letters)
                .await?;
            let done = ReplayReport {
                replayed: rendered.dead_letters.len() as u64,
                rejected: rendered.rejected,
                more_after: found.more_after,
            };
            if rendered.dead_letters.is_empty() {
                return Ok(done);
            }
            let stored = self.append_blocks(&slice, rendered.blocks).await;
            let result = match stored {
                Ok(statistics) => {
                    let end = DeadLetterOutcome::Replayed(slice.clone(), statistics);
                    self.resolve(sink, rendered.dead_letters, found.lost, end)
                        .await
                }
                Err(e) => Err(e),
            };
            match result {
                Ok(()) => {
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

    /// Drops dead letters, at most [`SELECTION_MAX`] per call.
    ///
    /// # Errors
    /// No dead letter is dropped then, unless the outcome of the transaction is unknown.
    pub async fn discard(
        &self,
        sink: &SinkKey,
        selection: &DeadLetterSelection,
    ) -> Result<DiscardReport, DeadLetterError> {
        let _lock = self.lock.lock().await;
        self.reject_while_moving_rows(sink).await?;
        let found = self.select(sink, selection, SELECTION_MAX).await?;
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
        selection: &DeadLetterSelection,
        max: usize,
    ) -> Result<SelectedDeadLetters<DeadLetter>, DeadLetterError> {
        let state = self.repo.dead_letter_state(sink, &self.volume).await?;
        let (log, name, selection) = (
            self.log.clone(),
            dead_letter_stream(sink),
            selection.clone(),
        );
        let read = tokio::task::spawn_blocking(move || {
            let stream = log.find(&name).map(|id| (0, id));
            let reader = DeadLetterReader {
                log: &log,
                streams: stream.as_slice(),
                resolved: &state.resolved,
            };
            reader.select(&selection, max)
        });
        read.await
            .map_err(|e| DeadLetterError::Read(e.to_string()))?
    }

    async fn render_blocks(
        &self,
        (mapping, columns): (&CompiledMapping, &Mapping),
        compression: BlockCompression,
        kept: &[StoredDeadLetter<DeadLetter>],
    ) -> Result<RenderedDeadLetters, DeadLetterError> {
        let of_records = kept.iter().filter(|k| k.dead_letter.row.is_none());
        let records: Vec<RecordContext> = of_records.map(|k| k.dead_letter.record()).collect();
        let cells = match &self.templates {
            Some(pool) => pool.evaluate_batch(mapping.templates(), &records).await,
            None => Vec::new(),
        };
        let mut blocks = BlockBuilder::new(compression)?;
        let (mut dead_letters, mut rejected) = (Vec::new(), Vec::new());
        let mut records = records.iter().enumerate();
        for kept in kept {
            let rendered = match &kept.dead_letter.row {
                Some(row) => {
                    let rows = write_row(row, columns, &mut blocks.rows);
                    rows.map(|()| kept.dead_letter.request.received)
                }
                None => {
                    let Some((i, record)) = records.next() else {
                        break;
                    };
                    let cells = cells.get(i).map(Vec::as_slice).unwrap_or_default();
                    let mut random = || (self.random)();
                    let rendered = mapping.render(record, cells, &mut random, &mut blocks.rows);
                    let received = record.request().received;
                    rendered.map(|()| received).map_err(|e| e.to_string())
                }
            };
            match rendered {
                Ok(received) => {
                    dead_letters.push(kept.number);
                    blocks.add_row(received)?;
                }
                Err(error) => rejected.push((kept.number, error)),
            }
        }
        Ok(RenderedDeadLetters {
            blocks: blocks.finish()?,
            dead_letters,
            rejected,
        })
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
