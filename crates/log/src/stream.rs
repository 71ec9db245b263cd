//! The committed state of a stream, with the ranges of its blocks.
//!
//! Blocks of sealed segments are kept as ranges of up to a thousand; their entries are in the index
//! of the segment and are loaded on demand. Only blocks of the open segment, and of segments
//! without an index, have their entries in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::block::block_len;
use crate::catalog::{SequenceRange, StreamState};
use crate::extent::{Extent, IndexRange, MAX_BLOCKS};
use crate::index::IndexEntry;

/// A stream's number within its volume. Numbers are not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub(crate) u64);

impl StreamId {
    /// Creates an id from a printed or stored number.
    pub fn from_raw(id: u64) -> Self {
        Self(id)
    }

    /// The number of the stream.
    pub(crate) fn as_raw(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The location of a readable block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockEntry {
    pub(crate) first_seq: u64,
    pub(crate) first_at_ms: i64,
    pub(crate) last_at_ms: i64,
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) stored_len: u32,
    pub(crate) raw_len: u32,
    pub(crate) records: u32,
    pub(crate) codec: u8,
}

impl BlockEntry {
    pub(crate) fn from_index_entry(index_entry: &IndexEntry, segment: u64) -> Self {
        Self {
            first_seq: index_entry.first_seq,
            first_at_ms: index_entry.first_at_ms,
            last_at_ms: index_entry.last_at_ms,
            segment: number(segment),
            offset: index_entry.offset,
            stored_len: index_entry.stored_len,
            raw_len: index_entry.raw_len,
            records: index_entry.records,
            codec: index_entry.codec,
        }
    }

    pub(crate) fn end_seq(&self) -> u64 {
        self.first_seq.saturating_add(u64::from(self.records))
    }

    pub(crate) fn range(&self) -> SequenceRange {
        SequenceRange {
            first: self.first_seq,
            end: self.end_seq(),
        }
    }

    /// Bytes of the block in its segment.
    pub(crate) fn disk_len(&self) -> u64 {
        block_len(self.stored_len as usize)
    }
}

fn number(segment: u64) -> u32 {
    u32::try_from(segment).expect("segment ids are below 2^32, checked at rotation")
}

/// Consecutive blocks of a stream in one segment.
///
/// Either `entries` holds all of them, or `index_range` locates them in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockRange {
    pub(crate) first_seq: u64,
    pub(crate) end_seq: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) first_at_ms: i64,
    pub(crate) last_at_ms: i64,
    pub(crate) segment: u32,
    pub(crate) blocks: u32,
    /// Index entries that include the range's; some of them may be trimmed.
    pub(crate) index_range: Option<IndexRange>,
    #[allow(
        clippy::box_collection,
        reason = "most ranges have none, and there are very many ranges"
    )]
    pub(crate) entries: Option<Box<VecDeque<BlockEntry>>>,
}

impl BlockRange {
    pub(crate) fn from_extent(extent: &Extent, segment: u64) -> Self {
        Self {
            first_seq: extent.first_seq,
            end_seq: extent.end_seq,
            raw_bytes: extent.raw_bytes,
            stored_bytes: extent.stored_bytes,
            disk_bytes: extent.disk_bytes,
            first_at_ms: extent.first_at_ms,
            last_at_ms: extent.last_at_ms,
            segment: number(segment),
            blocks: extent.blocks,
            index_range: Some(extent.index_range),
            entries: None,
        }
    }

    fn from_entry(entry: BlockEntry, index_range: Option<IndexRange>) -> Self {
        Self {
            first_seq: entry.first_seq,
            end_seq: entry.end_seq(),
            raw_bytes: u64::from(entry.raw_len),
            stored_bytes: u64::from(entry.stored_len),
            disk_bytes: entry.disk_len(),
            first_at_ms: entry.first_at_ms,
            last_at_ms: entry.last_at_ms,
            segment: entry.segment,
            blocks: 1,
            index_range,
            entries: Some(Box::new(VecDeque::from([entry]))),
        }
    }

