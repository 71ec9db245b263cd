//! Finding the blocks of a range: by the index of the segment, or by the blocks themselves where
//! the index is damaged.

use std::io;

use crate::env::EnvFile;
use crate::extent;
use crate::scan;
use crate::stream::{BlockEntry, BlockRange};

pub(crate) enum LocatedBlocks {
    /// All blocks of the range.
    ByIndex(Vec<BlockEntry>),
    /// The index is damaged: all sound blocks of the stream in the segment, including those of
    /// other ranges, by sequence.
    ByBlocks(Vec<BlockEntry>),
}

impl LocatedBlocks {
    /// The entries of one range, in order. Some may be missing where the index was damaged.
    pub(crate) fn into_entries(self, block_range: &BlockRange) -> Vec<BlockEntry> {
        let (Self::ByIndex(mut entries) | Self::ByBlocks(mut entries)) = self;
        entries.retain(|e| e.range_is_within(block_range));
        entries
    }
}

impl BlockEntry {
    fn range_is_within(&self, block_range: &BlockRange) -> bool {
        block_range.first_seq <= self.first_seq && self.end_seq() <= block_range.end_seq
    }
}

/// Finds the blocks of a range. `index_at` is the end of the segment's blocks.
pub(crate) fn locate(
    file: &dyn EnvFile,
    index_at: u64,
    stream: u64,
    block_range: &BlockRange,
) -> io::Result<LocatedBlocks> {
    let segment = u64::from(block_range.segment);
    if let Some(entries) = &block_range.entries {
        return Ok(LocatedBlocks::ByIndex(entries.iter().copied().collect()));
    }
    if let Some(index_range) = &block_range.index_range
        && let Some(entries) = extent::load_entries(file, segment, index_at, stream, index_range)?
    {
        let mut found = LocatedBlocks::ByIndex(entries).into_entries(block_range);
        found.sort_by_key(|e| e.first_seq);
        return Ok(LocatedBlocks::ByIndex(found));
    }
    let scan = scan::by_blocks(file, segment)?;
    let index_entries = scan.index_entries.iter();
    let sound = index_entries.filter(|l| l.stream == stream && l.is_readable());
    let mut entries: Vec<BlockEntry> = sound
        .map(|index_entry| BlockEntry::from_index_entry(index_entry, segment))
        .collect();
    entries.sort_by_key(|e| (e.first_seq, e.offset));
    Ok(LocatedBlocks::ByBlocks(entries))
}
