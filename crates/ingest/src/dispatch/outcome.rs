//! Outcomes of a request's records, per sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use forebay_record::{RecordContext, RecordError};

use crate::pipeline::{AppendOutcome, BlockAppendError};

/// Rejected records per sink that keep their cause; the others are only counted.
pub const REJECTIONS_MAX: usize = 100;

/// Result of a request at one sink.
#[derive(Debug)]
pub struct SinkResult {
    /// Outcome of the rows that the sink's mapping rendered.
    pub outcome: WriteOutcome,
    /// Number of rows.
    pub rows: u32,
    /// Records that the mapping rejected and that are not kept.
    pub rejected: RejectedRecords,
    /// Records that the mapping rejected and that are kept as dead letters; empty for most sinks.
    pub kept: KeptRecords,
}

/// Records that the mapping rejected and that were appended to the dead letters.
#[derive(Debug)]
pub struct KeptRecords {
    pub records: RejectedRecords,
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

#[derive(Debug, Default)]
pub struct RejectedRecords {
    /// Indices of all of them, ascending.
    pub indices: Vec<usize>,
    /// The first of them, at most [`REJECTIONS_MAX`].
    pub first: Vec<RecordRejection>,
}

#[derive(Clone, Debug)]
pub struct RecordRejection {
    /// Index in the batch, from 0.
    pub index: usize,
    /// Line, from 1, if the batch has lines.
    pub line: Option<usize>,
    /// Byte of that line at which it starts.
    pub byte: usize,
    pub error: RecordError,
}

impl RejectedRecords {
    pub fn push(&mut self, rejection: RecordRejection) {
        self.indices.push(rejection.index);
        if self.first.len() < REJECTIONS_MAX {
            self.first.push(rejection);
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.indices.extend(other.indices);
        self.indices.sort_unstable();
        self.first.extend(other.first);
        self.first.sort_by_key(|r| r.index);
        self.first.truncate(REJECTIONS_MAX);
    }

    pub fn count(&self) -> usize {
        self.indices.len()
    }

    /// Highest status of the rejections whose cause is kept.
    pub fn status(&self) -> u16 {
        let all = self.first.iter().map(|r| r.error.kind.status());
        all.max().unwrap_or(200)
    }
}

/// Malformed records of a batch, which no sink gets.
#[derive(Debug, Default)]
pub struct BrokenRecords {
    /// Indices of all of them, ascending.
    pub indices: Vec<usize>,
    /// The first of them, at most [`REJECTIONS_MAX`].
    pub first: Vec<BrokenRecord>,
}

/// A malformed record of a batch.
#[derive(Debug)]
pub struct BrokenRecord {
    /// Index in the batch, from 0.
    pub index: usize,
    /// Line, from 1, if the batch has lines.
    pub line: Option<usize>,
    /// Byte of that line at which it starts.
    pub byte: usize,
    pub message: String,
}

impl BrokenRecords {
    /// Checks a record; if it is malformed, adds it and returns `false`.
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

    /// Whether record number `index` is malformed.
    pub fn contains(&self, index: usize) -> bool {
        !self.indices.is_empty() && self.indices.binary_search(&index).is_ok()
    }
}

/// Whether anything of a request may be stored.
#[derive(Debug, Default)]
pub struct RequestProgress(AtomicBool);

impl RequestProgress {
    /// The first rows are being appended.
    pub(super) fn begin(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether rows are being appended. Until then, nothing of the request is stored, or will be.
    pub(crate) fn has_begun(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Outcome of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// There were no rows.
    Nothing,
    /// The rows are stored.
    Processed,
    /// The rows will be stored; by the sink's settings, the response does not wait for it.
    Accepted,
    /// The rows are not stored.
    Failed(SinkFailure),
    /// The rows may be stored or not.
    Unknown(Arc<str>),
}

/// Reason for not storing the rows of a sink.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkFailure {
    /// The sink has no open slice.
    #[error("No opened slice found.")]
    NoOpenSlice,
    /// The log rejected the rows.
    #[error("Not stored: {0}.")]
    Append(#[from] BlockAppendError),
}

impl WriteOutcome {
    pub fn status(&self) -> u16 {
        match self {
            Self::Nothing | Self::Processed => 200,
            Self::Accepted => 202,
            Self::Failed(SinkFailure::Append(BlockAppendError::TooLarge(_))) => 413,
            Self::Failed(_) => 503,
            Self::Unknown(_) => 500,
        }
    }

    /// Whether the disk, or the share of it that the sink may use, is full.
    pub(crate) fn is_full(&self) -> bool {
        let Self::Failed(SinkFailure::Append(error)) = self else {
            return false;
        };
        matches!(error, BlockAppendError::Full(_))
    }

    /// Error name, without the prefix `stream.in.`.
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

    /// Message for clients.
    pub fn message(&self) -> String {
        match self {
            Self::Nothing => "nothing to write".to_owned(),
            Self::Processed => "processed".to_owned(),
            Self::Accepted => "accepted".to_owned(),
            Self::Failed(failure) => failure.to_string(),
            Self::Unknown(cause) => format!(
                "It is unknown whether this was stored: {cause}. It may appear in the table; sent again, it may appear twice."
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
    pub fn status(&self) -> u16 {
        let kept = self.kept.outcome.status();
        self.outcome.status().max(self.rejected.status()).max(kept)
    }

    /// Whether rows are not stored because the disk is full.
    pub(crate) fn is_full(&self) -> bool {
        self.outcome.is_full() || self.kept.outcome.is_full()
    }

    /// Whether all rows are stored, or will be.
    pub fn is_success(&self) -> bool {
        self.status() < 300
    }
}
