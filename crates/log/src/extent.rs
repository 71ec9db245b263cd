//! Extents: contiguous blocks of a stream in one sealed segment, written behind its index, so that
//! neither opening nor memory needs an entry per block.
//!
//! An extent is contiguous in sequence and ordered by position, and has at most [`MAX_BLOCKS`]
//! blocks, which bounds what a reader loads at a time and how much of the index it searches.

use std::collections::HashMap;

use crate::block::block_len;
use crate::bytefields::{ByteReader, aligned, to_u32};
use crate::index::{INDEX_ENTRY_LEN, IndexEntry};
use crate::segment::{FileSection, SEGMENT_FOOTER_LEN, SegmentFooter};

/// Maximum number of blocks of an extent.
pub(crate) const MAX_BLOCKS: u32 = 1024;
/// Bytes of one extent on disk.
pub(crate) const EXTENT_LEN: usize = 80;
/// Bytes before the first extent.
pub(crate) const EXTENTS_HEADER_LEN: usize = 16;

/// The index entries of an extent: those of its stream from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexRange {
    pub(crate) first_entry: u32,
    pub(crate) last_entry: u32,
    /// Checksum of the stream's entries in the range, as they are on disk.
    pub(crate) crc: u32,
}

/// Contiguous blocks of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) stream: u64,
    pub(crate) first_seq: u64,
    pub(crate) end_seq: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) stored_bytes: u64,
    /// Bytes of the blocks in the file, including headers and padding.
    pub(crate) disk_bytes: u64,
    pub(crate) first_at_ms: i64,
    pub(crate) last_at_ms: i64,
    pub(crate) blocks: u32,
    pub(crate) index_range: IndexRange,
}

impl Extent {
    fn encode(&self, out: &mut Vec<u8>) {
        for n in [
            self.stream,
            self.first_seq,
            self.end_seq,
            self.raw_bytes,
            self.stored_bytes,
            self.disk_bytes,
        ] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&self.first_at_ms.to_le_bytes());
        out.extend_from_slice(&self.last_at_ms.to_le_bytes());
        let index_range = self.index_range;
        for n in [
            self.blocks,
            index_range.first_entry,
            index_range.last_entry,
            index_range.crc,
        ] {
            out.extend_from_slice(&n.to_le_bytes());
        }
    }

    fn decode(f: &mut ByteReader<'_>) -> Option<Self> {
        let extent = Self {
            stream: f.u64()?,
            first_seq: f.u64()?,
            end_seq: f.u64()?,
            raw_bytes: f.u64()?,
            stored_bytes: f.u64()?,
            disk_bytes: f.u64()?,
            first_at_ms: f.i64()?,
            last_at_ms: f.i64()?,
            blocks: f.u32()?,
            index_range: IndexRange {
                first_entry: f.u32()?,
                last_entry: f.u32()?,
                crc: f.u32()?,
            },
        };
        let sound = extent.first_seq < extent.end_seq
            && extent.index_range.first_entry <= extent.index_range.last_entry
            && (1..=MAX_BLOCKS).contains(&extent.blocks);
        sound.then_some(extent)
    }
}

/// The extents of a segment, built entry by entry.
#[derive(Debug, Default)]
pub(crate) struct SegmentExtents {
    pub(crate) all: Vec<Extent>,
    /// Bytes of all blocks with records, including those in no extent.
    pub(crate) data_bytes: u64,
    /// Entries of blocks known to be damaged.
    pub(crate) damaged: u32,
    entry_count: u32,
    /// The newest extent of each stream.
    newest: HashMap<u64, usize>,
}

impl SegmentExtents {
    pub(crate) fn from_entries(index_entries: &[IndexEntry]) -> Self {
        let mut extents = Self::default();
        let mut bytes = Vec::with_capacity(INDEX_ENTRY_LEN);
        for index_entry in index_entries {
            bytes.clear();
            index_entry.encode(&mut bytes);
            extents.add(index_entry, &bytes);
        }
        extents
    }

