//! Dead letters: records that a mapping has refused and that were accepted all the same. They are
//! in a stream of their own in the log, one for each sink, until someone replays or drops them.
//!
//! A replay makes the rows anew, by the mapping in force, into a stream of the log; then one
//! transaction of the store makes that stream a slice of the sink's open file and marks the letters
//! as done with. Whatever is killed in between: before the transaction nothing has happened (the
//! stream is one that nobody knows), after it the slice goes the way of every slice. So each letter
//! is delivered once (`docs/adr/0606-…`).

mod letter;
mod read;
mod rows;

use std::fmt;
use std::sync::Arc;

use forebay_log::Log;
use forebay_meta::repo::letters::{Finished, LetterEnd, LetterError};
use forebay_meta::stored::letters::LetterCounts;
use forebay_meta::{FileError, Repo, StoreError};
use forebay_model::{
    Clock, Compression, Mapping, SinkKey, SliceKey, Statistics, Timestamp, VolumeId,
};
use forebay_record::{CompiledMapping, Encoder, Limits, RecordContext, SealedBlock, csv};
use tokio::sync::Mutex;

pub(crate) use letter::write_block;
pub use letter::{Letter, RefusedRow};
pub use read::{AT_A_TIME_MAX, Kept, Which};
use read::{Found, read};

use crate::dispatch::Random;
use crate::pipeline::{AppendError, Appender, BlockToAppend, Outcome, letter_stream};
use crate::template::TemplatePool;

/// How often a replay is begun anew when the sink's file was rotated meanwhile.
const ATTEMPTS_MAX: u32 = 5;
/// Bytes of rows at which a block of replayed rows is closed.
const BLOCK_BYTES: usize = 1 << 20;

/// What the letters of this node's volume are looked through and replayed with.
#[derive(Clone)]
pub struct DeadLetters {
    /// Where it is remembered which are done with.
    pub repo: Repo,
    /// Where they are.
    pub log: Log,
    /// The log's volume.
    pub volume: VolumeId,
    /// Where their rows go.
    pub appender: Arc<dyn Appender>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What evaluates templates; without it letters that need some stay.
    pub templates: Option<Arc<TemplatePool>>,
    /// For the bits of UUIDs.
    pub random: Random,
    /// Bounds of rows.
    pub limits: Limits,
    /// One replay or drop at a time.
    pub turn: Arc<Mutex<()>>,
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters")
            .field("volume", &self.volume)
            .finish_non_exhaustive()
    }
}

/// Why letters can't be shown, replayed or dropped.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// There is none of that number, or it is done with.
    #[error("letter {0} not found")]
    NotFound(u64),
    /// The letters that were named are too many or too large to be looked at in one go.
    #[error("too many letters, or too large ones, are named at a time; name fewer")]
    TooMuch,
    /// Of the store, the sink's file or the book.
    #[error(transparent)]
    Letter(#[from] LetterError),
    /// The log did not take the rows.
    #[error("the rows could not be stored: {0}")]
    Append(#[from] AppendError),
    /// The log could not be read.
    #[error("the letters could not be read: {0}")]
    Read(String),
}

impl From<FileError> for DeadLetterError {
    fn from(error: FileError) -> Self {
        Self::Letter(error.into())
    }
}

impl From<StoreError> for DeadLetterError {
    fn from(error: StoreError) -> Self {
        Self::Letter(error.into())
    }
}

impl DeadLetterError {
    /// The store did not say whether it has done it.
    fn is_uncertain(&self) -> bool {
        matches!(
            self,
            Self::Letter(LetterError::File(FileError::Store(StoreError::Uncertain(
                _
            ))))
        )
    }
}

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// So many letters are on their way to the table.
    pub replayed: u64,
    /// These were refused again, and why; they stay.
    pub refused: Vec<(u64, String)>,
    /// Where to go on, if there are more than were looked at.
    pub next: Option<u64>,
}

/// What a drop did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// So many letters are gone.
    pub dropped: u64,
    /// Where to go on, if there are more than were looked at.
    pub next: Option<u64>,
}

/// Rows of letters, as blocks.
struct Rendered {
    blocks: Vec<BlockToAppend>,
    letters: Vec<u64>,
    refused: Vec<(u64, String)>,
}

impl DeadLetters {
    /// Letters of a sink that are not done with.
    ///
    /// # Errors
    /// [`DeadLetterError`].
    pub async fn list(&self, sink: &SinkKey, which: Which) -> Result<Vec<Kept>, DeadLetterError> {
        Ok(self.find(sink, which).await?.letters)
    }

