//! A segment file: name, header and footer. Layout in `docs/formats/segment.md`.

use crate::block::FORMAT_VERSION;
use crate::bytefields::ByteReader;

/// Bytes of the header; the first block follows it.
pub(crate) const SEGMENT_HEADER_LEN: usize = 64;
/// Bytes of the footer, the last ones of a sealed segment's file.
pub(crate) const SEGMENT_FOOTER_LEN: usize = 64;

const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"FSEG");
const FOOTER_MAGIC: u32 = u32::from_le_bytes(*b"FEND");

pub(crate) fn segment_name(id: u64) -> String {
    format!("segment-{id:016}.seg")
}

/// File name of a spare: preallocated, or a freed segment.
pub(crate) fn spare_name(id: u64) -> String {
    format!("spare-{id:016}.seg")
}

pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    parse(name, "segment-")
}

pub(crate) fn parse_spare_name(name: &str) -> Option<u64> {
    parse(name, "spare-")
}

fn parse(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(".seg")?;
    let all_digits = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit());
    all_digits.then(|| digits.parse().ok()).flatten()
}

/// The header of a segment, with the id of its volume. Blocks carry their own position, so a
/// damaged header loses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) segment: u64,
    pub(crate) volume: u64,
    pub(crate) created_at_ms: i64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut h = [0u8; SEGMENT_HEADER_LEN];
        h[0..4].copy_from_slice(&HEADER_MAGIC.to_le_bytes());
        h[4] = FORMAT_VERSION;
        h[8..16].copy_from_slice(&self.segment.to_le_bytes());
        h[16..24].copy_from_slice(&self.volume.to_le_bytes());
        h[24..32].copy_from_slice(&self.created_at_ms.to_le_bytes());
        let crc = crc32c::crc32c(&h[..60]);
        h[60..64].copy_from_slice(&crc.to_le_bytes());
        h
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let h: &[u8; SEGMENT_HEADER_LEN] = bytes.first_chunk()?;
        let mut f = ByteReader::new(h);
        if f.u32()? != HEADER_MAGIC || f.u32()? != u32::from(FORMAT_VERSION) {
            return None;
        }
        let header = Self {
            segment: f.u64()?,
            volume: f.u64()?,
            created_at_ms: f.i64()?,
        };
        f.bytes(28)?;
        (crc32c::crc32c(&h[..60]) == f.u32()?).then_some(header)
    }
}

/// The footer of a sealed segment: the position of its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFooter {
    pub(crate) segment: u64,
    /// End of the blocks, start of the index.
    pub(crate) index_at: u64,
    pub(crate) index_len: u32,
    pub(crate) index_crc: u32,
    pub(crate) sealed_at_ms: i64,
    /// The extents, right behind the index. A reader that does not know their version reads the index.
    pub(crate) extents: Option<FileSection>,
}

/// Length and checksum of a part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileSection {
    pub(crate) len: u32,
    pub(crate) crc: u32,
}

/// Version of the encoded extents. A reader that doesn't know it reads the index instead.
const EXTENTS_VERSION: u8 = 1;

impl SegmentFooter {
    /// End of the index, start of the extents.
    pub(crate) fn extents_at(&self) -> u64 {
        self.index_at.saturating_add(u64::from(self.index_len))
    }

    pub(crate) fn encode(&self) -> [u8; SEGMENT_FOOTER_LEN] {
        let mut h = [0u8; SEGMENT_FOOTER_LEN];
        h[0..4].copy_from_slice(&FOOTER_MAGIC.to_le_bytes());
        h[4] = FORMAT_VERSION;
        h[8..16].copy_from_slice(&self.segment.to_le_bytes());
        h[16..24].copy_from_slice(&self.index_at.to_le_bytes());
        h[24..28].copy_from_slice(&self.index_len.to_le_bytes());
        h[28..32].copy_from_slice(&self.index_crc.to_le_bytes());
        h[32..40].copy_from_slice(&self.sealed_at_ms.to_le_bytes());
        if let Some(section) = self.extents {
            h[40..44].copy_from_slice(&section.len.to_le_bytes());
            h[44..48].copy_from_slice(&section.crc.to_le_bytes());
            h[48] = EXTENTS_VERSION;
        }
        let crc = crc32c::crc32c(&h[..60]);
        h[60..64].copy_from_slice(&crc.to_le_bytes());
        h
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let h: &[u8; SEGMENT_FOOTER_LEN] = bytes.first_chunk()?;
        let mut f = ByteReader::new(h);
        if f.u32()? != FOOTER_MAGIC || f.u32()? != u32::from(FORMAT_VERSION) {
            return None;
        }
        let mut footer = Self {
            segment: f.u64()?,
            index_at: f.u64()?,
            index_len: f.u32()?,
            index_crc: f.u32()?,
            sealed_at_ms: f.i64()?,
            extents: None,
        };
        let section = FileSection {
            len: f.u32()?,
            crc: f.u32()?,
        };
        footer.extents = (f.u8()? == EXTENTS_VERSION).then_some(section);
        f.bytes(11)?;
        (crc32c::crc32c(&h[..60]) == f.u32()?).then_some(footer)
    }
}
