//! Statistics of a stream, a volume and a segment, and the report of a recovery.

use std::time::Duration;

use crate::error::LatchedFailure;
use crate::stream::StreamId;
use crate::table::CommittedStream;

/// Statistics of a stream, exact even after a crash: they come from block headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStats {
    /// Id of the stream.
    pub id: StreamId,
    /// Name of the stream.
    pub name: String,
    /// Readable records.
    pub records: u64,
    /// Readable blocks.
    pub blocks: u64,
    /// Bytes of the readable blocks before encoding.
    pub raw_bytes: u64,
    /// Bytes of the readable blocks as stored, without headers.
    pub stored_bytes: u64,
    /// When the first readable record was received, in milliseconds since 1970.
    pub first_at_ms: Option<i64>,
    /// When the last readable record was received.
    pub last_at_ms: Option<i64>,
    /// Sequence of the first readable record; `next_seq` when there is none.
    pub first_seq: u64,
    /// Sequence of the next record: the number of records ever appended.
    pub next_seq: u64,
    /// Records below are trimmed.
    pub trimmed_to: u64,
    /// Whether the stream rejects appends.
    pub closed: bool,
    /// Appended records that can't be read, since the stream was declared.
    pub lost_records: u64,
    /// Blocks ever appended.
    pub total_blocks: u64,
    /// Bytes ever appended, before encoding.
    pub total_raw_bytes: u64,
    /// Bytes ever appended, as stored.
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

/// Histogram of sync durations. `counts[i]` counts those below `2^i` × 64 µs, the last bucket the
/// rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncStats {
    /// Successful syncs.
    pub count: u64,
    /// Total duration.
    pub total: Duration,
    /// Duration of the last sync.
    pub last: Duration,
    /// Number of syncs per bucket.
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
    pub fn upper_bound(bucket: usize) -> Duration {
        Duration::from_micros(64 << bucket.min(32))
    }
}

/// Appends rejected because the volume is full, since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RejectedAppends {
    /// Number of rejections.
    pub count: u64,
    /// Bytes that the last one needed.
    pub needed: u64,
}

/// Statistics of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeStats {
    /// Id of the volume.
    pub volume: u64,
    /// Number of streams.
    pub streams: usize,
    /// Number of segment files.
    pub segments: usize,
    /// Empty segment files that are kept ready.
    pub spare_segments: usize,
    /// Bytes of blocks in segments, including dead ones.
    pub used_bytes: u64,
    /// Bytes of readable blocks.
    pub live_bytes: u64,
    /// Bytes of all files, including preallocated space.
    pub file_bytes: u64,
    /// Bytes held by reservations.
    pub reserved_bytes: u64,
    /// Bytes that can still be appended.
    pub available_bytes: u64,
    /// Bytes that wait for the writer.
    pub queued_bytes: u64,
    /// Blocks committed since the log was opened.
    pub committed_blocks: u64,
    /// Bytes written since the log was opened.
    pub written_bytes: u64,
    /// Blocks relocated since the log was opened.
    pub relocated_blocks: u64,
    /// Segments removed or reused since the log was opened.
    pub reclaimed_segments: u64,
    /// Syncs of commits.
    pub syncs: SyncStats,
    /// Appends rejected because the volume is full.
    pub rejected: RejectedAppends,
    /// The failure after which the volume accepts nothing.
    pub latched: Option<LatchedFailure>,
}

/// Statistics of a segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentStats {
    /// Id of the segment.
    pub id: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// Bytes of blocks.
    pub used_bytes: u64,
    /// Bytes of readable blocks.
    pub live_bytes: u64,
    /// Number of readable blocks.
    pub live_blocks: u64,
    /// Whether the file ends with an index.
    pub sealed: bool,
}

/// A damaged region of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentDamage {
    /// Id of the segment.
    pub segment: u64,
    /// Offset of the damage in the file.
    pub offset: u64,
    /// Bytes until the next sound block.
    pub len: u64,
    /// The block at this offset, if the header or the index still describes it.
    pub block: Option<DamagedBlock>,
    /// Whether the region was certainly on disk once. If not, it may be an unacknowledged write
    /// that a crash cut short.
    pub acknowledged: bool,
}

/// A block of which only the header or the index entry is readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedBlock {
    /// Id of the stream.
    pub stream: StreamId,
    /// Name of the stream; empty if the stream doesn't exist any more, or the block had none.
    pub name: String,
    /// Sequence of the first record.
    pub first_seq: u64,
    /// Number of records.
    pub records: u64,
}

/// A range of a stream's records that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRange {
    /// Id of the stream.
    pub stream: StreamId,
    /// Name of the stream.
    pub name: String,
    /// Sequence of the first lost record.
    pub first_seq: u64,
    /// Number of lost records.
    pub records: u64,
}

/// Result of opening a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Number of segments found.
    pub segments: usize,
    /// Segments without an index, which were read as a whole.
    pub scanned: usize,
    /// Readable blocks.
    pub blocks: u64,
    /// Damaged regions.
    pub damage: Vec<SegmentDamage>,
    /// Lost records that were not recorded as lost before.
    pub lost: Vec<LostRange>,
    /// Segments that should exist and don't.
    pub missing_segments: Vec<u64>,
    /// Streams whose declaration was lost; they are named `unknown-<id>`.
    pub unnamed_streams: Vec<StreamId>,
    /// Segments of other volumes. They are neither read nor removed.
    pub foreign_segments: Vec<u64>,
    /// The file `volume` was damaged, missing beside segments, or of another volume than all of
    /// them; it was rewritten with the id of the segments.
    pub volume_file_damaged: bool,
}

impl RecoveryReport {
    /// Whether nothing was lost. An unacknowledged write that a crash cut short is no loss.
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty()
            && self.missing_segments.is_empty()
            && self.unnamed_streams.is_empty()
            && self.foreign_segments.is_empty()
            && !self.volume_file_damaged
            && self.damage.iter().all(|d| !d.acknowledged)
    }
}
