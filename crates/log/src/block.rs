//! A block: the unit of append, checksum and recovery. Layout in `docs/formats/segment.md`.

use crate::bytefields::{ByteReader, aligned, to_u32, to_usize};

/// Format version of the blocks and segments that this crate writes.
pub const FORMAT_VERSION: u8 = 1;
/// Length of a block header in bytes.
pub const HEADER_LEN: usize = 80;
/// The largest payload that the format allows, in bytes.
pub const MAX_PAYLOAD: usize = 64 << 20;

const MAGIC: u32 = u32::from_le_bytes(*b"FBLK");

/// The content of a block. The numbers are on disk and frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum BlockKind {
    /// Records of a stream.
    Data = 1,
    /// Records of a stream, copied out of an older segment.
    Relocated = 2,
    /// A change of a stream or the volume, see `catalog::ControlBlock`.
    Control = 3,
    /// A part of the catalog at the start of a segment.
    Catalog = 4,
}

impl BlockKind {
    pub(crate) fn from_u8(n: u8) -> Option<Self> {
        [Self::Data, Self::Relocated, Self::Control, Self::Catalog]
            .into_iter()
            .find(|kind| *kind as u8 == n)
    }

    pub(crate) fn has_records(self) -> bool {
        matches!(self, Self::Data | Self::Relocated)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub(crate) kind: BlockKind,
    pub(crate) codec: u8,
    pub(crate) stream: u64,
    pub(crate) first_seq: u64,
    pub(crate) records: u32,
    pub(crate) raw_len: u32,
    pub(crate) stored_len: u32,
    pub(crate) payload_crc: u32,
    pub(crate) first_at_ms: i64,
    pub(crate) last_at_ms: i64,
    pub(crate) segment: u64,
    pub(crate) offset: u32,
    /// End of the synced part of the segment when the block was written. Damage below it hit
    /// acknowledged data; damage above it may be an unfinished write.
    pub(crate) synced_to: u32,
}

impl BlockHeader {
    /// Length of the block in bytes, including padding.
    pub(crate) fn block_len(&self) -> u64 {
        block_len(self.stored_len as usize)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut h = [0u8; HEADER_LEN];
        h[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        h[4] = FORMAT_VERSION;
        h[5] = self.kind as u8;
        h[6] = self.codec;
        h[8..16].copy_from_slice(&self.stream.to_le_bytes());
        h[16..24].copy_from_slice(&self.first_seq.to_le_bytes());
        h[24..28].copy_from_slice(&self.records.to_le_bytes());
        h[28..32].copy_from_slice(&self.raw_len.to_le_bytes());
        h[32..36].copy_from_slice(&self.stored_len.to_le_bytes());
        h[36..40].copy_from_slice(&self.payload_crc.to_le_bytes());
        h[40..48].copy_from_slice(&self.first_at_ms.to_le_bytes());
        h[48..56].copy_from_slice(&self.last_at_ms.to_le_bytes());
        h[56..64].copy_from_slice(&self.segment.to_le_bytes());
        h[64..68].copy_from_slice(&self.offset.to_le_bytes());
        h[68..72].copy_from_slice(&self.synced_to.to_le_bytes());
        let crc = crc32c::crc32c(&h[..76]);
        h[76..80].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&h);
    }

    /// Decodes a header. `None`: no header, damaged, or of an unknown version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let h: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let mut f = ByteReader::new(h);
        if f.u32()? != MAGIC || f.u8()? != FORMAT_VERSION {
            return None;
        }
        let kind = f.u8()?;
        let codec = f.u8()?;
        f.u8()?;
        let header = Self {
            kind: BlockKind::from_u8(kind)?,
            codec,
            stream: f.u64()?,
            first_seq: f.u64()?,
            records: f.u32()?,
            raw_len: f.u32()?,
            stored_len: f.u32()?,
            payload_crc: f.u32()?,
            first_at_ms: f.i64()?,
            last_at_ms: f.i64()?,
            segment: f.u64()?,
            offset: f.u32()?,
            synced_to: f.u32()?,
        };
        f.u32()?;
        let sound = crc32c::crc32c(&h[..76]) == f.u32()?
            && header.stored_len as usize <= MAX_PAYLOAD
            && header
                .first_seq
                .checked_add(u64::from(header.records))
                .is_some();
        sound.then_some(header)
    }

    /// Decodes a header that belongs at this offset of this segment. Rejects blocks of a recycled
    /// file's previous content, and misplaced writes.
    pub(crate) fn decode_at(bytes: &[u8], segment: u64, offset: u64) -> Option<Self> {
        let header = Self::decode(bytes)?;
        (header.segment == segment && u64::from(header.offset) == offset).then_some(header)
    }
}

/// Whether a damaged header of this position is here, and not older content. One wrong byte must
/// not make a block look as if it had never been written.
pub(crate) fn looks_like_header(bytes: &[u8], segment: u64, offset: u64) -> bool {
    let Some(mut h) = bytes.first_chunk::<HEADER_LEN>().copied() else {
        return false;
    };
    let (magic, offset_bytes) = (MAGIC.to_le_bytes(), to_u32(to_usize(offset)).to_le_bytes());
    let ours = h[56..64] == segment.to_le_bytes();
    if ours && (h[0..4] == magic || h[64..68] == offset_bytes) {
        return true;
    }
    // If only a byte of these fields is wrong, the checksum matches once they are corrected.
    h[0..4].copy_from_slice(&magic);
    h[56..64].copy_from_slice(&segment.to_le_bytes());
    h[64..68].copy_from_slice(&offset_bytes);
    BlockHeader::decode(&h).is_some()
}

/// Length in bytes of a block with this payload, including padding.
pub(crate) fn block_len(payload: usize) -> u64 {
    aligned((HEADER_LEN + payload) as u64)
}

/// Zero bytes between a payload and the next block.
pub(crate) fn padding(payload: usize) -> usize {
    to_usize(block_len(payload)) - HEADER_LEN - payload
}
