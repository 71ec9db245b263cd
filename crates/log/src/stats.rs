//! Figures: of a stream, of the volume, of a segment; and what an opening found.

use std::time::Duration;

use crate::error::LatchedFailure;
use crate::queue::StreamId;
use crate::table::CommittedStream;

/// Figures of a stream, exact also after a crash: they come from block headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStats {
    /// Its number.
    pub id: StreamId,
    /// Its name.
    pub name: String,
    /// Records that can be read.
    pub records: u64,
    /// Blocks that can be read.
    pub blocks: u64,
    /// Their bytes before encoding.
    pub raw_bytes: u64,
    /// Their bytes as stored, without headers.
    pub stored_bytes: u64,
    /// When the first readable record was received, in milliseconds since 1970.
    pub first_at_ms: Option<i64>,
    /// When the last readable record was received.
    pub last_at_ms: Option<i64>,
    /// Sequence of the first readable record; `next_seq` when there is none.
    pub first_seq: u64,
    /// Sequence that the next record gets: how many records the stream has ever taken.
    pub next_seq: u64,
    /// Records below were trimmed.
    pub trimmed_to: u64,
    /// Whether the stream takes no more.
    pub closed: bool,
    /// Records that were taken and can't be read, ever since the stream was declared.
    pub lost_records: u64,
    /// Blocks that the stream has ever taken.
    pub total_blocks: u64,
    /// Their bytes before encoding.
    pub total_raw_bytes: u64,
    /// Their bytes as stored.
    pub total_stored_bytes: u64,
}

impl StreamStats {
    pub(crate) fn from_stream(stream: &CommittedStream) -> Self {
        let state = &stream.state;
        let first = stream.block_ranges.front();
        Self {
            id: StreamId(state.stream),
            name: state.name.to_string(),
            records: stream.records,
            blocks: stream.blocks,
            raw_bytes: stream.raw_bytes,
            stored_bytes: stream.stored_bytes,
            first_at_ms: first.map(|e| e.first_at_ms),
            last_at_ms: stream.block_ranges.back().map(|e| e.last_at_ms),
            first_seq: first.map_or(state.next_seq, |e| e.first_seq),
            next_seq: state.next_seq,
            trimmed_to: state.trimmed_to,
            closed: state.closed,
            lost_records: stream.lost_records(),
            total_blocks: state.total_blocks,
            total_raw_bytes: state.total_raw_bytes,
            total_stored_bytes: state.total_stored_bytes,
        }
    }
}

/// How long syncs took. `counts[i]` are those of less than `2^i` × 64 µs, the last has the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncStats {
    /// Syncs that succeeded.
    pub count: u64,
    /// The time of all.
    pub total: Duration,
    /// The time of the last one.
    pub last: Duration,
    /// Numbers by duration, see above.
    pub counts: [u64; 16],
}

impl SyncStats {
    pub(crate) fn record(&mut self, took: Duration) {
        self.count += 1;
        self.total += took;
        self.last = took;
        let last = self.counts.len() - 1;
        let bucket = (0..last)
            .find(|&i| took < Self::upper_bound(i))
            .unwrap_or(last);
        self.counts[bucket] += 1;
    }

    /// The upper bound of a bucket; the last bucket has none.
    #[must_use]
    pub fn upper_bound(bucket: usize) -> Duration {
        Duration::from_micros(64 << bucket.min(32))
    }
}

/// What was refused because the volume is full, since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RejectedAppends {
    /// How often.
    pub count: u64,
    /// Bytes that the last one would have needed.
    pub needed: u64,
}

/// Figures of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeStats {
    /// The volume's id.
    pub volume: u64,
    /// Streams that exist.
    pub streams: usize,
    /// Segment files.
    pub segments: usize,
    /// Empty segment files that are kept ready.
    pub spare_segments: usize,
    /// Bytes of blocks in segments, those that nobody needs any more included.
    pub used_bytes: u64,
    /// Bytes of blocks that can be read.
    pub live_bytes: u64,
    /// Bytes of all files, preallocated space included.
    pub file_bytes: u64,
    /// Bytes promised to reservations.
    pub reserved_bytes: u64,
    /// Bytes that can still be appended.
    pub available_bytes: u64,
    /// Bytes waiting for the writer.
    pub queued_bytes: u64,
    /// Blocks committed since the log was opened.
    pub committed_blocks: u64,
    /// Bytes written since the log was opened.
    pub written_bytes: u64,
    /// Blocks copied forward since the log was opened.
    pub relocated_blocks: u64,
    /// Segments removed or reused since the log was opened.
    pub reclaimed_segments: u64,
    /// Syncs of commits.
    pub syncs: SyncStats,
    /// What was refused because the volume is full.
    pub rejected: RejectedAppends,
    /// The failure after which nothing is taken.
    pub latched: Option<LatchedFailure>,
}

/// Figures of a segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentStats {
    /// Its number.
    pub id: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of blocks.
    pub used_bytes: u64,
    /// Bytes of blocks that can be read.
    pub live_bytes: u64,
    /// Blocks that can be read.
    pub live_blocks: u64,
    /// Whether it has an index at its end.
    pub sealed: bool,
}

/// Damage: a place in a segment where a block should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentDamage {
    /// The segment's number.
    pub segment: u64,
    /// Where the damage begins in its file.
    pub offset: u64,
    /// Bytes until the next sound block.
    pub len: u64,
    /// What stood there, if the header or the index still tells.
    pub block: Option<DamagedBlock>,
    /// Whether it was surely on disk once. If not, it may be a write that a crash cut short, and
    /// that was never acknowledged.
    pub acknowledged: bool,
}

/// A block of which only the header or the line in the index is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedBlock {
    /// The stream.
    pub stream: StreamId,
    /// Its name; empty if it doesn't exist any more, or the block was not of a stream.
    pub name: String,
    /// Sequence of the first record.
    pub first_seq: u64,
    /// How many records.
    pub records: u64,
}

/// A run of a stream's records that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRange {
    /// The stream.
    pub stream: StreamId,
    /// Its name.
    pub name: String,
    /// Sequence of the first lost record.
    pub first_seq: u64,
    /// How many records.
    pub records: u64,
}

/// What an opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments found.
    pub segments: usize,
    /// Segments that had to be read as a whole, because they had no index.
    pub scanned: usize,
    /// Blocks that can be read.
    pub blocks: u64,
    /// Places where the disk does not give back what was written.
    pub damage: Vec<SegmentDamage>,
    /// Runs of records that are lost and were not known to be lost before.
    pub lost: Vec<LostRange>,
    /// Segments that should be there and are not.
    pub missing_segments: Vec<u64>,
    /// Streams whose declaration was lost; they go by the name `unknown-<id>`.
    pub unnamed_streams: Vec<StreamId>,
    /// Segments of other volumes. They are neither read nor removed.
    pub foreign_segments: Vec<u64>,
    /// The file `volume` was damaged, missing beside segments, or of another volume than all of them;
    /// it was written anew, with the id that the segments have.
    pub volume_file_damaged: bool,
}

impl RecoveryReport {
    /// Whether nothing was lost. A write that a crash cut short before it was acknowledged is not
    /// a loss.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty()
            && self.missing_segments.is_empty()
            && self.unnamed_streams.is_empty()
            && self.foreign_segments.is_empty()
            && !self.volume_file_damaged
            && self.damage.iter().all(|d| !d.acknowledged)
    }
}
