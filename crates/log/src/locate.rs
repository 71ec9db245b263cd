//! Finding the blocks of a run: by the index of its segment, or, where that is damaged, by the
//! blocks themselves.

use std::io;

use crate::env::File;
use crate::extent;
use crate::scan;
use crate::stream::{Entry, Run};

/// Where blocks were found.
pub(crate) enum Located {
    /// All of the run's.
    ByIndex(Vec<Entry>),
    /// The index is damaged: all sound blocks that the segment has of the stream, those of other
    /// runs included, by sequence.
    ByBlocks(Vec<Entry>),
}

impl Located {
    /// The entries of one run, in order. Some may be missing where the index was damaged.
    pub(crate) fn of(self, run: &Run) -> Vec<Entry> {
        let (Self::ByIndex(mut entries) | Self::ByBlocks(mut entries)) = self;
        entries.retain(|e| e.range_is_within(run));
        entries
    }
}

impl Entry {
    fn range_is_within(&self, run: &Run) -> bool {
        run.first_seq <= self.first_seq && self.end_seq() <= run.end_seq
    }
}

/// Finds a run's blocks. `index_at` is where the blocks of the segment end.
pub(crate) fn locate(
    file: &dyn File,
    index_at: u64,
    stream: u64,
    run: &Run,
) -> io::Result<Located> {
    let segment = u64::from(run.segment);
    if let Some(entries) = &run.entries {
        return Ok(Located::ByIndex(entries.iter().copied().collect()));
    }
    if let Some(place) = &run.place
        && let Some(entries) = extent::entries(file, segment, index_at, stream, place)?
    {
        let mut found = Located::ByIndex(entries).of(run);
        found.sort_by_key(|e| e.first_seq);
        return Ok(Located::ByIndex(found));
    }
    let scan = scan::by_blocks(file, segment)?;
    let lines = scan.lines.iter();
    let sound = lines.filter(|l| l.stream == stream && l.is_readable());
    let mut entries: Vec<Entry> = sound.map(|line| Entry::of(line, segment)).collect();
    entries.sort_by_key(|e| (e.first_seq, e.offset));
    Ok(Located::ByBlocks(entries))
}
