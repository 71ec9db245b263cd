//! Replay: builds the table from scanned segments.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::sync::Arc;

use crate::block::{BlockKind, HEADER_LEN};
use crate::catalog::{Catalog, ControlBlock};
use crate::env::{EnvFile, read_full};
use crate::index::IndexEntry;
use crate::io_failure::is_scarce;
use crate::locate::{LocatedBlocks, locate};
use crate::merge_block_ranges::merge_block_ranges;
use crate::scan::SegmentScan;
use crate::stats::{DamagedBlock, LostRange, RecoveryReport, SegmentDamage};
use crate::stream::StreamId;
use crate::table::{BlockEntry, BlockRange, CommittedStream, Segment, VolumeTable, occupy};

pub(crate) struct ScannedSegment {
    pub(crate) file: Arc<dyn EnvFile>,
    pub(crate) scan: SegmentScan,
}

/// Result of a recovery.
pub(crate) struct RecoveredVolume {
    pub(crate) table: VolumeTable,
    pub(crate) report: RecoveryReport,
    /// Segments without an index, which `open` seals.
    pub(crate) unsealed: BTreeMap<u64, ScannedSegment>,
    /// Segments whose removal is recorded, or that are empty.
    pub(crate) garbage: Vec<u64>,
    pub(crate) spare_segments: Vec<u64>,
    pub(crate) last_segment: u64,
    /// Id of the volume, if the directory has one.
    pub(crate) volume: Option<u64>,
}

/// Reads a block's payload; `None` if it is unreadable or doesn't match its checksum.
///
/// # Errors
/// When a resource is scarce: that proves nothing about the disk.
pub(super) fn payload(file: &dyn EnvFile, index_entry: &IndexEntry) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; index_entry.stored_len as usize];
    let at = u64::from(index_entry.offset) + HEADER_LEN as u64;
    let n = match read_full(file, &mut bytes, at) {
        Err(e) if is_scarce(&e) => return Err(e),
        read => read.unwrap_or(0),
    };
    let sound = n == bytes.len() && crc32c::crc32c(&bytes) == index_entry.payload_crc;
    Ok(sound.then_some(bytes))
}

/// Builds the table from scanned segments.
pub(super) struct SegmentReplay {
    segments: BTreeMap<u64, ScannedSegment>,
    table: VolumeTable,
    report: RecoveryReport,
    dropped: BTreeSet<u64>,
    deleted: HashSet<u64>,
}

impl SegmentReplay {
    pub(super) fn new(segments: BTreeMap<u64, ScannedSegment>) -> Self {
        Self {
            segments,
            table: VolumeTable::default(),
            report: RecoveryReport::default(),
            dropped: BTreeSet::new(),
            deleted: HashSet::new(),
        }
    }

    pub(super) fn run(mut self, newest: Option<(u64, Catalog)>) -> io::Result<RecoveredVolume> {
        self.report.segments = self.segments.len();
        self.report.scanned = self.segments.values().filter(|r| !r.scan.sealed).count();
        // Without a catalog, replay starts at the first segment.
        let from = newest.as_ref().map_or(0, |(id, _)| *id);
        let listed: Option<BTreeSet<u64>> = newest
            .as_ref()
            .map(|(_, c)| c.segments.iter().copied().collect());
        if let Some((_, catalog)) = newest {
            self.table = VolumeTable::from_catalog(catalog);
        }
        let last = self.segments.keys().next_back().copied().unwrap_or(0);
        for id in self
            .segments
            .range(from..)
            .map(|(id, _)| *id)
            .collect::<Vec<_>>()
        {
            self.replay(id)?;
        }
        let garbage = self.garbage(from, listed.as_ref());
        self.report_missing(listed.as_ref());
        for id in &garbage {
            self.dropped.insert(*id);
        }
        self.report_damage(last);
        self.collect_blocks()?;
        Ok(self.finish(garbage, last))
    }

