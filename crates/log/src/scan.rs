//! Scanning a segment file: by its index, or block by block. Read-only.

use std::io;

use crate::block::{BlockHeader, HEADER_LEN, looks_like_header};
use crate::bytefields::{ALIGN, to_usize};
use crate::env::{EnvFile, read_full};
use crate::extent::SegmentExtents;
use crate::index::{self, IndexEntry};
use crate::segment::{SEGMENT_FOOTER_LEN, SEGMENT_HEADER_LEN, SegmentFooter};

/// A region where a block should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DamagedRegion {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// The header, if only the payload is damaged.
    pub(crate) header: Option<BlockHeader>,
}

/// Content of a segment.
#[derive(Debug, Default)]
pub(crate) struct SegmentScan {
    pub(crate) sealed: bool,
    /// Entries of sound blocks, and of those known to be damaged, by offset.
    pub(crate) index_entries: Vec<IndexEntry>,
    pub(crate) damaged_regions: Vec<DamagedRegion>,
    /// End of the blocks.
    pub(crate) end: u64,
    /// End of the synced part, according to the blocks.
    pub(crate) synced_to: u64,
    pub(crate) file_len: u64,
    /// Extents of the sound blocks with records.
    pub(crate) extents: SegmentExtents,
    /// Nothing was ever written to it.
    pub(crate) blank: bool,
}

/// Scans a segment by its index if that is sound, or else block by block.
pub(crate) fn segment(file: &dyn EnvFile, id: u64) -> io::Result<SegmentScan> {
    let file_len = file.len()?;
    let Some(footer) = read_footer(file, id, file_len)? else {
        return by_blocks(file, id);
    };
    match by_index(file, &footer, file_len)? {
        Some(scan) => Ok(scan),
        // A footer is written after everything before the index was synced.
        None => scan_blocks(file, id, footer.index_at),
    }
}

/// Like [`segment`], but without the entries of sound blocks where the extents suffice: a few
/// kilobytes per segment, whatever its number of blocks.
pub(crate) fn outline(file: &dyn EnvFile, id: u64) -> io::Result<SegmentScan> {
    let file_len = file.len()?;
    if let Some(footer) = read_footer(file, id, file_len)?
        && let Some(scan) = by_extents(file, &footer, file_len)?
    {
        return Ok(scan);
    }
    let mut scan = segment(file, id)?;
    if scan.sealed {
        scan.index_entries.retain(|index_entry| index_entry.damaged);
        scan.index_entries.shrink_to_fit();
    }
    Ok(scan)
}

fn read_footer(file: &dyn EnvFile, id: u64, file_len: u64) -> io::Result<Option<SegmentFooter>> {
    let Some(foot_at) = index::footer_at(file_len) else {
        return Ok(None);
    };
    let mut footer = [0u8; SEGMENT_FOOTER_LEN];
    if read_full(file, &mut footer, foot_at)? < SEGMENT_FOOTER_LEN {
        return Ok(None);
    }
    Ok(SegmentFooter::decode(&footer).filter(|f| index::plausible(f, id, file_len)))
}

fn by_extents(
    file: &dyn EnvFile,
    footer: &SegmentFooter,
    file_len: u64,
) -> io::Result<Option<SegmentScan>> {
    let Some(section) = footer.extents else {
        return Ok(None);
    };
    let mut bytes = vec![0u8; section.len as usize];
    let whole = read_full(file, &mut bytes, footer.extents_at())? == bytes.len();
    let extents = (whole && crc32c::crc32c(&bytes) == section.crc)
        .then(|| SegmentExtents::decode(&bytes))
        .flatten();
    // Entries of damaged blocks must be reported, so they need the index.
    Ok(extents
        .filter(|e| e.damaged == 0)
        .map(|extents| SegmentScan {
            sealed: true,
            end: footer.index_at,
            synced_to: footer.index_at,
            file_len,
            extents,
            ..SegmentScan::default()
        }))
}

fn by_index(
    file: &dyn EnvFile,
    footer: &SegmentFooter,
    file_len: u64,
) -> io::Result<Option<SegmentScan>> {
    let mut bytes = vec![0u8; footer.index_len as usize];
    let read = read_full(file, &mut bytes, footer.index_at)?;
    let index_entries = bytes
        .get(..read)
        .and_then(|bytes| index::decode(bytes, footer));
    Ok(index_entries.map(|lines| SegmentScan {
        sealed: true,
        extents: SegmentExtents::from_entries(&lines),
        blank: lines.is_empty(),
        index_entries: lines,
        damaged_regions: Vec::new(),
        end: footer.index_at,
        synced_to: footer.index_at,
        file_len,
    }))
}

/// Scans a segment block by block and verifies every checksum. After damage it continues at the
/// next header that matches its offset, so one bad byte costs one block.
pub(crate) fn by_blocks(file: &dyn EnvFile, id: u64) -> io::Result<SegmentScan> {
    scan_blocks(file, id, 0)
}

