//! The seam to the log: this node's own now, a writer node's later.

use std::fmt;
use std::sync::Arc;

use forebay_meta::catalog::stored::dead_letters::DeadLetterCounts;
use forebay_model::{BlockCompression, SinkKey, SliceKey, Statistics, Timestamp, VolumeId};
use forebay_record::SealedBlock;
use futures::future::BoxFuture;

use super::completion::AppendOutcome;

/// Resolves when a block's fate is known: as safe as its mode promises, surely not stored, or of
/// unknown fate.
pub type BlockTicket = BoxFuture<'static, AppendOutcome>;

/// Where sealed blocks go.
pub trait Appender: Send + Sync + fmt::Debug {
    /// The stream of a slice, at its end: a new one, or one that is continued.
    ///
    /// # Errors
    /// When the volume takes nothing more, or the stream is closed.
    fn open(&self, slice: &SliceKey) -> Result<Arc<dyn BlockStream>, BlockAppendError>;

    /// The stream of a sink's dead letters. It is never closed.
    fn dead_letters(&self, sink: &SinkKey) -> Arc<dyn BlockStream>;

    /// Compressed bytes of dead letters that a sink holds on the volume which [`Self::dead_letters`]
    /// leads to.
    fn dead_letter_bytes(&self, sink: &SinkKey) -> u64;

    /// What the log has counted of all sinks that have dead letters.
    fn dead_letter_counts(&self) -> Vec<(SinkKey, VolumeId, DeadLetterCounts)>;

    /// What the stream of a slice holds, if there is one: exact, from the headers of its blocks.
    fn statistics(&self, slice: &SliceKey) -> Option<Statistics>;

    /// Closes the stream of a slice for ever, durably; one that is not there is closed as an empty
    /// one, one that is closed stays so.
    fn close(&self, slice: &SliceKey) -> BoxFuture<'static, Result<Statistics, BlockAppendError>>;
}

/// A stream that blocks are appended to.
pub trait BlockStream: Send + Sync + fmt::Debug {
    /// Hands a block over and returns at once. Blocks are stored in the order of calls.
    ///
    /// # Errors
    /// When nothing of it was or will be written.
    fn append(&self, block: BlockToAppend) -> Result<BlockTicket, BlockAppendError>;
}

/// A block with what its header says.
#[derive(Debug)]
pub struct BlockToAppend {
    /// Rows, compressed.
    pub sealed: SealedBlock,
    /// Receipt of its first record.
    pub first_at: Timestamp,
    /// Receipt of its last record.
    pub last_at: Timestamp,
    /// How the rows are compressed.
    pub compression: BlockCompression,
}

/// Why a block was not taken. Nothing of it is or will be on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockAppendError {
    /// A write or sync failed; the volume takes nothing until it is reopened.
    #[error("the volume takes no more data since an earlier failure: {0}")]
    Failed(Arc<str>),
    /// The disk or its quota is full.
    #[error("the volume is full: {0}")]
    Full(Arc<str>),
    /// The block is larger than any may be.
    #[error("the rows of one block are over the maximum: {0}")]
    TooLarge(Arc<str>),
    /// The stream takes no more blocks.
    #[error("the slice is closed")]
    Closed,
    /// Something else.
    #[error("{0}")]
    Other(Arc<str>),
}
