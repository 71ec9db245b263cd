//! Finding the blocks of a range: by the index of the segment, or by the blocks themselves where
//! the index is damaged.

use std::io;

use crate::bytefields::ByteReader;
use crate::env::{EnvFile, read_full};
use crate::extent::IndexRange;
use crate::index::{INDEX_ENTRY_LEN, IndexEntry};
use crate::scan;
use crate::stream::{BlockEntry, BlockRange};

/// Index entries read at a time.
const ENTRIES_PER_READ: u32 = 1024;

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
        && let Some(entries) = load_entries(file, segment, index_at, stream, index_range)?
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

/// Loads the blocks of an extent from the index of its segment, which begins at `index_at`. `None`:
/// the entries don't match the checksum.
pub(crate) fn load_entries(
    file: &dyn EnvFile,
    segment: u64,
    index_at: u64,
    stream: u64,
    index_range: &IndexRange,
) -> io::Result<Option<Vec<BlockEntry>>> {
    let wanted = stream.to_le_bytes();
    let mut found = Vec::new();
    let mut crc = 0;
    let mut buf = Vec::new();
    let mut at = index_range.first_entry;
    while at <= index_range.last_entry {
        let count = (index_range.last_entry - at + 1).min(ENTRIES_PER_READ);
        buf.resize(count as usize * INDEX_ENTRY_LEN, 0);
        let offset = index_at + u64::from(at) * INDEX_ENTRY_LEN as u64;
        if read_full(file, &mut buf, offset)? < buf.len() {
            return Ok(None);
        }
        for bytes in buf.chunks_exact(INDEX_ENTRY_LEN) {
            // The stream id is the first field.
            if !bytes.starts_with(&wanted) {
                continue;
            }
            let Some(index_entry) = IndexEntry::decode(&mut ByteReader::new(bytes)) else {
                return Ok(None);
            };
            if index_entry.is_readable() {
                crc = crc32c::crc32c_append(crc, bytes);
                found.push(BlockEntry::from_index_entry(&index_entry, segment));
            }
        }
        at += count;
    }
    Ok((crc == index_range.crc).then_some(found))
}
