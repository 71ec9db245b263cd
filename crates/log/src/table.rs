//! The committed state in memory: streams with the ranges of their blocks, and segments.
//!
//! The writer changes it after a commit, under a short lock; readers look up blocks in it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::catalog::{Catalog, ControlBlock, SequenceRange};
use crate::env::EnvFile;
use crate::extent::{Extent, SegmentExtents};
use crate::index::IndexEntry;
pub(crate) use crate::stream::{BlockEntry, BlockRange, CommittedStream};

pub(crate) struct Segment {
    pub(crate) file: Arc<dyn EnvFile>,
    /// End of the blocks.
    pub(crate) end: u64,
    /// Length of the file.
    pub(crate) file_len: u64,
    pub(crate) sealed: bool,
    /// Bytes of blocks with records, including dead ones.
    pub(crate) data_bytes: u64,
    pub(crate) live_blocks: u64,
    pub(crate) live_bytes: u64,
}

/// The committed state of a volume.
#[derive(Default)]
pub(crate) struct VolumeTable {
    pub(crate) streams: HashMap<u64, CommittedStream>,
    pub(crate) names: HashMap<Arc<str>, u64>,
    pub(crate) segments: BTreeMap<u64, Segment>,
    pub(crate) next_stream: u64,
}

impl VolumeTable {
    pub(crate) fn from_catalog(catalog: Catalog) -> Self {
        let mut table = Self {
            next_stream: catalog.next_stream,
            ..Self::default()
        };
        for state in catalog.streams {
            table.insert(CommittedStream::new(state));
        }
        table
    }

    pub(crate) fn insert(&mut self, stream: CommittedStream) {
        let id = stream.state.stream;
        self.next_stream = self.next_stream.max(id.saturating_add(1));
        self.names.insert(stream.state.name.clone(), id);
        self.streams.insert(id, stream);
    }

    pub(crate) fn catalog(&self) -> Catalog {
        let mut streams: Vec<_> = self.streams.values().map(|s| s.state.clone()).collect();
        streams.sort_by_key(|state| state.stream);
        Catalog {
            next_stream: self.next_stream,
            segments: self.segments.keys().copied().collect(),
            streams,
        }
    }

    /// Bytes of blocks in all segments.
    pub(crate) fn used(&self) -> u64 {
        self.segments.values().map(|s| s.end).sum()
    }