    /// Adds the next index entry; `bytes` is its encoded form.
    pub(crate) fn add(&mut self, index_entry: &IndexEntry, bytes: &[u8]) {
        let number = self.entry_count;
        self.entry_count += 1;
        self.damaged += u32::from(index_entry.damaged);
        if !index_entry.kind.has_records() {
            return;
        }
        let disk = block_len(index_entry.stored_len as usize);
        self.data_bytes += disk;
        if !index_entry.is_readable() {
            return;
        }
        let newest = self.newest.get(&index_entry.stream);
        if let Some(extent) = newest.and_then(|&i| self.all.get_mut(i))
            && extent.end_seq == index_entry.first_seq
            && extent.blocks < MAX_BLOCKS
        {
            extent.end_seq = index_entry.end_seq();
            extent.raw_bytes += u64::from(index_entry.raw_len);
            extent.stored_bytes += u64::from(index_entry.stored_len);
            extent.disk_bytes += disk;
            extent.last_at_ms = index_entry.last_at_ms;
            extent.blocks += 1;
            extent.index_range.last_entry = number;
            extent.index_range.crc = crc32c::crc32c_append(extent.index_range.crc, bytes);
            return;
        }
        self.newest.insert(index_entry.stream, self.all.len());
        self.all.push(Extent {
            stream: index_entry.stream,
            first_seq: index_entry.first_seq,
            end_seq: index_entry.end_seq(),
            raw_bytes: u64::from(index_entry.raw_len),
            stored_bytes: u64::from(index_entry.stored_len),
            disk_bytes: disk,
            first_at_ms: index_entry.first_at_ms,
            last_at_ms: index_entry.last_at_ms,
            blocks: 1,
            index_range: IndexRange {
                first_entry: number,
                last_entry: number,
                crc: crc32c::crc32c(bytes),
            },
        });
    }

    /// Bytes on disk, including one more extent.
    pub(crate) fn encoded_len(&self) -> u64 {
        (EXTENTS_HEADER_LEN + (self.all.len() + 1) * EXTENT_LEN) as u64
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(EXTENTS_HEADER_LEN + self.all.len() * EXTENT_LEN);
        out.extend_from_slice(&self.data_bytes.to_le_bytes());
        out.extend_from_slice(&self.damaged.to_le_bytes());
        out.extend_from_slice(&to_u32(self.all.len()).to_le_bytes());
        for extent in &self.all {
            extent.encode(&mut out);
        }
        out
    }

    /// Decodes the output of [`SegmentExtents::encode`]; nothing can be added to it.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut f = ByteReader::new(bytes);
        let mut extents = Self {
            data_bytes: f.u64()?,
            damaged: f.u32()?,
            ..Self::default()
        };
        for _ in 0..f.u32()? {
            extents.all.push(Extent::decode(&mut f)?);
        }
        f.is_empty().then_some(extents)
    }
}

/// Bytes of index, extents and footer of a segment with this many entries.
pub(crate) fn seal_len(entry_count: usize, extents: &SegmentExtents) -> u64 {
    aligned((entry_count * INDEX_ENTRY_LEN + SEGMENT_FOOTER_LEN) as u64 + extents.encoded_len())
}

/// Encodes the extents of an index, and the footer that points to both.
pub(crate) fn encode_footer(
    index: &[u8],
    extents: &SegmentExtents,
    segment: u64,
    index_at: u64,
    now_ms: i64,
) -> (Vec<u8>, [u8; SEGMENT_FOOTER_LEN]) {
    let extents = extents.encode();
    let footer = SegmentFooter {
        segment,
        index_at,
        index_len: to_u32(index.len()),
        index_crc: crc32c::crc32c(index),
        sealed_at_ms: now_ms,
        extents: Some(FileSection {
            len: to_u32(extents.len()),
            crc: crc32c::crc32c(&extents),
        }),
    };
    (extents, footer.encode())
}
