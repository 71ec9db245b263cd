//! A record on its way through a job.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use forebay_connect::cache::RowHash;
use forebay_connect::keyed::RowBuffer;

use crate::source::files::chunk_buffers::ChunkBuffers;

/// A record.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) position: RecordPosition,
    pub(crate) origin: RecordOrigin,
    /// One JSON value.
    pub(crate) body: Bytes,
}

/// What a source knows a record by, to note that it is settled: of an API its number in the inbox,
/// of files that of its part, of a replay that of its dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordPosition(pub(crate) u64);

/// Records on their way between two stages.
#[derive(Clone, Debug)]
pub(crate) enum StageBatch {
    /// Each for itself.
    Records(Vec<Record>),
    /// The good lines of a part of a file, that are rows already.
    Lines(Arc<PartLines>),
}

/// The good lines of a part of a file. Its records are made only where someone has to see one.
#[derive(Debug)]
pub(crate) struct PartLines {
    pub(crate) position: RecordPosition,
    pub(crate) file: Arc<str>,
    /// Lines of the file before the part.
    pub(crate) before: u64,
    /// The part.
    pub(crate) bytes: Bytes,
    /// Of each row, in their order.
    pub(crate) lines: Vec<LineRange>,
    pub(crate) table: TypedRows,
    /// Where the part's memory goes.
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
    /// In the part, from 0.
    pub(crate) number: u64,
    /// Of the values of its line, from 0.
    pub(crate) value: u32,
    /// Where it is in the part.
    pub(crate) range: Range<usize>,
}

/// Records as rows of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct TypedRows {
    pub(crate) rows: Arc<RowBuffer>,
    /// Of each row the hashes of its key and of all of it, where a cache asks for them.
    pub(crate) hashes: Vec<(RowHash, RowHash)>,
}

impl StageBatch {
    /// Its records.
    pub(crate) fn into_records(self) -> Vec<Record> {
        match self {
            Self::Records(records) => records,
            Self::Lines(lines) => (0..lines.lines.len())
                .filter_map(|place| lines.record(place))
                .collect(),
        }
    }
}

impl PartLines {
    /// The record of a row.
    pub(crate) fn record(&self, place: usize) -> Option<Record> {
        let line = self.lines.get(place)?;
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

/// Where a record comes from, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordOrigin {
    /// The number of a record of an API, from 1.
    Api(u64),
    /// A line of a file, from 1, and which of the values in it, from 0.
    Line(Arc<str>, u64, u32),
    /// As it was noted with a dead letter.
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

/// Where a record failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStage {
    /// It is not JSON, or no row of the table.
    Parse,
    /// The processing API.
    Processing,
    /// The destination.
    Storage,
}

impl JobStage {
    /// Its name in dead letters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Processing => "processing",
            Self::Storage => "storage",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Parse, Self::Processing, Self::Storage]
            .into_iter()
            .find(|s| s.name() == name)
    }
}

/// A record that was given up, with what a person needs to mend it.
#[derive(Clone, Debug)]
pub(crate) struct DeadRecord {
    pub(crate) position: RecordPosition,
    pub(crate) origin: RecordOrigin,
    pub(crate) stage: JobStage,
    /// What the failed stage was given: a replay begins there.
    pub(crate) body: Bytes,
    /// Method and address of the last request, or the table.
    pub(crate) request: String,
    /// Of the last answer.
    pub(crate) status: Option<u16>,
    pub(crate) error: String,
    pub(crate) attempts: u32,
}

/// What has become of records.
#[derive(Debug, Default)]
pub(crate) struct RecordOutcomes {
    /// So many of each position are where they should be.
    pub(crate) delivered: Vec<(RecordPosition, usize)>,
    pub(crate) dead: Vec<DeadRecord>,
}
