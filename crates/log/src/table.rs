//! What is committed, in memory: the streams with the places of their blocks, and the segments.
//!
//! The writer changes it after a commit, under a short lock; readers look places up in it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::catalog::{Catalog, Control, Range};
use crate::env::File;
use crate::extent::{Extent, Extents};
use crate::index::Line;
pub(crate) use crate::stream::{Entry, Run, Stream};

/// A segment file.
pub(crate) struct Segment {
    pub(crate) file: Arc<dyn File>,
    /// Where its blocks end.
    pub(crate) end: u64,
    /// Bytes of the file.
    pub(crate) file_len: u64,
    pub(crate) sealed: bool,
    /// Bytes of records' blocks, those that nobody needs any more included.
    pub(crate) data_bytes: u64,
    pub(crate) live_blocks: u64,
    pub(crate) live_bytes: u64,
}

/// All of it.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) streams: HashMap<u64, Stream>,
    pub(crate) names: HashMap<Arc<str>, u64>,
    pub(crate) segments: BTreeMap<u64, Segment>,
    pub(crate) next_stream: u64,
}

impl Table {
    pub(crate) fn from_catalog(catalog: Catalog) -> Self {
        let mut table = Self {
            next_stream: catalog.next_stream,
            ..Self::default()
        };
        for line in catalog.streams {
            table.insert(Stream::new(line));
        }
        table
    }

    pub(crate) fn insert(&mut self, stream: Stream) {
        let id = stream.line.stream;
        self.next_stream = self.next_stream.max(id.saturating_add(1));
        self.names.insert(stream.line.name.clone(), id);
        self.streams.insert(id, stream);
    }

    pub(crate) fn catalog(&self) -> Catalog {
        let mut streams: Vec<_> = self.streams.values().map(|s| s.line.clone()).collect();
        streams.sort_by_key(|line| line.stream);
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

    /// A block was committed.
    pub(crate) fn append(&mut self, line: &Line, segment: u64) {
        let Some(stream) = self.streams.get_mut(&line.stream) else {
            return;
        };
        let entry = Entry::of(line, segment);
        stream.line.next_seq = stream.line.next_seq.max(entry.end_seq());
        stream.line.total_blocks += 1;
        stream.line.total_raw_bytes += u64::from(entry.raw_len);
        stream.line.total_stored_bytes += u64::from(entry.stored_len);
        if entry.end_seq() > stream.line.trimmed_to {
            stream.push(entry, None);
            occupy(&mut self.segments, segment, 1, entry.disk_len());
        }
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.data_bytes += entry.disk_len();
        }
    }