    /// Replays a segment behind the newest catalog.
    fn replay(&mut self, id: u64) -> io::Result<()> {
        let Some(read) = self.segments.get(&id) else {
            return Ok(());
        };
        let file = read.file.clone();
        for index_entry in read.scan.index_entries.clone() {
            match index_entry.kind {
                BlockKind::Data | BlockKind::Relocated => self.replay_block(&index_entry),
                BlockKind::Control => {
                    let bytes = match index_entry.damaged {
                        true => None,
                        false => payload(&*file, &index_entry)?,
                    };
                    if let Some(control) = bytes.and_then(|b| ControlBlock::decode(&b)) {
                        self.replay_control(&control);
                    }
                }
                BlockKind::Catalog => {}
            }
        }
        Ok(())
    }

    fn replay_control(&mut self, control: &ControlBlock) {
        match control {
            ControlBlock::Delete { stream } => {
                self.deleted.insert(*stream);
            }
            ControlBlock::Drop { segment } => {
                self.dropped.insert(*segment);
            }
            _ => {}
        }
        self.table.apply(control);
    }

    fn replay_block(&mut self, index_entry: &IndexEntry) {
        if self.deleted.contains(&index_entry.stream) {
            return;
        }
        if !self.table.streams.contains_key(&index_entry.stream) {
            let name = Arc::from(format!("unknown-{}", index_entry.stream));
            self.table
                .insert(CommittedStream::empty(index_entry.stream, name));
            self.report
                .unnamed_streams
                .push(StreamId(index_entry.stream));
        }
        let Some(stream) = self.table.streams.get_mut(&index_entry.stream) else {
            return;
        };
        stream.state.next_seq = stream.state.next_seq.max(index_entry.end_seq());
        if index_entry.kind == BlockKind::Data {
            stream.state.total_blocks += 1;
            stream.state.total_raw_bytes += u64::from(index_entry.raw_len);
            stream.state.total_stored_bytes += u64::from(index_entry.stored_len);
        }
    }

