//! A record on its path through a job.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use forebay_connect::cache::RowHash;
use forebay_connect::keyed::RowBuffer;

use crate::source::files::chunk_buffers::ChunkBuffers;

#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) position: RecordPosition,
    pub(crate) origin: RecordOrigin,
    /// One JSON value.
    pub(crate) body: Bytes,
}

/// Identifies a record for its source's checkpoint: by the number in the inbox (API), of its part (files)
/// or of its dead letter (replay).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordPosition(pub(crate) u64);

/// Records between two stages.
#[derive(Clone, Debug)]
pub(crate) enum StageBatch {
    /// Single records.
    Records(Vec<Record>),
    /// The good lines of a part of a file, already converted to rows.
    Lines(Arc<PartLines>),
}

/// The good lines of a part of a file. Single records are built only on demand.
#[derive(Debug)]
pub(crate) struct PartLines {
    pub(crate) position: RecordPosition,
    pub(crate) file: Arc<str>,
    /// Lines of the file before the part.
    pub(crate) before: u64,
    /// Content of the part.
    pub(crate) bytes: Bytes,
    /// The line of each row, in order.
    pub(crate) lines: Vec<LineRange>,
    pub(crate) table: TypedRows,
    /// Pool that the part's memory returns to.
    pub(crate) buffers: ChunkBuffers,
}

impl Drop for PartLines {
    fn drop(&mut self) {
        self.buffers.release(std::mem::take(&mut self.bytes));
    }
}

/// A line of a part.
#[derive(Clone, Debug)]
pub(crate) struct LineRange {
    /// Line number in the part, from 0.
    pub(crate) number: u64,
    /// Index of the value in its line, from 0.
    pub(crate) value: u32,
    /// Byte range in the part.
    pub(crate) range: Range<usize>,
}

/// Records converted to rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct TypedRows {
    pub(crate) rows: Arc<RowBuffer>,
    /// Per row the hashes of its key and of the whole row, if a cache needs them.
    pub(crate) hashes: Vec<(RowHash, RowHash)>,
}

impl StageBatch {
    pub(crate) fn into_records(self) -> Vec<Record> {
        match self {
            Self::Records(records) => records,
            Self::Lines(lines) => (0..lines.lines.len())
                .filter_map(|index| lines.record(index))
                .collect(),
        }
    }
}

impl PartLines {
    /// The record of a row.
    pub(crate) fn record(&self, index: usize) -> Option<Record> {
        let line = self.lines.get(index)?;
        Some(Record {
            position: self.position,
            origin: RecordOrigin::Line(
                Arc::clone(&self.file),
                self.before + line.number + 1,
                line.value,
            ),
            body: self.bytes.slice(line.range.clone()),
        })
    }
}

/// Origin of a record, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordOrigin {
    /// Number of an API record, from 1.
    Api(u64),
    /// File, line number (from 1), and index of the value in the line (from 0).
    Line(Arc<str>, u64, u32),
    /// As stored with a dead letter.
    Recorded(Arc<str>),
}

impl fmt::Display for RecordOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(number) => write!(f, "record {number}"),
            Self::Line(file, line, 0) => write!(f, "{file}:{line}"),
            Self::Line(file, line, value) => write!(f, "{file}:{line}.{}", value + 1),
            Self::Recorded(text) => f.write_str(text),
        }
    }
}

/// The stage where a record failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStage {
    /// The record is not JSON, or not a valid row.
    Parse,
    /// The processing API.
    Processing,
    /// The destination.
    Storage,
}

impl JobStage {
    /// Name in dead letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Processing => "processing",
            Self::Storage => "storage",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Parse, Self::Processing, Self::Storage]
            .into_iter()
            .find(|s| s.name() == name)
    }
}

/// A record that failed for good, with the details to repair it.
#[derive(Clone, Debug)]
pub(crate) struct DeadRecord {
    pub(crate) position: RecordPosition,
    pub(crate) origin: RecordOrigin,
    pub(crate) stage: JobStage,
    /// Input of the failed stage, where a replay begins.
    pub(crate) body: Bytes,
    /// Method and URL of the last request, or the table.
    pub(crate) request: String,
    /// Status of the last response.
    pub(crate) status: Option<u16>,
    pub(crate) error: String,
    pub(crate) attempts: u32,
}

#[derive(Debug, Default)]
pub(crate) struct RecordOutcomes {
    /// Number of delivered records per position.
    pub(crate) delivered: Vec<(RecordPosition, usize)>,
    pub(crate) dead: Vec<DeadRecord>,
}