    /// A block was copied: from now on it is read from its new place, if anybody still needs it.
    pub(crate) fn relocate(&mut self, line: &Line, from: u64, segment: u64) {
        let entry = Entry::of(line, segment);
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.data_bytes += entry.disk_len();
        }
        let Some(stream) = self.streams.get_mut(&line.stream) else {
            return;
        };
        let was_there = |run: &Run| u64::from(run.segment) == from;
        if !stream.run_of(line.first_seq).is_some_and(was_there) {
            return;
        }
        let taken = stream.take(entry.range(), |e| e.first_seq == line.first_seq);
        if taken.is_empty() {
            return;
        }
        stream.insert_entry(entry);
        for run in &taken {
            vacate(&mut self.segments, run);
        }
        occupy(&mut self.segments, segment, 1, entry.disk_len());
    }

    /// A change was committed.
    pub(crate) fn apply(&mut self, control: &Control) {
        match control {
            Control::Declare { stream, name } => {
                if !self.streams.contains_key(stream) {
                    self.insert(Stream::empty(*stream, name.clone()));
                }
            }
            Control::Trim {
                stream,
                up_to,
                lost_before,
            } => self.trim(*stream, *up_to, *lost_before),
            Control::Close { stream } => {
                if let Some(stream) = self.streams.get_mut(stream) {
                    stream.line.closed = true;
                }
            }
            Control::Delete { stream } => self.delete(*stream),
            Control::Lost { stream, range } => self.lose(*stream, *range),
            Control::Drop { segment } => {
                self.segments.remove(segment);
            }
        }
    }

    fn trim(&mut self, id: u64, up_to: u64, lost_before: u64) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if up_to <= stream.line.trimmed_to {
            return;
        }
        let lost_before = lost_before.max(stream.lost_below(up_to));
        stream.line.trimmed_to = up_to;
        stream.line.next_seq = stream.line.next_seq.max(up_to);
        stream.line.lost_before = stream.line.lost_before.max(lost_before);
        stream.line.lost.retain(|r| r.end > up_to);
        if let Some(first) = stream.line.lost.first_mut() {
            first.first = first.first.max(up_to);
        }
        let range = Range {
            first: 0,
            end: up_to,
        };
        for run in stream.take(range, |e| e.end_seq() <= up_to) {
            vacate(&mut self.segments, &run);
        }
    }

    fn delete(&mut self, id: u64) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        if self.names.get(&stream.line.name) == Some(&id) {
            self.names.remove(&stream.line.name);
        }
        for run in &stream.runs {
            vacate(&mut self.segments, run);
        }
    }

    fn lose(&mut self, id: u64, range: Range) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let hit = |e: &Entry| e.first_seq < range.end && range.first < e.end_seq();
        for run in stream.take(range, hit) {
            vacate(&mut self.segments, &run);
        }
        stream.line.next_seq = stream.line.next_seq.max(range.end);
        stream.note_lost(range);
    }

    /// Puts the loaded entries of a run in its place.
    pub(crate) fn unfold(&mut self, stream: u64, run: &Run, entries: Vec<Entry>) {
        let Some(stream) = self.streams.get_mut(&stream) else {
            return;
        };
        let found: u64 = entries.iter().map(Entry::disk_len).sum();
        let blocks = entries.len() as u64;
        if let Some(before) = stream.unfold(run, entries) {
            vacate(&mut self.segments, &before);
            occupy(&mut self.segments, u64::from(run.segment), blocks, found);
        }
    }

    /// Forgets the entries of a stream's runs that can be loaded again.
    pub(crate) fn fold(&mut self, stream: u64) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.runs.iter_mut().for_each(Run::fold);
        }
    }

    /// A segment got its index: from now on the places of its blocks are found there.
    pub(crate) fn fold_segment(&mut self, segment: u64, extents: &Extents) {
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
            while let Some(run) = stream.runs.get_mut(at) {
                let here = u64::from(run.segment) == segment && !run.is_folded();
                if here && !fold_into(run, &extents) {
                    // It goes over the border of two extents.
                    let parts = divide(run, &extents);
                    let n = parts.len();
                    stream.runs.remove(at);
                    for (i, part) in parts.into_iter().enumerate() {
                        stream.runs.insert(at + i, part);
                    }
                    at += n;
                } else {
                    at += 1;
                }
            }
        }
    }
}

/// The extent that holds a record, of those of one stream and segment, in order.
fn extent_of<'a>(extents: &[&'a Extent], seq: u64) -> Option<&'a Extent> {
    let after = extents.partition_point(|e| e.first_seq <= seq);
    let extent = extents.get(after.checked_sub(1)?)?;
    (seq < extent.end_seq).then_some(extent)
}

/// Whether the run is of one extent; then its place is there.
fn fold_into(run: &mut Run, extents: &[&Extent]) -> bool {
    let extent = extent_of(extents, run.first_seq);
    let whole = extent.filter(|e| run.end_seq <= e.end_seq);
    if let Some(extent) = whole {
        run.place = Some(extent.place);
        run.fold();
    }
    whole.is_some()
}

/// The run cut where extents end. What is in none keeps its entries.
fn divide(run: &mut Run, extents: &[&Extent]) -> Vec<Run> {
    let entries = run.entries.take().map(|entries| *entries);
    let mut parts: Vec<Run> = Vec::new();
    let mut same: Vec<Entry> = Vec::new();
    let mut place = None;
    for entry in entries.into_iter().flatten() {
        let next = extent_of(extents, entry.first_seq).map(|e| e.place);
        if next != place {
            parts.extend(Run::split(same.drain(..), place));
            place = next;
        }
        same.push(entry);
    }
    parts.extend(Run::split(same, place));
    parts.iter_mut().for_each(Run::fold);
    parts
}

/// Blocks of this segment are needed.
pub(crate) fn occupy(segments: &mut BTreeMap<u64, Segment>, segment: u64, blocks: u64, bytes: u64) {
    if let Some(segment) = segments.get_mut(&segment) {
        segment.live_blocks += blocks;
        segment.live_bytes += bytes;
    }
}

/// They are not needed any more.
fn vacate(segments: &mut BTreeMap<u64, Segment>, run: &Run) {
    if let Some(segment) = segments.get_mut(&u64::from(run.segment)) {
        segment.live_blocks -= u64::from(run.blocks);
        segment.live_bytes -= run.disk_bytes;
    }
}
