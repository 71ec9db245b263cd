//! What is committed, in memory: the streams with the places of their blocks, and the segments.
//!
//! The writer changes it after a commit, under a short lock; readers look places up in it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::block::block_len;
use crate::catalog::{Catalog, Control, Range, StreamLine};
use crate::env::File;
use crate::index::Line;

/// The place of a block that can be read. Kept small: there is one for each block of the backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
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

impl Entry {
    pub(crate) fn of(line: &Line, segment: u64) -> Self {
        Self {
            first_seq: line.first_seq,
            first_at_ms: line.first_at_ms,
            last_at_ms: line.last_at_ms,
            segment: u32::try_from(segment)
                .expect("segment ids are below 2^32, checked at rotation"),
            offset: line.offset,
            stored_len: line.stored_len,
            raw_len: line.raw_len,
            records: line.records,
            codec: line.codec,
        }
    }

    pub(crate) fn end_seq(&self) -> u64 {
        self.first_seq.saturating_add(u64::from(self.records))
    }

    pub(crate) fn range(&self) -> Range {
        Range {
            first: self.first_seq,
            end: self.end_seq(),
        }
    }

    /// Bytes that it takes in its segment.
    pub(crate) fn disk_len(&self) -> u64 {
        block_len(self.stored_len as usize)
    }
}

/// A stream.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) line: StreamLine,
    /// Blocks that can be read, by sequence.
    pub(crate) blocks: VecDeque<Entry>,
    /// Sums over `blocks`.
    pub(crate) records: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) stored_bytes: u64,
}

impl Stream {
    pub(crate) fn new(line: StreamLine) -> Self {
        Self {
            line,
            blocks: VecDeque::new(),
            records: 0,
            raw_bytes: 0,
            stored_bytes: 0,
        }
    }

    /// A stream of which nothing is known but its id and name.
    pub(crate) fn empty(stream: u64, name: Arc<str>) -> Self {
        Self::new(StreamLine {
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

    pub(crate) fn push(&mut self, entry: Entry) {
        self.records += u64::from(entry.records);
        self.raw_bytes += u64::from(entry.raw_len);
        self.stored_bytes += u64::from(entry.stored_len);
        self.blocks.push_back(entry);
    }

    fn forget(&mut self, entry: &Entry) {
        self.records -= u64::from(entry.records);
        self.raw_bytes -= u64::from(entry.raw_len);
        self.stored_bytes -= u64::from(entry.stored_len);
    }

    /// Index of the first block that ends after `seq`.
    pub(crate) fn position(&self, seq: u64) -> usize {
        self.blocks.partition_point(|e| e.end_seq() <= seq)
    }

    /// Records lost for good, before and after the trim.
    pub(crate) fn lost_records(&self) -> u64 {
        self.line.lost_before + self.line.lost.iter().map(Range::len).sum::<u64>()
    }

    /// How many records below `up_to` were lost.
    pub(crate) fn lost_below(&self, up_to: u64) -> u64 {
        let below = |r: &Range| r.end.min(up_to).saturating_sub(r.first);
        self.line.lost_before + self.line.lost.iter().map(below).sum::<u64>()
    }

    /// Adds a lost run, joined with its neighbours.
    pub(crate) fn note_lost(&mut self, range: Range) {
        let range = Range {
            first: range.first.max(self.line.trimmed_to),
            end: range.end,
        };
        if range.len() == 0 {
            return;
        }
        self.line.lost.push(range);
        self.line.lost.sort_by_key(|r| r.first);
        let mut joined: Vec<Range> = Vec::with_capacity(self.line.lost.len());
        for &r in &self.line.lost {
            match joined.last_mut() {
                Some(last) if r.first <= last.end => last.end = last.end.max(r.end),
                _ => joined.push(r),
            }
        }
        self.line.lost = joined;
    }
}

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
            stream.push(entry);
            occupy(&mut self.segments, &entry);
        }
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.data_bytes += entry.disk_len();
        }
    }

    /// A block was copied: from now on it is read from its new place, if anybody still needs it.
    pub(crate) fn relocate(&mut self, line: &Line, from: u64, segment: u64) {
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.data_bytes += block_len(line.stored_len as usize);
        }
        let Some(stream) = self.streams.get_mut(&line.stream) else {
            return;
        };
        let at = stream.position(line.first_seq);
        let Some(entry) = stream.blocks.get_mut(at) else {
            return;
        };
        if entry.first_seq == line.first_seq && u64::from(entry.segment) == from {
            vacate(&mut self.segments, entry);
            *entry = Entry::of(line, segment);
            occupy(&mut self.segments, &Entry::of(line, segment));
        }
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
        while stream.blocks.front().is_some_and(|e| e.end_seq() <= up_to) {
            if let Some(entry) = stream.blocks.pop_front() {
                stream.forget(&entry);
                vacate(&mut self.segments, &entry);
            }
        }
    }

    fn delete(&mut self, id: u64) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        if self.names.get(&stream.line.name) == Some(&id) {
            self.names.remove(&stream.line.name);
        }
        for entry in &stream.blocks {
            vacate(&mut self.segments, entry);
        }
    }

    fn lose(&mut self, id: u64, range: Range) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let from = stream.position(range.first);
        let mut to = from;
        while stream
            .blocks
            .get(to)
            .is_some_and(|e| e.first_seq < range.end)
        {
            to += 1;
        }
        let gone: Vec<Entry> = stream.blocks.drain(from..to).collect();
        for entry in &gone {
            stream.forget(entry);
            vacate(&mut self.segments, entry);
        }
        stream.note_lost(range);
    }
}

/// A block of this segment is needed.
pub(crate) fn occupy(segments: &mut BTreeMap<u64, Segment>, entry: &Entry) {
    if let Some(segment) = segments.get_mut(&u64::from(entry.segment)) {
        segment.live_blocks += 1;
        segment.live_bytes += entry.disk_len();
    }
}

/// It is not needed any more.
fn vacate(segments: &mut BTreeMap<u64, Segment>, entry: &Entry) {
    if let Some(segment) = segments.get_mut(&u64::from(entry.segment)) {
        segment.live_blocks -= 1;
        segment.live_bytes -= entry.disk_len();
    }
}