    /// Applies a committed block.
    pub(crate) fn append(&mut self, index_entry: &IndexEntry, segment: u64) {
        let Some(stream) = self.streams.get_mut(&index_entry.stream) else {
            return;
        };
        let entry = BlockEntry::from_index_entry(index_entry, segment);
        debug_assert!(
            entry.first_seq >= stream.state.next_seq,
            "blocks of a stream are committed in their order"
        );
        stream.state.next_seq = stream.state.next_seq.max(entry.end_seq());
        stream.state.total_blocks += 1;
        stream.state.total_raw_bytes += u64::from(entry.raw_len);
        stream.state.total_stored_bytes += u64::from(entry.stored_len);
        if entry.end_seq() > stream.state.trimmed_to {
            stream.push(entry, None);
            occupy(&mut self.segments, segment, 1, entry.disk_len());
        }
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.data_bytes += entry.disk_len();
        }
    }

    /// Applies a relocated block: its copy replaces the original, if that is still live.
    pub(crate) fn relocate(&mut self, index_entry: &IndexEntry, from: u64, segment: u64) {
        let entry = BlockEntry::from_index_entry(index_entry, segment);
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.data_bytes += entry.disk_len();
        }
        let Some(stream) = self.streams.get_mut(&index_entry.stream) else {
            return;
        };
        let was_there = |block_range: &BlockRange| u64::from(block_range.segment) == from;
        if !stream
            .block_range_at(index_entry.first_seq)
            .is_some_and(was_there)
        {
            return;
        }
        let taken = stream.take(entry.range(), |e| e.first_seq == index_entry.first_seq);
        if taken.is_empty() {
            return;
        }
        stream.insert_entry(entry);
        for block_range in &taken {
            vacate(&mut self.segments, block_range);
        }
        occupy(&mut self.segments, segment, 1, entry.disk_len());
    }

    /// Applies a committed control block.
    pub(crate) fn apply(&mut self, control: &ControlBlock) {
        match control {
            ControlBlock::Declare { stream, name } => {
                if !self.streams.contains_key(stream) {
                    self.insert(CommittedStream::empty(*stream, name.clone()));
                }
            }
            ControlBlock::Trim {
                stream,
                up_to,
                lost_before,
            } => self.trim(*stream, *up_to, *lost_before),
            ControlBlock::Close { stream } => {
                if let Some(stream) = self.streams.get_mut(stream) {
                    stream.state.closed = true;
                }
            }
            ControlBlock::Delete { stream } => self.delete(*stream),
            ControlBlock::Lost { stream, range } => self.lose(*stream, *range),
            ControlBlock::Drop { segment } => {
                self.segments.remove(segment);
            }
        }
    }

    fn trim(&mut self, id: u64, up_to: u64, lost_before: u64) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if up_to <= stream.state.trimmed_to {
            return;
        }
        let lost_before = lost_before.max(stream.lost_below(up_to));
        stream.state.trimmed_to = up_to;
        stream.state.next_seq = stream.state.next_seq.max(up_to);
        stream.state.lost_before = stream.state.lost_before.max(lost_before);
        stream.state.lost.retain(|r| r.end > up_to);
        if let Some(first) = stream.state.lost.first_mut() {
            first.first = first.first.max(up_to);
        }
        let range = SequenceRange {
            first: 0,
            end: up_to,
        };
        for block_range in stream.take(range, |e| e.end_seq() <= up_to) {
            vacate(&mut self.segments, &block_range);
        }
    }

    fn delete(&mut self, id: u64) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        if self.names.get(&stream.state.name) == Some(&id) {
            self.names.remove(&stream.state.name);
        }
        for block_range in &stream.block_ranges {
            vacate(&mut self.segments, block_range);
        }
    }

    fn lose(&mut self, id: u64, range: SequenceRange) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let hit = |e: &BlockEntry| e.first_seq < range.end && range.first < e.end_seq();
        for block_range in stream.take(range, hit) {
            vacate(&mut self.segments, &block_range);
        }
        stream.state.next_seq = stream.state.next_seq.max(range.end);
        stream.add_lost(range);
    }

    /// Replaces an evicted range by its loaded entries.
    pub(crate) fn load_entries(
        &mut self,
        stream: u64,
        block_range: &BlockRange,
        entries: Vec<BlockEntry>,
    ) {
        let Some(stream) = self.streams.get_mut(&stream) else {
            return;
        };
        let found: u64 = entries.iter().map(BlockEntry::disk_len).sum();
        let blocks = entries.len() as u64;
        if let Some(before) = stream.load_entries(block_range, entries) {
            vacate(&mut self.segments, &before);
            occupy(
                &mut self.segments,
                u64::from(block_range.segment),
                blocks,
                found,
            );
        }
    }

    /// Evicts the entries of a stream that can be loaded again.
    pub(crate) fn evict_entries(&mut self, stream: u64) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream
                .block_ranges
                .iter_mut()
                .for_each(BlockRange::evict_entries);
        }
    }

    /// Evicts the entries of a segment that now has an index.
    pub(crate) fn evict_segment_entries(&mut self, segment: u64, extents: &SegmentExtents) {
        let mut of_stream: HashMap<u64, Vec<&Extent>> = HashMap::new();
        for extent in &extents.all {
            of_stream.entry(extent.stream).or_default().push(extent);
        }
        for (id, mut extents) in of_stream {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            extents.sort_by_key(|e| e.first_seq);
            let mut at = 0;
            while let Some(block_range) = stream.block_ranges.get_mut(at) {
                let here = u64::from(block_range.segment) == segment && !block_range.is_evicted();
                if here && !evict_into_extent(block_range, &extents) {
                    // The range spans several extents.
                    let parts = divide(block_range, &extents);
                    let n = parts.len();
                    stream.block_ranges.remove(at);
                    for (i, part) in parts.into_iter().enumerate() {
                        stream.block_ranges.insert(at + i, part);
                    }
                    at += n;
                } else {
                    at += 1;
                }
            }
        }
    }
}

/// The extent that holds a record, among those of one stream and segment, in order.
fn extent_of<'a>(extents: &[&'a Extent], seq: u64) -> Option<&'a Extent> {
    let after = extents.partition_point(|e| e.first_seq <= seq);
    let extent = extents.get(after.checked_sub(1)?)?;
    (seq < extent.end_seq).then_some(extent)
}

/// Evicts a range into its extent; `false` if it spans several.
fn evict_into_extent(block_range: &mut BlockRange, extents: &[&Extent]) -> bool {
    let extent = extent_of(extents, block_range.first_seq);
    let whole = extent.filter(|e| block_range.end_seq <= e.end_seq);
    if let Some(extent) = whole {
        block_range.index_range = Some(extent.index_range);
        block_range.evict_entries();
    }
    whole.is_some()
}

/// Splits a range at the borders of extents. Blocks outside of extents keep their entries.
fn divide(block_range: &mut BlockRange, extents: &[&Extent]) -> Vec<BlockRange> {
    let entries = block_range.entries.take().map(|entries| *entries);
    let mut parts: Vec<BlockRange> = Vec::new();
    let mut same: Vec<BlockEntry> = Vec::new();
    let mut index_range = None;
    for entry in entries.into_iter().flatten() {
        let next = extent_of(extents, entry.first_seq).map(|e| e.index_range);
        if next != index_range {
            parts.extend(BlockRange::split(same.drain(..), index_range));
            index_range = next;
        }
        same.push(entry);
    }
    parts.extend(BlockRange::split(same, index_range));
    parts.iter_mut().for_each(BlockRange::evict_entries);
    parts
}

/// Counts live blocks of a segment.
pub(crate) fn occupy(segments: &mut BTreeMap<u64, Segment>, segment: u64, blocks: u64, bytes: u64) {
    if let Some(segment) = segments.get_mut(&segment) {
        segment.live_blocks += blocks;
        segment.live_bytes += bytes;
    }
}

/// Uncounts blocks that are dead now.
fn vacate(segments: &mut BTreeMap<u64, Segment>, block_range: &BlockRange) {
    if let Some(segment) = segments.get_mut(&u64::from(block_range.segment)) {
        segment.live_blocks -= u64::from(block_range.blocks);
        segment.live_bytes -= block_range.disk_bytes;
    }
}
