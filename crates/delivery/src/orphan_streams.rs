//! Orphan streams: streams of the log that the store does not know, as after a loss of the
//! metadata. They are kept, and an operator can deliver their rows to a sink.
//!
//! The rows are copied into a stream of the sink's open file; then one transaction of the store
//! turns that stream into a slice and marks the orphan as delivered; then the orphan is deleted.
//! Before the transaction nothing has happened; after it, the mark prevents a second delivery. So
//! the rows are delivered once, wherever the process is killed (`docs/adr/1402-…`).

use std::sync::Arc;

use forebay_log::{Block, Log, ReadItem, StreamStats};
use forebay_meta::catalog::delivered_streams::DeliveredStream;
use forebay_meta::{FileError, Repo, StoreError};
use forebay_model::failpoint::{self, FailPoint};
use forebay_model::{BlockCompression, Clock, SinkKey, SliceKey, Statistics, Timestamp, VolumeId};
use forebay_record::{BlockEncoder, CsvReader, CsvRecord, SealedBlock, block};

use forebay_ingest::pipeline::{AppendOutcome, Appender, BlockAppendError, BlockToAppend};
use forebay_ingest::streams::{compression as compression_of, dead_letter_sink, topic_sink};

/// How often a delivery is restarted because the sink's file was rotated meanwhile.
const ATTEMPTS_MAX: u32 = 5;

/// Lists and delivers orphan streams. Needs exclusive access to the store and the log.
pub struct OrphanStreams {
    pub repo: Repo,
    pub log: Log,
    /// Volume of the log.
    pub volume: VolumeId,
    /// Appends the delivered rows.
    pub appender: Arc<dyn Appender>,
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for OrphanStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptStreams")
            .field("volume", &self.volume)
            .finish_non_exhaustive()
    }
}

/// Result of a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrphanDelivery {
    /// Rows handed to the sink.
    pub records: u64,
    /// Rows of the stream that the log has lost.
    pub lost: u64,
    /// The stream had been delivered before, and was only deleted.
    pub already_delivered: bool,
}

/// Error of delivering a stream, which is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum OrphanStreamError {
    /// No stream has that name.
    #[error("there is no stream \"{0}\" in the log")]
    NotFound(String),
    /// The stream does not hold rows of a table.
    #[error("stream \"{0}\" holds {1}, not rows of a table")]
    NotRows(String, &'static str),
    /// The server delivers the stream.
    #[error("the store knows stream \"{0}\": its rows are delivered by the server")]
    Referenced(String),
    /// Some of the rows are in the table; which ones is unknown.
    #[error(
        "{imported} of the {in_log} rows of stream \"{stream}\" are in the table already; `forebay log cat` prints all of them"
    )]
    Partly {
        stream: String,
        /// Rows in the table.
        imported: u64,
        /// Rows in the stream.
        in_log: u64,
    },
    /// All rows of the stream were delivered.
    #[error(
        "the file of stream \"{0}\" was imported and its metadata removed: its rows are in the table"
    )]
    Imported(String),
    /// Left over from an interrupted replay or delivery.
    #[error(
        "stream \"{0}\" is left over from an interrupted replay or delivery: its rows are elsewhere, and it is deleted with its file"
    )]
    LeftOver(String),
    /// The sink has other columns.
    #[error(
        "row {row} of stream \"{stream}\" has {found} cells, sink \"{sink}\" has {columns} columns; choose the sink whose mapping made the rows, or give this one the mapping of that time"
    )]
    OtherColumns {
        stream: String,
        /// Row number, from 1.
        row: u64,
        /// Cells of that row.
        found: usize,
        sink: Box<SinkKey>,
        columns: usize,
    },
    /// Error of the store or the sink's file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The log rejected the rows.
    #[error("the rows could not be stored: {0}")]
    Append(#[from] BlockAppendError),
    /// The log could not be read.
    #[error("the stream could not be read: {0}")]
    Read(String),
}

impl From<StoreError> for OrphanStreamError {
    fn from(error: StoreError) -> Self {
        Self::File(error.into())
    }
}

fn read_error(error: impl ToString) -> OrphanStreamError {
    OrphanStreamError::Read(error.to_string())
}

impl OrphanStreams {
    /// Lists streams with rows that the store does not know, by name.
    pub async fn list(&self) -> Result<Vec<String>, OrphanStreamError> {
        let mut kept = Vec::new();
        for stream in self.log.streams() {
            if stream.records > 0 && self.check(&stream).await.is_ok() {
                kept.push(stream.name);
            }
        }
        Ok(kept)
    }