    /// Adds the next block, if it continues the range.
    fn extend(&mut self, entry: BlockEntry, index_range: Option<IndexRange>) -> bool {
        let Some(entries) = &mut self.entries else {
            return false;
        };
        let follows = entries
            .back()
            .is_some_and(|last| last.offset < entry.offset)
            && self.segment == entry.segment
            && self.end_seq == entry.first_seq
            && self.blocks < MAX_BLOCKS
            && self.index_range == index_range;
        if follows {
            self.end_seq = entry.end_seq();
            self.raw_bytes += u64::from(entry.raw_len);
            self.stored_bytes += u64::from(entry.stored_len);
            self.disk_bytes += entry.disk_len();
            self.last_at_ms = entry.last_at_ms;
            self.blocks += 1;
            entries.push_back(entry);
        }
        follows
    }

    /// Groups entries into ranges, which share one index range.
    pub(crate) fn split(
        entries: impl IntoIterator<Item = BlockEntry>,
        index_range: Option<IndexRange>,
    ) -> Vec<Self> {
        let mut block_ranges: Vec<Self> = Vec::new();
        for entry in entries {
            let joined = block_ranges
                .last_mut()
                .is_some_and(|block_range| block_range.extend(entry, index_range));
            if !joined {
                block_ranges.push(Self::from_entry(entry, index_range));
            }
        }
        block_ranges
    }

    pub(crate) fn range(&self) -> SequenceRange {
        SequenceRange {
            first: self.first_seq,
            end: self.end_seq,
        }
    }

    /// Whether the range is completely within `range`.
    pub(crate) fn within(&self, range: &SequenceRange) -> bool {
        range.first <= self.first_seq && self.end_seq <= range.end
    }

    pub(crate) fn overlaps(&self, range: &SequenceRange) -> bool {
        self.first_seq < range.end && range.first < self.end_seq
    }

    /// Whether the entries must be loaded before use.
    pub(crate) fn is_evicted(&self) -> bool {
        self.entries.is_none()
    }

