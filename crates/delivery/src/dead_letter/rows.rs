//! Moves rows that their table rejects to the dead letters.
//!
//! This proceeds block by block: a block of dead letters is written to disk, then the store records
//! how many rows it holds. If the process dies in between, the next attempt finds the block in the
//! log, since each block names its file and rows. So each row becomes one dead letter, even across
//! crashes. Until all rows are moved, no dead letter of the sink is replayed or dropped: a block
//! that is not recorded yet could already be removed from the log.

use std::time::Duration;

use forebay_connect::table::{RowBatch, RowStream};
use forebay_log::ReadItem;
use forebay_meta::catalog::stored::dead_letters::DeadLetterCounts;
use forebay_model::failpoint::{self, FailPoint};
use forebay_model::{BlockCompression, File, FileKey, SinkKey};
use forebay_record::SealedBlock;
use forebay_record::block::decode;
use forebay_record::dead_letter::{RejectedRowsHeader, encode_rows, source_file_of_block};
use futures::StreamExt;

use super::SinkDeadLetters;
use super::block_builder::BLOCK_BYTES;
use super::error::DeadLetterError;
use crate::work_queue::AttemptError;
use forebay_ingest::pipeline::{AppendOutcome, BlockToAppend};
use forebay_ingest::streams::{compression, dead_letter_stream};

impl From<DeadLetterError> for AttemptError {
    fn from(error: DeadLetterError) -> Self {
        Self::retryable(error)
    }
}

/// Rows collected for a block.
#[derive(Default)]
struct BufferedRows {
    cells: Vec<Vec<Vec<u8>>>,
    bytes: usize,
}

impl SinkDeadLetters {
    pub(super) async fn reject_while_moving_rows(
        &self,
        sink: &SinkKey,
    ) -> Result<(), DeadLetterError> {
        let files = self.repo.active_files(Some(sink)).await?;
        if files.iter().any(|f| f.file.dead_rows.is_some()) {
            return Err(forebay_meta::FileError::Conflict.into());
        }
        Ok(())
    }

    /// Moves all rows of a file to the dead letters; `rows` are those of the file in order.
    /// Idempotent.
    pub(crate) async fn move_to_dlq(
        &self,
        file: &File,
        mut rows: RowStream<'_>,
    ) -> Result<(), AttemptError> {
        let _lock = self.lock.lock().await;
        let (mut moved, mut next) = self.recover_progress(&file.key).await?;
        let mut to_skip = moved;
        let mut gathered = BufferedRows::default();
        while let Some(batch) = rows.next().await {
            let batch: RowBatch = batch.map_err(AttemptError::retryable)?;
            let cells: Vec<&[u8]> = batch.cells().collect();
            for row in cells.chunks(batch.columns().max(1)) {
                if to_skip > 0 {
                    to_skip -= 1;
                    continue;
                }
                gathered.bytes += row.iter().map(|c| c.len() + 8).sum::<usize>();
                gathered
                    .cells
                    .push(row.iter().map(|c| c.to_vec()).collect());
                if gathered.bytes >= BLOCK_BYTES {
                    (moved, next) = self
                        .append_rows(file, moved, std::mem::take(&mut gathered))
                        .await?;
                }
            }
        }
        if !gathered.cells.is_empty() {
            (moved, next) = self.append_rows(file, moved, gathered).await?;
        }
        tracing::warn!(file = %file.key, rows = moved, next, "rows rejected by their table were moved to the dead letters");
        failpoint::at(FailPoint::DeadRowsComplete);
        let done = self.repo.file_rejected(&file.key, self.clock.now()).await;
        failpoint::at(FailPoint::FileRejected);
        done.map_err(AttemptError::retryable)
    }

    /// Returns how many rows of the file are dead letters, and from which dead letter on more can
    /// be found. Records blocks that the log has and the store does not know.
    async fn recover_progress(&self, key: &FileKey) -> Result<(u64, u64), AttemptError> {
        let file = self.repo.file(key).await.map_err(AttemptError::retryable)?;
        let dead = file.value.dead_rows.unwrap_or_default();
        let counts = self.counts(&key.sink);
        let Some(from) = dead.next_dead_letter else {
            // Not started.
            let progress = (0, counts.taken);
            self.record_progress(key, progress, counts).await?;
            failpoint::at(FailPoint::DeadRowsBegun);
            return Ok(progress);
        };
        let (log, name) = (self.log.clone(), dead_letter_stream(&key.sink));
        let (file, moved) = (key.to_string(), dead.moved);
        let found =
            tokio::task::spawn_blocking(move || scan_progress(&log, &name, &file, (moved, from)));
        let found = found.await.map_err(AttemptError::retryable)?;
        let progress = found?;
        if progress != (moved, from) {
            self.record_progress(key, progress, counts).await?;
        }
        Ok(progress)
    }