    /// Segments that the newest catalog does not list, that were removed after it, or that are
    /// empty.
    fn garbage(&self, from: u64, listed: Option<&BTreeSet<u64>>) -> Vec<u64> {
        let given_up = |id: &u64, read: &ScannedSegment| {
            let unlisted = *id < from && listed.is_some_and(|l| !l.contains(id));
            unlisted || read.scan.blank || self.dropped.contains(id)
        };
        self.segments
            .iter()
            .filter(|(id, read)| given_up(id, read))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Segments that the newest catalog lists and that neither exist nor were removed since. One
    /// newer than the catalog is not reported: it may never have held a block.
    fn report_missing(&mut self, listed: Option<&BTreeSet<u64>>) {
        let is_missing = |id: &u64| !self.segments.contains_key(id) && !self.dropped.contains(id);
        let missing = listed.into_iter().flatten().copied().filter(is_missing);
        self.report.missing_segments = missing.collect();
    }

    fn report_damage(&mut self, last: u64) {
        let mut found = Vec::new();
        for (&id, read) in &self.segments {
            if self.dropped.contains(&id) {
                continue;
            }
            for region in &read.scan.damaged_regions {
                let acknowledged = id < last || region.offset < read.scan.synced_to;
                let block = region
                    .header
                    .as_ref()
                    .map(|h| IndexEntry::from_header(h, true));
                found.push((id, region.offset, region.len, block, acknowledged));
            }
            for index_entry in read
                .scan
                .index_entries
                .iter()
                .filter(|l| l.damaged && read.scan.sealed)
            {
                let len = crate::block::block_len(index_entry.stored_len as usize);
                found.push((
                    id,
                    u64::from(index_entry.offset),
                    len,
                    Some(*index_entry),
                    true,
                ));
            }
        }
        for (segment, offset, len, index_entry, acknowledged) in found {
            let block = index_entry.map(|line| self.damaged_block(&line));
            let damage = SegmentDamage {
                segment,
                offset,
                len,
                block,
                acknowledged,
            };
            self.report.damage.push(damage);
        }
    }

    fn damaged_block(&self, index_entry: &IndexEntry) -> DamagedBlock {
        let stream = self
            .table
            .streams
            .get(&index_entry.stream)
            .filter(|_| index_entry.kind.has_records());
        DamagedBlock {
            stream: StreamId(index_entry.stream),
            name: stream.map_or_else(String::new, |s| s.state.name.to_string()),
            first_seq: index_entry.first_seq,
            records: u64::from(index_entry.records),
        }
    }

    /// Assigns the readable blocks to the streams, and reports the gaps between them.
    fn collect_blocks(&mut self) -> io::Result<()> {
        let mut block_ranges: BTreeMap<u64, Vec<BlockRange>> = BTreeMap::new();
        for (&id, read) in &self.segments {
            if self.dropped.contains(&id) {
                continue;
            }
            for extent in &read.scan.extents.all {
                let wanted = |s: &CommittedStream| extent.end_seq > s.state.trimmed_to;
                if self.table.streams.get(&extent.stream).is_some_and(wanted) {
                    let mut block_range = BlockRange::from_extent(extent, id);
                    if !read.scan.sealed {
                        // The segment has no index.
                        block_range.index_range = None;
                    }
                    block_ranges
                        .entry(extent.stream)
                        .or_default()
                        .push(block_range);
                }
            }
        }
        for stream in self.table.streams.values_mut() {
            let id = stream.state.stream;
            let found = block_ranges.remove(&id).unwrap_or_default();
            let segments = &self.segments;
            let lost = merge_block_ranges(stream, found, |block_range| {
                let read = segments.get(&u64::from(block_range.segment));
                read.map_or_else(|| Ok(Vec::new()), |read| read.entries(id, block_range))
            })?;
            let id = StreamId(stream.state.stream);
            self.report.lost.extend(lost.into_iter().map(|r| LostRange {
                stream: id,
                name: stream.state.name.to_string(),
                first_seq: r.first,
                records: r.len(),
            }));
            self.report.blocks += stream.blocks;
        }
        self.report.lost.sort_by_key(|l| (l.stream, l.first_seq));
        Ok(())
    }

    fn finish(mut self, garbage: Vec<u64>, last: u64) -> RecoveredVolume {
        let mut unsealed = BTreeMap::new();
        for (id, read) in self.segments {
            if self.dropped.contains(&id) {
                continue;
            }
            let segment = Segment {
                file: read.file.clone(),
                end: read.scan.end,
                file_len: read.scan.file_len,
                sealed: read.scan.sealed,
                data_bytes: read.scan.extents.data_bytes,
                live_blocks: 0,
                live_bytes: 0,
            };
            self.table.segments.insert(id, segment);
            if !read.scan.sealed {
                unsealed.insert(id, read);
            }
        }
        for stream in self.table.streams.values() {
            for block_range in &stream.block_ranges {
                let (segment, blocks) = (
                    u64::from(block_range.segment),
                    u64::from(block_range.blocks),
                );
                occupy(
                    &mut self.table.segments,
                    segment,
                    blocks,
                    block_range.disk_bytes,
                );
            }
        }
        RecoveredVolume {
            table: self.table,
            report: self.report,
            unsealed,
            garbage,
            spare_segments: Vec::new(),
            last_segment: last,
            volume: None,
        }
    }
}

impl ScannedSegment {
    /// The entries of a range's blocks.
    fn entries(&self, stream: u64, block_range: &BlockRange) -> io::Result<Vec<BlockEntry>> {
        if self.scan.index_entries.is_empty() || self.scan.sealed {
            return Ok(
                locate(&*self.file, self.scan.end, stream, block_range)?.into_entries(block_range)
            );
        }
        let id = u64::from(block_range.segment);
        let index_entries = self.scan.index_entries.iter();
        let ours = index_entries.filter(|l| l.stream == stream && l.is_readable());
        let entries = ours
            .map(|index_entry| BlockEntry::from_index_entry(index_entry, id))
            .collect();
        Ok(LocatedBlocks::ByBlocks(entries).into_entries(block_range))
    }
}