/// Like [`by_blocks`], for a segment that is known to be synced up to `synced_to`.
fn scan_blocks(file: &dyn EnvFile, id: u64, synced_to: u64) -> io::Result<SegmentScan> {
    let file_len = file.len()?;
    let mut window = ReadWindow::new(file, file_len);
    let mut scan = SegmentScan {
        end: SEGMENT_HEADER_LEN as u64,
        synced_to,
        file_len,
        ..SegmentScan::default()
    };
    let mut at = SEGMENT_HEADER_LEN as u64;
    loop {
        let Some(header) = window.header(at, id)? else {
            let Some(next) = search(&mut window, at + ALIGN, id)? else {
                let bytes = window.bytes(at, HEADER_LEN)?;
                if bytes.is_some_and(|bytes| looks_like_header(bytes, id, at)) {
                    scan.damaged_regions.push(DamagedRegion {
                        offset: at,
                        len: HEADER_LEN as u64,
                        header: None,
                    });
                }
                break;
            };
            scan.damaged_regions.push(DamagedRegion {
                offset: at,
                len: next - at,
                header: None,
            });
            at = next;
            continue;
        };
        scan.synced_to = scan.synced_to.max(u64::from(header.synced_to));
        let payload = window.bytes(at + HEADER_LEN as u64, header.stored_len as usize)?;
        let sound = payload.is_some_and(|p| crc32c::crc32c(p) == header.payload_crc);
        if sound {
            scan.index_entries
                .push(IndexEntry::from_header(&header, false));
            scan.end = at + header.block_len();
        } else {
            scan.damaged_regions.push(DamagedRegion {
                offset: at,
                len: header.block_len(),
                header: Some(header),
            });
        }
        at += header.block_len();
    }
    finish(&mut scan, at);
    Ok(scan)
}

/// Adds an entry for each damaged block that is known to have been on disk, so that sealing the
/// segment preserves it.
fn finish(scan: &mut SegmentScan, at: u64) {
    let was_there = |h: &&DamagedRegion| h.offset < scan.synced_to;
    let damaged_headers: Vec<BlockHeader> = scan
        .damaged_regions
        .iter()
        .filter(was_there)
        .filter_map(|h| h.header)
        .collect();
    for header in damaged_headers {
        scan.index_entries
            .push(IndexEntry::from_header(&header, true));
        scan.end = scan
            .end
            .max((u64::from(header.offset) + header.block_len()).min(at));
    }
    // A block may record a longer synced part than the scan found: the rest is damaged, too.
    if scan.synced_to > scan.end {
        let covered = scan
            .damaged_regions
            .iter()
            .any(|h| h.offset + h.len > scan.end);
        if !covered {
            let region = DamagedRegion {
                offset: scan.end,
                len: scan.synced_to - scan.end,
                header: None,
            };
            scan.damaged_regions.push(region);
        }
    }
    scan.index_entries
        .sort_by_key(|index_entry| index_entry.offset);
    scan.end = scan.end.min(scan.file_len.max(SEGMENT_HEADER_LEN as u64));
    scan.extents = SegmentExtents::from_entries(&scan.index_entries);
    scan.blank = scan.index_entries.is_empty() && scan.damaged_regions.is_empty();
}

/// Offset of the next header of this segment.
fn search(window: &mut ReadWindow<'_>, from: u64, id: u64) -> io::Result<Option<u64>> {
    let mut at = from.next_multiple_of(ALIGN);
    while at + HEADER_LEN as u64 <= window.file_len {
        let window_len = (window.file_len - at).min(WINDOW as u64);
        let Some(bytes) = window.bytes(at, to_usize(window_len))? else {
            return Ok(None);
        };
        let mut i = 0;
        while i + HEADER_LEN <= bytes.len() {
            if bytes[i] != 0 && BlockHeader::decode_at(&bytes[i..], id, at + i as u64).is_some() {
                return Ok(Some(at + i as u64));
            }
            i += to_usize(ALIGN);
        }
        at += i as u64;
    }
    Ok(None)
}

/// Bytes read at a time.
const WINDOW: usize = 1 << 20;

/// A sliding window over a file.
struct ReadWindow<'a> {
    file: &'a dyn EnvFile,
    file_len: u64,
    start: u64,
    buf: Vec<u8>,
}

impl<'a> ReadWindow<'a> {
    fn new(file: &'a dyn EnvFile, file_len: u64) -> Self {
        Self {
            file,
            file_len,
            start: 0,
            buf: Vec::new(),
        }
    }

    fn header(&mut self, at: u64, segment: u64) -> io::Result<Option<BlockHeader>> {
        let bytes = self.bytes(at, HEADER_LEN)?;
        Ok(bytes.and_then(|bytes| BlockHeader::decode_at(bytes, segment, at)))
    }

    /// Bytes at an offset; `None` beyond the end of the file.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<Option<&[u8]>> {
        if at + len as u64 > self.file_len {
            return Ok(None);
        }
        let inside = at >= self.start && at + len as u64 <= self.start + self.buf.len() as u64;
        if !inside {
            let want = len.max(WINDOW).min(to_usize(self.file_len - at));
            self.buf.resize(want, 0);
            let read = read_full(self.file, &mut self.buf, at)?;
            self.buf.truncate(read);
            self.start = at;
        }
        let from = to_usize(at - self.start);
        Ok(self.buf.get(from..from + len))
    }
}