    async fn append_rows(
        &self,
        file: &File,
        moved: u64,
        gathered: BufferedRows,
    ) -> Result<(u64, u64), AttemptError> {
        let cause = file.dead_rows.as_ref().map(|d| d.cause.as_str());
        let received = file.key.opened_at;
        let header = RejectedRowsHeader {
            file: &file.key,
            first: moved,
            mapping: &file.table.mapping,
            cause: cause.unwrap_or_default(),
            received,
        };
        let rows = gathered.cells.iter();
        let rows = rows.map(|row| row.iter().map(Vec::as_slice).collect::<Vec<&[u8]>>());
        let raw = encode_rows(&header, rows).map_err(AttemptError::retryable)?;
        let codec = BlockCompression::Gzip { level: 1 };
        let payload = forebay_record::BlockEncoder::new(codec).and_then(|mut e| e.encode(&raw));
        let count = gathered.cells.len();
        let block = BlockToAppend {
            sealed: SealedBlock {
                payload: payload.map_err(AttemptError::retryable)?,
                raw_len: raw.len(),
                records: u32::try_from(count).map_err(AttemptError::retryable)?,
            },
            first_at: received,
            last_at: received.plus(Duration::ZERO),
            compression: codec,
        };
        let stream = self.appender.dead_letters(&file.key.sink);
        let appended = stream.append(block).map_err(AttemptError::retryable)?;
        match appended.await {
            AppendOutcome::Stored => {}
            AppendOutcome::Rejected(error) => return Err(AttemptError::retryable(error)),
            AppendOutcome::Unknown(cause) => return Err(AttemptError::retryable(cause)),
        }
        failpoint::at(FailPoint::DeadRowsAppended);
        let counts = self.counts(&file.key.sink);
        let progress = (moved + count as u64, counts.taken);
        self.record_progress(&file.key, progress, counts).await?;
        failpoint::at(FailPoint::DeadRowsNoted);
        Ok(progress)
    }

    async fn record_progress(
        &self,
        key: &FileKey,
        progress: (u64, u64),
        counts: DeadLetterCounts,
    ) -> Result<(), AttemptError> {
        let recorded = self
            .repo
            .record_dead_rows(key, &self.volume, progress, &counts);
        recorded.await.map_err(AttemptError::retryable)
    }

    pub(super) fn counts(&self, sink: &SinkKey) -> DeadLetterCounts {
        let stream = self.log.find(&dead_letter_stream(sink));
        let stats = stream.and_then(|id| self.log.stats(id));
        let counts = stats.map(|s| DeadLetterCounts {
            taken: s.next_seq,
            lost: s.lost_records,
        });
        counts.unwrap_or_default()
    }
}

/// Searches for blocks of the file's rows from a dead letter on. Blocking: reads files.
fn scan_progress(
    log: &forebay_log::Log,
    stream: &str,
    file: &str,
    (mut moved, mut next): (u64, u64),
) -> Result<(u64, u64), DeadLetterError> {
    let unreadable = |e: &dyn std::fmt::Display| DeadLetterError::Read(e.to_string());
    let Some(id) = log.find(stream) else {
        return Ok((moved, next));
    };
    for item in log.reader(id, next).map_err(|e| unreadable(&e))? {
        let ReadItem::Block(block) = item.map_err(|e| unreadable(&e))? else {
            continue;
        };
        let Some(codec) = compression(block.codec) else {
            continue;
        };
        let text = decode(&block.payload, codec, block.raw_len as usize);
        let text = text.map_err(|e| unreadable(&e))?;
        let rows = source_file_of_block(&text).map_err(|e| unreadable(&e))?;
        if let Some((of, first)) = rows
            && of == file
        {
            moved = moved.max(first + u64::from(block.records));
            next = next.max(block.first_seq + u64::from(block.records));
        }
    }
    Ok((moved, next))
}