    /// Sends letters on their way again, by the mapping in force. At most [`SELECTION_MAX`] are
    /// looked at.
    ///
    /// # Errors
    /// [`DeadLetterError`]; no letter is replayed then, unless the store did not say so.
    pub async fn replay(&self, sink: &SinkKey, which: Which) -> Result<Replayed, DeadLetterError> {
        let _turn = self.turn.lock().await;
        self.refuse_while_moving(sink).await?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let found = self.find(sink, which.clone()).await?;
            let now = self.clock.now();
            let (slice, file) = self.repo.replay_slice(sink, &self.volume, now).await?;
            let mapping = CompiledMapping::compile_checked(&file.table.mapping, &self.limits);
            let compression = file.settings.compression();
            let by = (&mapping, &file.table.mapping);
            let rendered = self.render(by, compression, &found.letters).await?;
            let done = Replayed {
                replayed: rendered.letters.len() as u64,
                refused: rendered.refused,
                next: found.next,
            };
            if rendered.letters.is_empty() {
                return Ok(done);
            }
            let stored = self.store(&slice, rendered.blocks).await;
            let result = match stored {
                Ok(statistics) => {
                    let end = LetterEnd::Replayed(slice.clone(), statistics);
                    self.finish(sink, rendered.letters, found.lost, end).await
                }
                Err(e) => Err(e),
            };
            match result {
                Ok(()) => {
                    self.trim(sink).await;
                    return Ok(done);
                }
                Err(error) => {
                    if error.is_uncertain() {
                        // It may be a slice by now: then it has the only copy of these rows.
                        return Err(error);
                    }
                    // Nobody knows this stream: its rows were not delivered and will not be.
                    self.forget(&slice).await;
                    let rotated = matches!(
                        &error,
                        DeadLetterError::Letter(LetterError::File(FileError::Conflict))
                    );
                    if !rotated || attempt == ATTEMPTS_MAX {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Forgets letters. At most [`SELECTION_MAX`] are looked at.
    ///
    /// # Errors
    /// [`DeadLetterError`]; no letter is dropped then, unless the store did not say so.
    pub async fn discard(&self, sink: &SinkKey, which: Which) -> Result<Dropped, DeadLetterError> {
        let _turn = self.turn.lock().await;
        self.refuse_while_moving(sink).await?;
        let found = self.find(sink, which).await?;
        let letters: Vec<u64> = found.letters.iter().map(|k| k.number).collect();
        let dropped = letters.len() as u64;
        if dropped > 0 || !found.lost.is_empty() {
            self.finish(sink, letters, found.lost, LetterEnd::Dropped)
                .await?;
            self.trim(sink).await;
        }
        Ok(Dropped {
            dropped,
            next: found.next,
        })
    }

    async fn find(&self, sink: &SinkKey, which: Which) -> Result<Found, DeadLetterError> {
        let book = self.repo.letter_book(sink, &self.volume).await?;
        let (log, name) = (self.log.clone(), letter_stream(sink));
        let read = tokio::task::spawn_blocking(move || read(&log, &name, &book, &which));
        read.await
            .map_err(|e| DeadLetterError::Read(e.to_string()))?
    }

    async fn render(
        &self,
        (mapping, columns): (&CompiledMapping, &Mapping),
        compression: Compression,
        kept: &[Kept],
    ) -> Result<Rendered, DeadLetterError> {
        let of_records = kept.iter().filter(|k| k.letter.row.is_none());
        let records: Vec<RecordContext> = of_records.map(|k| k.letter.record()).collect();
        let cells = match &self.templates {
            Some(pool) => pool.evaluate_batch(mapping.templates(), &records).await,
            None => Vec::new(),
        };
        let mut blocks = Blocks::new(compression)?;
        let (mut letters, mut refused) = (Vec::new(), Vec::new());
        let mut records = records.iter().enumerate();
        for kept in kept {
            let rendered = match &kept.letter.row {
                Some(row) => {
                    let rows = write_row(row, columns, &mut blocks.rows);
                    rows.map(|()| kept.letter.request.received)
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
                    letters.push(kept.number);
                    blocks.count(received)?;
                }
                Err(error) => refused.push((kept.number, error)),
            }
        }
        Ok(Rendered {
            blocks: blocks.end()?,
            letters,
            refused,
        })
    }

    /// Brings the blocks to disk as the whole of a slice's stream.
    async fn store(
        &self,
        slice: &SliceKey,
        blocks: Vec<BlockToAppend>,
    ) -> Result<Statistics, DeadLetterError> {
        let stream = self.appender.open(slice)?;
        for block in blocks {
            match stream.append(block)?.await {
                Outcome::Stored => {}
                Outcome::Refused(error) => return Err(error.into()),
                Outcome::Unknown(cause) => return Err(AppendError::Failed(cause).into()),
            }
        }
        Ok(self.appender.close(slice).await?)
    }

    async fn finish(
        &self,
        sink: &SinkKey,
        letters: Vec<u64>,
        lost: Vec<(u64, u64)>,
        end: LetterEnd,
    ) -> Result<(), DeadLetterError> {
        let stream = self.log.find(&letter_stream(sink));
        let stats = stream.and_then(|id| self.log.stats(id));
        let counts = stats.map(|s| LetterCounts {
            taken: s.next_seq,
            lost: s.lost_records,
        });
        let finished = Finished {
            letters,
            lost,
            counts: counts.unwrap_or_default(),
            end,
        };
        let now = self.clock.now();
        self.repo
            .finish_letters(sink, &self.volume, &finished, now)
            .await?;
        Ok(())
    }

    /// Removes the letters that are done with from the log. What is missed here is found by the next
    /// one.
    async fn trim(&self, sink: &SinkKey) {
        let trimmed = match self.repo.letter_book(sink, &self.volume).await {
            Ok(book) => {
                let stream = self.log.find(&letter_stream(sink));
                match stream.map(|id| self.log.trim(id, book.floor())) {
                    Some(Ok(ticket)) => ticket.await.map(drop).map_err(|e| e.to_string()),
                    Some(Err(error)) => Err(error.to_string()),
                    None => Ok(()),
                }
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = trimmed {
            tracing::warn!(%sink, error, "dead letters that are done with could not be removed");
        }
    }

    async fn forget(&self, slice: &SliceKey) {
        let Some(stream) = self.log.find(&slice.to_string()) else {
            return;
        };
        if let Ok(ticket) = self.log.delete_stream(stream)
            && let Err(error) = ticket.await
        {
            tracing::warn!(%slice, %error, "the stream of a replay that failed is left");
        }
    }
}

/// A row that its table could not take, as one of the sink's table now.
fn write_row(row: &RefusedRow, mapping: &Mapping, out: &mut Vec<u8>) -> Result<(), String> {
    if !mapping.takes_rows_of(&row.table.mapping) {
        return Err(
            "it is a row that was made by other columns than the sink has now, and its record is not kept"
                .to_owned(),
        );
    }
    csv::write_row(row.cells.iter().map(|c| &c[..]), out);
    Ok(())
}

/// Rows on their way into blocks.
struct Blocks {
    compression: Compression,
    encoder: Encoder,
    rows: Vec<u8>,
    records: u32,
    times: Option<(Timestamp, Timestamp)>,
    done: Vec<BlockToAppend>,
}

impl Blocks {
    fn new(compression: Compression) -> Result<Self, DeadLetterError> {
        let encoder =
            Encoder::new(compression).map_err(|e| DeadLetterError::Read(e.to_string()))?;
        Ok(Self {
            compression,
            encoder,
            rows: Vec::new(),
            records: 0,
            times: None,
            done: Vec::new(),
        })
    }

    /// A row was written.
    fn count(&mut self, at: Timestamp) -> Result<(), DeadLetterError> {
        self.records += 1;
        let (first, last) = self.times.unwrap_or((at, at));
        self.times = Some((first.min(at), last.max(at)));
        if self.rows.len() >= BLOCK_BYTES {
            self.seal()?;
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<(), DeadLetterError> {
        let Some((first_at, last_at)) = self.times.take() else {
            return Ok(());
        };
        let payload = self.encoder.encode(&self.rows);
        let payload = payload.map_err(|e| AppendError::Other(e.to_string().into()))?;
        self.done.push(BlockToAppend {
            sealed: SealedBlock {
                payload,
                raw_len: self.rows.len(),
                records: std::mem::take(&mut self.records),
            },
            first_at,
            last_at,
            compression: self.compression,
        });
        self.rows.clear();
        Ok(())
    }

    fn end(mut self) -> Result<Vec<BlockToAppend>, DeadLetterError> {
        self.seal()?;
        Ok(self.done)
    }
}
