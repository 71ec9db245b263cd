//! The index of a sealed segment: one entry per block, so that opening need not read the blocks.

use crate::block::{BlockHeader, BlockKind};
use crate::bytefields::{ByteReader, to_usize};
use crate::segment::{SEGMENT_FOOTER_LEN, SegmentFooter};

/// Bytes of one entry.
pub(crate) const INDEX_ENTRY_LEN: usize = 56;
/// Set in an entry's kind when the block was found damaged before the index was written.
const DAMAGED: u8 = 0x80;

/// One block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) kind: BlockKind,
    /// The payload did not match its checksum when recovery read it.
    pub(crate) damaged: bool,
    pub(crate) codec: u8,
    pub(crate) stream: u64,
    pub(crate) first_seq: u64,
    pub(crate) records: u32,
    pub(crate) offset: u32,
    pub(crate) stored_len: u32,
    pub(crate) raw_len: u32,
    pub(crate) payload_crc: u32,
    pub(crate) first_at_ms: i64,
    pub(crate) last_at_ms: i64,
}

impl IndexEntry {
    pub(crate) fn from_header(header: &BlockHeader, damaged: bool) -> Self {
        Self {
            kind: header.kind,
            damaged,
            codec: header.codec,
            stream: header.stream,
            first_seq: header.first_seq,
            records: header.records,
            offset: header.offset,
            stored_len: header.stored_len,
            raw_len: header.raw_len,
            payload_crc: header.payload_crc,
            first_at_ms: header.first_at_ms,
            last_at_ms: header.last_at_ms,
        }
    }

    pub(crate) fn end_seq(&self) -> u64 {
        self.first_seq.saturating_add(u64::from(self.records))
    }

    /// Whether the block has records and is not known to be damaged.
    pub(crate) fn is_readable(&self) -> bool {
        self.kind.has_records() && !self.damaged && self.records > 0
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.stream.to_le_bytes());
        out.extend_from_slice(&self.first_seq.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.stored_len.to_le_bytes());
        out.extend_from_slice(&self.raw_len.to_le_bytes());
        out.extend_from_slice(&self.first_at_ms.to_le_bytes());
        out.extend_from_slice(&self.last_at_ms.to_le_bytes());
        out.extend_from_slice(&self.payload_crc.to_le_bytes());
        let damaged = if self.damaged { DAMAGED } else { 0 };
        out.extend_from_slice(&[self.kind as u8 | damaged, self.codec, 0, 0]);
    }

    pub(crate) fn decode(f: &mut ByteReader<'_>) -> Option<Self> {
        let mut index_entry = Self {
            stream: f.u64()?,
            first_seq: f.u64()?,
            records: f.u32()?,
            offset: f.u32()?,
            stored_len: f.u32()?,
            raw_len: f.u32()?,
            first_at_ms: f.i64()?,
            last_at_ms: f.i64()?,
            payload_crc: f.u32()?,
            kind: BlockKind::Data,
            damaged: false,
            codec: 0,
        };
        let kind = f.u8()?;
        index_entry.codec = f.u8()?;
        f.u16()?;
        index_entry.damaged = kind & DAMAGED != 0;
        index_entry.kind = BlockKind::from_u8(kind & !DAMAGED)?;
        Some(index_entry)
    }
}

pub(crate) fn encode_entries(entries: &[IndexEntry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * INDEX_ENTRY_LEN);
    for index_entry in entries {
        index_entry.encode(&mut bytes);
    }
    bytes
}

/// Decodes an index whose footer was found. `None`: it is damaged.
pub(crate) fn decode(bytes: &[u8], footer: &SegmentFooter) -> Option<Vec<IndexEntry>> {
    if bytes.len() != footer.index_len as usize
        || !bytes.len().is_multiple_of(INDEX_ENTRY_LEN)
        || crc32c::crc32c(bytes) != footer.index_crc
    {
        return None;
    }
    decode_entries(bytes)
}

/// `None`: the bytes are no index entries.
pub(crate) fn decode_entries(bytes: &[u8]) -> Option<Vec<IndexEntry>> {
    let mut f = ByteReader::new(bytes);
    let mut entries = Vec::with_capacity(bytes.len() / INDEX_ENTRY_LEN);
    while !f.is_empty() {
        entries.push(IndexEntry::decode(&mut f)?);
    }
    Some(entries)
}

/// Offset of the footer in a file of this length.
pub(crate) fn footer_at(file_len: u64) -> Option<u64> {
    file_len.checked_sub(SEGMENT_FOOTER_LEN as u64)
}

/// Whether the index of the footer lies within the file.
pub(crate) fn plausible(footer: &SegmentFooter, segment: u64, file_len: u64) -> bool {
    let extents = footer.extents.map_or(0, |section| section.len);
    let end = footer.extents_at().saturating_add(u64::from(extents));
    footer.segment == segment
        && footer_at(file_len).is_some_and(|at| end <= at)
        && to_usize(u64::from(footer.index_len)).is_multiple_of(INDEX_ENTRY_LEN)
}
