//! What became of a request's records, sink by sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use forebay_record::{RecordContext, RecordError};

use crate::pipeline::{AppendOutcome, BlockAppendError};

/// Refused records of which a sink keeps the cause; the others are counted.
pub const REJECTIONS_MAX: usize = 100;

/// One sink's part of the answer.
#[derive(Debug)]
pub struct SinkResult {
    /// What became of the rows that the sink's mapping could make.
    pub outcome: WriteOutcome,
    /// So many rows.
    pub rows: u32,
    /// Records that the mapping refused and that are not kept.
    pub rejected: RejectedRecords,
    /// Records that the mapping refused and that are kept as dead letters; empty for most sinks.
    pub kept: KeptRecords,
}

/// Records that were refused by the mapping and handed to the log as dead letters.
#[derive(Debug)]
pub struct KeptRecords {
    /// Which, and why.
    pub records: RejectedRecords,
    /// What became of them.
    pub outcome: WriteOutcome,
}

impl Default for KeptRecords {
    fn default() -> Self {
        Self {
            records: RejectedRecords::default(),
            outcome: WriteOutcome::Nothing,
        }
    }
}

/// Records that were refused.
#[derive(Debug, Default)]
pub struct RejectedRecords {
    /// Indices of all of them, ascending.
    pub indices: Vec<usize>,
    /// The first of them, at most [`REJECTIONS_MAX`].
    pub first: Vec<RecordRejection>,
}

/// A record that was refused.
#[derive(Clone, Debug)]
pub struct RecordRejection {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// Its line, from 1, where the batch has lines.
    pub line: Option<usize>,
    /// Byte of that line at which it starts.
    pub byte: usize,
    /// Why.
    pub error: RecordError,
}

impl RejectedRecords {
    /// Notes one more.
    pub fn push(&mut self, rejection: RecordRejection) {
        self.indices.push(rejection.index);
        if self.first.len() < REJECTIONS_MAX {
            self.first.push(rejection);
        }
    }

    /// Notes all of another list too.
    pub fn merge(&mut self, other: Self) {
        self.indices.extend(other.indices);
        self.indices.sort_unstable();
        self.first.extend(other.first);
        self.first.sort_by_key(|r| r.index);
        self.first.truncate(REJECTIONS_MAX);
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.indices.len()
    }

    /// The highest status of any of those whose cause is kept.
    #[must_use]
    pub fn status(&self) -> u16 {
        let all = self.first.iter().map(|r| r.error.kind.status());
        all.max().unwrap_or(200)
    }
}

/// Records of a batch that no sink gets, because they are none.
#[derive(Debug, Default)]
pub struct BrokenRecords {
    /// Indices of all of them, ascending.
    pub indices: Vec<usize>,
    /// The first of them, at most [`REJECTIONS_MAX`].
    pub first: Vec<BrokenRecord>,
}

/// A record of a batch that is no record.
#[derive(Debug)]
pub struct BrokenRecord {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// Its line, from 1, where the batch has lines.
    pub line: Option<usize>,
    /// Byte of that line at which it starts.
    pub byte: usize,
    /// What is wrong with it.
    pub message: String,
}

impl BrokenRecords {
    /// Looks into a record; notes it, and returns `false`, if it is none.
    pub fn check(&mut self, index: usize, record: &RecordContext) -> bool {
        let Err(error) = record.document() else {
            return true;
        };
        self.indices.push(index);
        if self.first.len() < REJECTIONS_MAX {
            self.first.push(BrokenRecord {
                index,
                line: record.line(),
                byte: record.byte(),
                message: format!("{error}."),
            });
        }
        false
    }

    /// Whether record number `index` is one of them.
    #[must_use]
    pub fn contains(&self, index: usize) -> bool {
        !self.indices.is_empty() && self.indices.binary_search(&index).is_ok()
    }
}

/// Whether anything of a request may be stored.
#[derive(Debug, Default)]
pub struct RequestProgress(AtomicBool);

impl RequestProgress {
    /// Its first rows are on their way.
    pub(super) fn begin(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether some are. As long as they are not, nothing of it is stored, or will be.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// What became of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// There were none.
    Nothing,
    /// They are stored.
    Processed,
    /// They will be stored; the sink's settings say that nobody waits for it.
    Accepted,
    /// They are not stored.
    Failed(SinkFailure),
    /// Nobody knows.
    Unknown(Arc<str>),
}

/// Why rows are not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkFailure {
    /// The sink has no slice that takes records.
    #[error("No opened slice found.")]
    NoOpenSlice,
    /// The log did not take them.
    #[error("Not stored: {0}.")]
    Append(#[from] BlockAppendError),
}

impl WriteOutcome {
    /// HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Nothing | Self::Processed => 200,
            Self::Accepted => 202,
            Self::Failed(SinkFailure::Append(BlockAppendError::Full(_))) => 507,
            Self::Failed(SinkFailure::Append(BlockAppendError::TooLarge(_))) => 413,
            Self::Failed(_) => 503,
            Self::Unknown(_) => 500,
        }
    }

    /// Name of the error, behind `stream.in.`.
    #[must_use]
    pub fn error(&self) -> Option<&'static str> {
        Some(match self {
            Self::Nothing | Self::Processed | Self::Accepted => return None,
            Self::Failed(SinkFailure::NoOpenSlice) => "noOpenedSliceFound",
            Self::Failed(SinkFailure::Append(BlockAppendError::Full(_))) => "insufficientStorage",
            Self::Failed(SinkFailure::Append(BlockAppendError::TooLarge(_))) => "payloadTooLarge",
            Self::Failed(SinkFailure::Append(BlockAppendError::Failed(_))) => "volumeFailed",
            Self::Failed(_) => "pipelineNotReady",
            Self::Unknown(_) => "outcomeUnknown",
        })
    }

    /// Text for people.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Nothing => "nothing to write".to_owned(),
            Self::Processed => "processed".to_owned(),
            Self::Accepted => "accepted".to_owned(),
            Self::Failed(failure) => failure.to_string(),
            Self::Unknown(cause) => format!(
                "Nobody knows whether this was stored: {cause}. It may appear in the table; sent again, it may appear twice."
            ),
        }
    }
}

impl From<AppendOutcome> for WriteOutcome {
    fn from(outcome: AppendOutcome) -> Self {
        match outcome {
            AppendOutcome::Stored => Self::Processed,
            AppendOutcome::Rejected(error) => Self::Failed(error.into()),
            AppendOutcome::Unknown(cause) => Self::Unknown(cause),
        }
    }
}

impl SinkResult {
    /// HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        let kept = self.kept.outcome.status();
        self.outcome.status().max(self.rejected.status()).max(kept)
    }

    /// Whether all is stored, or will be.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status() < 300
    }
}
