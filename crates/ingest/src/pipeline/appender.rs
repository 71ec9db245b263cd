//! Interface to the log: this node's own now, a writer node's later.

use std::fmt;
use std::sync::Arc;

use forebay_meta::catalog::stored::dead_letters::DeadLetterCounts;
use forebay_model::{BlockCompression, SinkKey, SliceKey, Statistics, Timestamp, VolumeId};
use forebay_record::SealedBlock;
use futures::future::BoxFuture;

use super::completion::{AppendOutcome, BlockAppendError};

/// Resolves with a block's outcome: as safe as its mode promises, not stored, or unknown.
pub type BlockTicket = BoxFuture<'static, AppendOutcome>;

/// Appends sealed blocks to streams.
pub trait Appender: Send + Sync + fmt::Debug {
    /// Opens the stream of a slice, at its end: a new one, or one that is continued.
    ///
    /// # Errors
    /// When the volume accepts nothing more, or the stream is closed.
    fn open(&self, slice: &SliceKey) -> Result<Arc<dyn BlockStream>, BlockAppendError>;

    /// Opens the stream of a sink's dead letters. It is never closed.
    fn dead_letters(&self, sink: &SinkKey) -> Arc<dyn BlockStream>;

    /// Compressed bytes of dead letters that a sink holds on the volume of [`Self::dead_letters`].
    fn dead_letter_bytes(&self, sink: &SinkKey) -> u64;

    /// Dead-letter counts of the log, for all sinks that have dead letters.
    fn dead_letter_counts(&self) -> Vec<(SinkKey, VolumeId, DeadLetterCounts)>;

    /// Statistics of a slice's stream, if there is one: exact, from the headers of its blocks.
    fn statistics(&self, slice: &SliceKey) -> Option<Statistics>;

    /// Closes the stream of a slice for ever, durably. Idempotent; a missing stream is closed as an
    /// empty one.
    fn close(&self, slice: &SliceKey) -> BoxFuture<'static, Result<Statistics, BlockAppendError>>;
}

/// Opens the streams of topic sinks.
pub trait TopicStreams: Send + Sync + fmt::Debug {
    /// Opens a sink's stream for appending.
    ///
    /// # Errors
    /// When the volume accepts nothing more.
    fn open(self: Arc<Self>, sink: &SinkKey) -> Result<Arc<dyn BlockStream>, BlockAppendError>;
}

/// Stream that blocks are appended to.
pub trait BlockStream: Send + Sync + fmt::Debug {
    /// Appends a block and returns at once. Blocks are stored in the order of calls.
    ///
    /// # Errors
    /// When nothing of it was or will be written.
    fn append(&self, block: BlockToAppend) -> Result<BlockTicket, BlockAppendError>;
}

/// A block with the values of its header.
#[derive(Debug)]
pub struct BlockToAppend {
    pub sealed: SealedBlock,
    /// Time of receipt of its first record.
    pub first_at: Timestamp,
    /// Time of receipt of its last record.
    pub last_at: Timestamp,
    pub compression: BlockCompression,
}