    /// Delivers the rows of a stream to a sink, once, and deletes the stream.
    ///
    /// # Errors
    /// No row was delivered then, except perhaps after [`StoreError::Uncertain`]: the next call
    /// finds out.
    pub async fn deliver(
        &self,
        stream: &str,
        sink: &SinkKey,
    ) -> Result<OrphanDelivery, OrphanStreamError> {
        let id = self.log.find(stream);
        let stats = id.and_then(|id| self.log.stats(id));
        let Some(stats) = stats else {
            return Err(OrphanStreamError::NotFound(stream.to_owned()));
        };
        if let Some(delivered_stream) = self.repo.delivered_stream(&self.volume, stream).await? {
            self.delete(&delivered_stream).await?;
            return Ok(OrphanDelivery {
                already_delivered: true,
                ..OrphanDelivery::default()
            });
        }
        self.check(&stats).await?;
        await_durable(self.log.close_stream(stats.id)).await?;
        failpoint::at(FailPoint::KeptClosed);
        let lost = self.check_rows(&stats, sink).await?;
        for _ in 0..ATTEMPTS_MAX {
            match self.attempt(&stats, sink).await {
                Err(OrphanStreamError::File(FileError::Conflict)) => {}
                done => {
                    return Ok(OrphanDelivery {
                        records: done?,
                        lost,
                        already_delivered: false,
                    });
                }
            }
        }
        Err(FileError::Conflict.into())
    }

    /// Checks that the stream has rows that are not delivered in another way.
    async fn check(&self, stats: &StreamStats) -> Result<(), OrphanStreamError> {
        let name = || stats.name.clone();
        if dead_letter_sink(&stats.name).is_some() {
            return Err(OrphanStreamError::NotRows(name(), "dead letters"));
        }
        if topic_sink(&stats.name).is_some() {
            return Err(OrphanStreamError::NotRows(name(), "messages of a topic"));
        }
        let Ok(slice) = stats.name.parse::<SliceKey>() else {
            // The log has lost the stream's name.
            return Ok(());
        };
        if let Some(imported) = self.repo.imported_slice(&slice).await? {
            let imported = imported.statistics.records;
            return match imported {
                0 if stats.records > 0 => Ok(()),
                _ if stats.records <= imported => Err(OrphanStreamError::Imported(name())),
                _ => Err(OrphanStreamError::Partly {
                    stream: name(),
                    imported,
                    in_log: stats.records,
                }),
            };
        }
        if self.repo.slice_exists(&slice).await? {
            return Err(OrphanStreamError::Referenced(name()));
        }
        if self.repo.file_exists(&slice.file).await? {
            return Err(OrphanStreamError::LeftOver(name()));
        }
        let removed = self.repo.removed_up_to(&slice.file.sink).await?;
        if removed.is_some_and(|at| slice.file.opened_at <= at) {
            return Err(OrphanStreamError::Imported(name()));
        }
        Ok(())
    }

    /// Reads all rows and checks that they fit the sink. Returns the number of lost rows.
    async fn check_rows(
        &self,
        stats: &StreamStats,
        sink: &SinkKey,
    ) -> Result<u64, OrphanStreamError> {
        let now = self.clock.now();
        let (_, file) = self.repo.new_replay_slice(sink, &self.volume, now).await?;
        let columns = file.table.mapping.columns.len();
        let mut record = CsvRecord::default();
        let (mut row, mut lost) = (0, 0);
        for item in self.log.reader(stats.id, 0).map_err(read_error)? {
            let block = match item.map_err(read_error)? {
                ReadItem::Gap(gap) => {
                    lost += gap.records;
                    continue;
                }
                ReadItem::Block(block) => block,
            };
            let rows = rows(&stats.name, &block)?;
            let mut reader = CsvReader::new(&rows[..]);
            let before = row;
            while reader.read(&mut record).map_err(read_error)? {
                row += 1;
                if record.len() != columns {
                    return Err(OrphanStreamError::OtherColumns {
                        stream: stats.name.clone(),
                        row,
                        found: record.len(),
                        sink: Box::new(sink.clone()),
                        columns,
                    });
                }
            }
            if row - before != u64::from(block.records) {
                return Err(OrphanStreamError::NotRows(
                    stats.name.clone(),
                    "something else",
                ));
            }
        }
        Ok(lost)
    }

