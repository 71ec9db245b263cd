//! Appends blocks to this process's own log.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use forebay_log::{CommitError, Log, NewBlock, StreamId, StreamStats, Ticket};
use forebay_meta::catalog::stored::dead_letters::DeadLetterCounts;
use forebay_model::{SinkKey, SliceKey, Statistics, Timestamp, VolumeId};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::appender::{Appender, BlockStream, BlockTicket, BlockToAppend};
use super::completion::{AppendOutcome, BlockAppendError};
use crate::streams::{codec, dead_letter_sink, dead_letter_stream};

/// Log of this node's volume. The stream of a slice is named by the slice's key.
#[derive(Clone, Debug)]
pub struct LocalLog {
    log: Log,
    volume: VolumeId,
    /// Sinks that have a stream of dead letters, or are about to.
    dead_letter_sinks: Arc<Mutex<BTreeSet<SinkKey>>>,
}

impl LocalLog {
    pub fn new(log: Log, volume: VolumeId) -> Self {
        let streams = log.streams();
        let dead_letters = streams.iter().filter_map(|s| dead_letter_sink(&s.name));
        let dead_letters = Arc::new(Mutex::new(dead_letters.collect()));
        Self {
            log,
            volume,
            dead_letter_sinks: dead_letters,
        }
    }

    fn check_health(&self) -> Result<(), BlockAppendError> {
        let health = self.log.health();
        health.map_err(|latched| forebay_log::LogAppendError::Latched(latched).into())
    }

    fn dead_letter_sinks(&self) -> parking_lot::MutexGuard<'_, BTreeSet<SinkKey>> {
        // A set is consistent between any two of its calls.
        self.dead_letter_sinks.lock()
    }

    fn dead_letter_stats(&self, sink: &SinkKey) -> Option<StreamStats> {
        self.log.stats(self.log.find(&dead_letter_stream(sink))?)
    }

    fn stats(&self, slice: &SliceKey) -> Option<StreamStats> {
        let id = self.log.find(&slice.to_string())?;
        self.log.stats(id)
    }
}

impl Appender for LocalLog {
    fn open(&self, slice: &SliceKey) -> Result<Arc<dyn BlockStream>, BlockAppendError> {
        self.check_health()?;
        Ok(Arc::new(LocalStream::new(&self.log, slice.to_string())))
    }

    fn dead_letters(&self, sink: &SinkKey) -> Arc<dyn BlockStream> {
        self.dead_letter_sinks().insert(sink.clone());
        Arc::new(LocalStream::new(&self.log, dead_letter_stream(sink)))
    }

    fn dead_letter_bytes(&self, sink: &SinkKey) -> u64 {
        self.dead_letter_stats(sink).map_or(0, |s| s.stored_bytes)
    }

    fn dead_letter_counts(&self) -> Vec<(SinkKey, VolumeId, DeadLetterCounts)> {
        let sinks: Vec<SinkKey> = self.dead_letter_sinks().iter().cloned().collect();
        let counts = sinks.into_iter().filter_map(|sink| {
            let stats = self.dead_letter_stats(&sink)?;
            let counts = DeadLetterCounts {
                taken: stats.next_seq,
                lost: stats.lost_records,
            };
            Some((sink, self.volume.clone(), counts))
        });
        counts.collect()
    }

    fn statistics(&self, slice: &SliceKey) -> Option<Statistics> {
        self.stats(slice).as_ref().map(statistics)
    }

    fn close(&self, slice: &SliceKey) -> BoxFuture<'static, Result<Statistics, BlockAppendError>> {
        let (this, slice) = (self.clone(), slice.clone());
        async move {
            let Some(stats) = this.stats(&slice) else {
                // A first block of unknown outcome may be found when the volume is reopened.
                this.check_health()?;
                // No row ever arrived, and no pipeline is left that could create the stream.
                return Ok(Statistics::default());
            };
            if !stats.closed {
                let ticket = this.log.close_stream(stats.id)?;
                ticket
                    .await
                    .map_err(|e| BlockAppendError::Other(e.to_string().into()))?;
            }
            let stats = this.log.stats(stats.id);
            Ok(stats.as_ref().map(statistics).unwrap_or_default())
        }
        .boxed()
    }
}

