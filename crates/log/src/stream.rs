//! What is known of a stream, and of the places of its blocks.
//!
//! Blocks of sealed segments are kept as runs of up to a thousand; their places stand in the index
//! of the segment, and are loaded when somebody needs them. Only the open segment's blocks, and
//! those of segments without an index, have an entry each in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::block::block_len;
use crate::catalog::{Range, StreamLine};
use crate::extent::{Extent, MAX_BLOCKS, Place};
use crate::index::Line;

/// The place of a block that can be read.
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
            segment: number(segment),
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

fn number(segment: u64) -> u32 {
    u32::try_from(segment).expect("segment ids are below 2^32, checked at rotation")
}

/// Blocks of a stream that follow each other in sequence, and in one segment.
///
/// Either `entries` holds every one of them, or `place` says where they are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first_seq: u64,
    pub(crate) end_seq: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) first_at_ms: i64,
    pub(crate) last_at_ms: i64,
    pub(crate) segment: u32,
    pub(crate) blocks: u32,
    /// Lines of the index among which the run's are; some of them may be trimmed.
    pub(crate) place: Option<Place>,
    #[allow(
        clippy::box_collection,
        reason = "most runs have none, and there are very many runs"
    )]
    pub(crate) entries: Option<Box<VecDeque<Entry>>>,
}

impl Run {
    pub(crate) fn of(extent: &Extent, segment: u64) -> Self {
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
            place: Some(extent.place),
            entries: None,
        }
    }

    fn new(entry: Entry, place: Option<Place>) -> Self {
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
            place,
            entries: Some(Box::new(VecDeque::from([entry]))),
        }
    }

    /// Takes the next block, if it is of the same run.
    fn extend(&mut self, entry: Entry, place: Option<Place>) -> bool {
        let Some(entries) = &mut self.entries else {
            return false;
        };
        let follows = entries
            .back()
            .is_some_and(|last| last.offset < entry.offset)
            && self.segment == entry.segment
            && self.end_seq == entry.first_seq
            && self.blocks < MAX_BLOCKS
            && self.place == place;
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

    /// The run's entries as runs, which have places in the same lines.
    pub(crate) fn split(
        entries: impl IntoIterator<Item = Entry>,
        place: Option<Place>,
    ) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        for entry in entries {
            let joined = runs.last_mut().is_some_and(|run| run.extend(entry, place));
            if !joined {
                runs.push(Self::new(entry, place));
            }
        }
        runs
    }

    pub(crate) fn range(&self) -> Range {
        Range {
            first: self.first_seq,
            end: self.end_seq,
        }
    }

    /// Whether all of it is in the range.
    pub(crate) fn within(&self, range: &Range) -> bool {
        range.first <= self.first_seq && self.end_seq <= range.end
    }

    pub(crate) fn overlaps(&self, range: &Range) -> bool {
        self.first_seq < range.end && range.first < self.end_seq
    }

    /// Whether its entries would have to be loaded.
    pub(crate) fn is_folded(&self) -> bool {
        self.entries.is_none()
    }

    /// Forgets the entries, if they can be loaded again.
    pub(crate) fn fold(&mut self) {
        if self.place.is_some() {
            self.entries = None;
        }
    }
}

/// A stream.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) line: StreamLine,
    /// Blocks that can be read, by sequence.
    pub(crate) runs: VecDeque<Run>,
    /// Sums over `runs`.
    pub(crate) records: u64,
    pub(crate) blocks: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) stored_bytes: u64,
}

impl Stream {
    pub(crate) fn new(line: StreamLine) -> Self {
        Self {
            line,
            runs: VecDeque::new(),
            records: 0,
            blocks: 0,
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

    /// Adds the next block; `place` is where its run is found, if its segment has an index.
    pub(crate) fn push(&mut self, entry: Entry, place: Option<Place>) {
        self.records += u64::from(entry.records);
        self.blocks += 1;
        self.raw_bytes += u64::from(entry.raw_len);
        self.stored_bytes += u64::from(entry.stored_len);
        let last = self.runs.back_mut();
        if !last.is_some_and(|run| run.extend(entry, place)) {
            self.runs.push_back(Run::new(entry, place));
        }
    }

    /// Puts a run at its place; nothing that it overlaps may be there.
    pub(crate) fn insert(&mut self, run: Run) {
        self.records += run.range().len();
        self.blocks += u64::from(run.blocks);
        self.raw_bytes += run.raw_bytes;
        self.stored_bytes += run.stored_bytes;
        let at = self.position(run.first_seq);
        self.runs.insert(at, run);
    }

    /// Puts one block at its place.
    pub(crate) fn insert_entry(&mut self, entry: Entry) {
        let at = self.position(entry.first_seq);
        let before = at.checked_sub(1).and_then(|at| self.runs.get_mut(at));
        if before.is_some_and(|run| run.extend(entry, None)) {
            self.records += u64::from(entry.records);
            self.blocks += 1;
            self.raw_bytes += u64::from(entry.raw_len);
            self.stored_bytes += u64::from(entry.stored_len);
        } else {
            self.insert(Run::new(entry, None));
        }
    }

    fn take_at(&mut self, at: usize) -> Option<Run> {
        let run = self.runs.remove(at)?;
        self.records -= run.range().len();
        self.blocks -= u64::from(run.blocks);
        self.raw_bytes -= run.raw_bytes;
        self.stored_bytes -= run.stored_bytes;
        Some(run)
    }

    /// Index of the first run that ends after `seq`.
    pub(crate) fn position(&self, seq: u64) -> usize {
        self.runs.partition_point(|run| run.end_seq <= seq)
    }

    /// The run that holds a record.
    pub(crate) fn run_of(&self, seq: u64) -> Option<&Run> {
        let run = self.runs.get(self.position(seq))?;
        (run.first_seq <= seq).then_some(run)
    }

    /// Takes out what is in a range: whole runs, and of the others those blocks that `gone` says.
    /// A run at the edge whose entries are not loaded stays as it is.
    pub(crate) fn take(&mut self, range: Range, gone: impl Fn(&Entry) -> bool) -> Vec<Run> {
        let mut taken = Vec::new();
        let mut at = self.position(range.first);
        while self.runs.get(at).is_some_and(|run| run.overlaps(&range)) {
            let Some(run) = self.runs.get(at) else { break };
            let whole = run.within(&range);
            if !whole && run.is_folded() {
                at += 1;
                continue;
            }
            let Some(mut run) = self.take_at(at) else {
                break;
            };
            if whole {
                taken.push(run);
                continue;
            }
            let place = run.place;
            let entries = run.entries.take().map(|entries| *entries);
            let (out, kept): (Vec<Entry>, Vec<Entry>) =
                entries.into_iter().flatten().partition(&gone);
            taken.extend(Run::split(out, place));
            for kept in Run::split(kept, place) {
                self.insert(kept);
                at += 1;
            }
        }
        taken
    }

    /// Replaces a run by what is left of it, entry by entry; what it was.
    pub(crate) fn unfold(&mut self, run: &Run, entries: Vec<Entry>) -> Option<Run> {
        let at = self.position(run.first_seq);
        if self.runs.get(at) != Some(run) {
            return None;
        }
        let before = self.take_at(at);
        for run in Run::split(entries, run.place) {
            self.insert(run);
        }
        before
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