    /// Drops the entries, if they can be loaded again.
    pub(crate) fn evict_entries(&mut self) {
        if self.index_range.is_some() {
            self.entries = None;
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct CommittedStream {
    pub(crate) state: StreamState,
    /// Ranges of readable blocks, by sequence.
    pub(crate) block_ranges: VecDeque<BlockRange>,
    /// Sums over `block_ranges`.
    pub(crate) records: u64,
    pub(crate) blocks: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) stored_bytes: u64,
}

impl CommittedStream {
    pub(crate) fn new(state: StreamState) -> Self {
        Self {
            state,
            block_ranges: VecDeque::new(),
            records: 0,
            blocks: 0,
            raw_bytes: 0,
            stored_bytes: 0,
        }
    }

    /// A stream with an id and a name only.
    pub(crate) fn empty(stream: u64, name: Arc<str>) -> Self {
        Self::new(StreamState {
            stream,
            name,
            next_seq: 0,
            trimmed_to: 0,
            closed: false,
            lost_before: 0,
            total_blocks: 0,
            total_raw_bytes: 0,
            total_stored_bytes: 0,
            lost: Vec::new(),
        })
    }

    /// Adds the next block; `index_range` locates it, if its segment has an index.
    pub(crate) fn push(&mut self, entry: BlockEntry, index_range: Option<IndexRange>) {
        self.records += u64::from(entry.records);
        self.blocks += 1;
        self.raw_bytes += u64::from(entry.raw_len);
        self.stored_bytes += u64::from(entry.stored_len);
        let last = self.block_ranges.back_mut();
        if !last.is_some_and(|block_range| block_range.extend(entry, index_range)) {
            self.block_ranges
                .push_back(BlockRange::from_entry(entry, index_range));
        }
    }

    /// Inserts a range, which must not overlap others.
    pub(crate) fn insert(&mut self, block_range: BlockRange) {
        self.records += block_range.range().len();
        self.blocks += u64::from(block_range.blocks);
        self.raw_bytes += block_range.raw_bytes;
        self.stored_bytes += block_range.stored_bytes;
        let at = self.position(block_range.first_seq);
        self.block_ranges.insert(at, block_range);
    }

    /// Inserts one block.
    pub(crate) fn insert_entry(&mut self, entry: BlockEntry) {
        let at = self.position(entry.first_seq);
        let before = at
            .checked_sub(1)
            .and_then(|at| self.block_ranges.get_mut(at));
        if before.is_some_and(|block_range| block_range.extend(entry, None)) {
            self.records += u64::from(entry.records);
            self.blocks += 1;
            self.raw_bytes += u64::from(entry.raw_len);
            self.stored_bytes += u64::from(entry.stored_len);
        } else {
            self.insert(BlockRange::from_entry(entry, None));
        }
    }

    fn take_at(&mut self, at: usize) -> Option<BlockRange> {
        let block_range = self.block_ranges.remove(at)?;
        self.records -= block_range.range().len();
        self.blocks -= u64::from(block_range.blocks);
        self.raw_bytes -= block_range.raw_bytes;
        self.stored_bytes -= block_range.stored_bytes;
        Some(block_range)
    }

    /// Index of the first range that ends after `seq`.
    pub(crate) fn position(&self, seq: u64) -> usize {
        self.block_ranges
            .partition_point(|block_range| block_range.end_seq <= seq)
    }

    /// The range that holds a record.
    pub(crate) fn block_range_at(&self, seq: u64) -> Option<&BlockRange> {
        let block_range = self.block_ranges.get(self.position(seq))?;
        (block_range.first_seq <= seq).then_some(block_range)
    }

    /// Removes what is in `range`: whole block ranges, and of the others the blocks for which
    /// `is_removed` holds. A range at the edge whose entries are evicted stays as it is.
    pub(crate) fn take(
        &mut self,
        range: SequenceRange,
        is_removed: impl Fn(&BlockEntry) -> bool,
    ) -> Vec<BlockRange> {
        let mut taken = Vec::new();
        let mut at = self.position(range.first);
        while self
            .block_ranges
            .get(at)
            .is_some_and(|block_range| block_range.overlaps(&range))
        {
            let Some(block_range) = self.block_ranges.get(at) else {
                break;
            };
            let whole = block_range.within(&range);
            if !whole && block_range.is_evicted() {
                at += 1;
                continue;
            }
            let Some(mut block_range) = self.take_at(at) else {
                break;
            };
            if whole {
                taken.push(block_range);
                continue;
            }
            let index_range = block_range.index_range;
            let entries = block_range.entries.take().map(|entries| *entries);
            let (out, remaining): (Vec<BlockEntry>, Vec<BlockEntry>) =
                entries.into_iter().flatten().partition(&is_removed);
            taken.extend(BlockRange::split(out, index_range));
            for remaining in BlockRange::split(remaining, index_range) {
                self.insert(remaining);
                at += 1;
            }
        }
        taken
    }

    /// Replaces a range by its loaded entries; returns the old one.
    pub(crate) fn load_entries(
        &mut self,
        block_range: &BlockRange,
        entries: Vec<BlockEntry>,
    ) -> Option<BlockRange> {
        let at = self.position(block_range.first_seq);
        if self.block_ranges.get(at) != Some(block_range) {
            return None;
        }
        let before = self.take_at(at);
        for block_range in BlockRange::split(entries, block_range.index_range) {
            self.insert(block_range);
        }
        before
    }

    /// Records lost for good, before and after the trim.
    pub(crate) fn lost_records(&self) -> u64 {
        self.state.lost_before + self.state.lost.iter().map(SequenceRange::len).sum::<u64>()
    }

    /// Number of lost records below `up_to`.
    pub(crate) fn lost_below(&self, up_to: u64) -> u64 {
        let below = |r: &SequenceRange| r.end.min(up_to).saturating_sub(r.first);
        self.state.lost_before + self.state.lost.iter().map(below).sum::<u64>()
    }

    /// Adds a lost range, merged with its neighbours.
    pub(crate) fn add_lost(&mut self, range: SequenceRange) {
        let range = SequenceRange {
            first: range.first.max(self.state.trimmed_to),
            end: range.end,
        };
        if range.len() == 0 {
            return;
        }
        self.state.lost.push(range);
        self.state.lost.sort_by_key(|r| r.first);
        let mut joined: Vec<SequenceRange> = Vec::with_capacity(self.state.lost.len());
        for &r in &self.state.lost {
            match joined.last_mut() {
                Some(last) if r.first <= last.end => last.end = last.end.max(r.end),
                _ => joined.push(r),
            }
        }
        self.state.lost = joined;
    }
}