/// Converts the log's statistics of a stream.
fn statistics(stats: &StreamStats) -> Statistics {
    Statistics {
        records: stats.records,
        uncompressed_bytes: stats.raw_bytes,
        compressed_bytes: stats.stored_bytes,
        first_record_at: stats.first_at_ms.map(Timestamp::from_millis),
        last_record_at: stats.last_at_ms.map(Timestamp::from_millis),
        lost_records: stats.lost_records,
    }
}

/// Stream of a slice. It is created in the log with the first block: an idle sink costs nothing
/// there.
#[derive(Debug)]
pub struct LocalStream {
    log: Log,
    name: String,
    id: OnceLock<StreamId>,
    /// Blocks that wait for space in the log's queue; later ones must not overtake them.
    waiting: Arc<AtomicUsize>,
    /// Codec of its blocks, where that does not follow from their compression.
    codec: Option<u8>,
}

impl LocalStream {
    fn new(log: &Log, name: String) -> Self {
        Self::with_codec(log, name, None)
    }

    /// Opens a stream whose blocks have `codec`.
    pub fn with_codec(log: &Log, name: String, codec: Option<u8>) -> Self {
        Self {
            codec,
            log: log.clone(),
            name,
            id: OnceLock::new(),
            waiting: Arc::default(),
        }
    }

    fn id(&self) -> Result<StreamId, BlockAppendError> {
        if let Some(id) = self.id.get() {
            return Ok(*id);
        }
        let id = self.log.stream(&self.name)?;
        Ok(*self.id.get_or_init(|| id))
    }
}

impl BlockStream for LocalStream {
    fn append(&self, block: BlockToAppend) -> Result<BlockTicket, BlockAppendError> {
        let mut block = new_block(self.id()?, block)?;
        block.codec = self.codec.unwrap_or(block.codec);
        if self.waiting.load(SeqCst) == 0 {
            match self.log.append(block.clone()) {
                Ok(ticket) => return Ok(await_commit(ticket).boxed()),
                Err(forebay_log::LogAppendError::Busy) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.waiting.fetch_add(1, SeqCst);
        let (log, waiting) = (self.log.clone(), Arc::clone(&self.waiting));
        // Tickets of a pipeline are awaited one after the other, so these keep their order.
        Ok(async move {
            let appended = log.append_async(block).await;
            waiting.fetch_sub(1, SeqCst);
            match appended {
                Ok(ticket) => await_commit(ticket).await,
                Err(e) => AppendOutcome::Rejected(e.into()),
            }
        }
        .boxed())
    }
}

fn new_block(stream: StreamId, block: BlockToAppend) -> Result<NewBlock, BlockAppendError> {
    let sealed = block.sealed;
    let raw_len = u32::try_from(sealed.raw_len)
        .map_err(|_| BlockAppendError::TooLarge("4 GiB before compression".into()))?;
    Ok(NewBlock {
        stream,
        records: sealed.records,
        codec: codec(block.compression),
        raw_len,
        first_at_ms: block.first_at.as_millis(),
        last_at_ms: block.last_at.as_millis(),
        payload: sealed.payload.into(),
    })
}

async fn await_commit(ticket: Ticket) -> AppendOutcome {
    match ticket.await {
        Ok(_) => AppendOutcome::Stored,
        Err(CommitError::Full) => AppendOutcome::Rejected(BlockAppendError::Full(
            "it filled up before the block was written".into(),
        )),
        Err(e @ CommitError::Scarce(_)) => {
            tracing::warn!(error = %e, "log rejected a block; it accepts the next one as usual");
            AppendOutcome::Rejected(BlockAppendError::Other(e.to_string().into()))
        }
        Err(CommitError::Shutdown) => {
            AppendOutcome::Rejected(BlockAppendError::Failed("the log was shut down".into()))
        }
        Err(e) => AppendOutcome::Unknown(e.to_string().into()),
    }
}

impl From<forebay_log::LogAppendError> for BlockAppendError {
    fn from(error: forebay_log::LogAppendError) -> Self {
        use forebay_log::LogAppendError as E;
        let text = error.to_string().into();
        match error {
            E::Full { .. } => Self::Full(text),
            E::Closed | E::UnknownStream => Self::Closed,
            E::Invalid(_) => Self::TooLarge(text),
            E::Latched(_) | E::Shutdown => Self::Failed(text),
            _ => Self::Other(text),
        }
    }
}