    /// Copies the rows and turns the copy into a slice. Returns the number of rows.
    async fn attempt(&self, stats: &StreamStats, sink: &SinkKey) -> Result<u64, OrphanStreamError> {
        let now = self.clock.now();
        let (slice, file) = self.repo.new_replay_slice(sink, &self.volume, now).await?;
        let copied = self.copy(stats, &slice, file.settings.compression()).await;
        let delivered_stream = DeliveredStream {
            volume: self.volume.clone(),
            stream: stats.name.clone(),
            slice,
        };
        let made = match &copied {
            Ok(statistics) => {
                self.repo
                    .deliver_stream(&delivered_stream, *statistics, now)
                    .await
            }
            Err(_) => Ok(false),
        };
        match (copied, made) {
            (Ok(statistics), Ok(true)) => {
                failpoint::at(FailPoint::KeptDelivered);
                self.delete(&delivered_stream).await?;
                Ok(statistics.records)
            }
            // Another call has delivered it.
            (Ok(_), Ok(false)) => {
                self.delete_copy(&delivered_stream.slice).await;
                Ok(0)
            }
            // It may already be a slice and hold the only copy that counts.
            (_, Err(error @ FileError::Store(StoreError::Uncertain(_)))) => Err(error.into()),
            (Ok(_), Err(error)) => {
                self.delete_copy(&delivered_stream.slice).await;
                Err(error.into())
            }
            (Err(error), _) => {
                self.delete_copy(&delivered_stream.slice).await;
                Err(error)
            }
        }
    }

    /// Writes the rows as the whole stream of a slice.
    async fn copy(
        &self,
        stats: &StreamStats,
        slice: &SliceKey,
        compression: BlockCompression,
    ) -> Result<Statistics, OrphanStreamError> {
        let stream = self.appender.open(slice)?;
        let mut encoder = BlockEncoder::new(compression).map_err(read_error)?;
        for item in self.log.reader(stats.id, 0).map_err(read_error)? {
            let ReadItem::Block(block) = item.map_err(read_error)? else {
                continue;
            };
            let rows = rows(&stats.name, &block)?;
            let block = BlockToAppend {
                sealed: SealedBlock {
                    payload: encoder.encode(&rows).map_err(read_error)?,
                    raw_len: rows.len(),
                    records: block.records,
                },
                first_at: Timestamp::from_millis(block.first_at_ms),
                last_at: Timestamp::from_millis(block.last_at_ms),
                compression,
            };
            match stream.append(block)?.await {
                AppendOutcome::Stored => failpoint::at(FailPoint::KeptBlockCopied),
                AppendOutcome::Rejected(error) => return Err(error.into()),
                AppendOutcome::Unknown(cause) => return Err(BlockAppendError::Failed(cause).into()),
            }
        }
        let statistics = self.appender.close(slice).await?;
        failpoint::at(FailPoint::KeptCopied);
        Ok(statistics)
    }

    /// Deletes a delivered stream, and then its mark.
    async fn delete(&self, delivered_stream: &DeliveredStream) -> Result<(), OrphanStreamError> {
        if let Some(id) = self.log.find(&delivered_stream.stream) {
            await_durable(self.log.delete_stream(id)).await?;
        }
        failpoint::at(FailPoint::KeptDeleted);
        self.repo.remove_delivered_stream(delivered_stream).await?;
        failpoint::at(FailPoint::KeptForgotten);
        Ok(())
    }

    /// Deletes the copy, which no slice refers to.
    async fn delete_copy(&self, slice: &SliceKey) {
        if let Some(id) = self.log.find(&slice.to_string())
            && let Err(error) = await_durable(self.log.delete_stream(id)).await
        {
            tracing::warn!(%slice, %error, "deleting the copy of a stream failed");
        }
    }
}

/// Waits until a change of the log is durable.
async fn await_durable(
    ticket: Result<forebay_log::Ticket, forebay_log::LogAppendError>,
) -> Result<(), OrphanStreamError> {
    let ticket = ticket.map_err(BlockAppendError::from)?;
    let done = ticket.await;
    done.map(drop)
        .map_err(|e| BlockAppendError::Other(e.to_string().into()).into())
}

/// Returns the rows of a block as CSV.
fn rows(stream: &str, stored: &Block) -> Result<Vec<u8>, OrphanStreamError> {
    let Some(compression) = compression_of(stored.codec) else {
        return Err(OrphanStreamError::NotRows(
            stream.to_owned(),
            "something else",
        ));
    };
    block::decode(&stored.payload, compression, stored.raw_len as usize).map_err(read_error)
}
