//! Reading one segment file: by its index, or block by block. Never writes.

use std::io;

use crate::block::{HEADER_LEN, Header, looks_like_header};
use crate::bytefields::{ALIGN, to_usize};
use crate::env::{File, read_full};
use crate::extent::Extents;
use crate::index::{self, Line};
use crate::segment::{FOOT_LEN, Foot, HEAD_LEN};

/// A place where a block should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// The header, where that is sound and only the payload is not.
    pub(crate) header: Option<Header>,
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) sealed: bool,
    /// Sound blocks, and those known to be damaged, by offset.
    pub(crate) lines: Vec<Line>,
    pub(crate) holes: Vec<Hole>,
    /// Where the blocks end.
    pub(crate) end: u64,
    /// Up to here the segment was synced, by what its blocks say.
    pub(crate) synced_to: u64,
    pub(crate) file_len: u64,
    /// Runs of the sound blocks of records.
    pub(crate) extents: Extents,
    /// Nothing was ever written to it.
    pub(crate) blank: bool,
}

/// Reads a segment by its index if that is sound, or else block by block.
pub(crate) fn segment(file: &dyn File, id: u64) -> io::Result<Scan> {
    let file_len = file.len()?;
    let Some(foot) = foot(file, id, file_len)? else {
        return by_blocks(file, id);
    };
    match by_index(file, &foot, file_len)? {
        Some(scan) => Ok(scan),
        // A foot is written after everything before the index was synced.
        None => scan_blocks(file, id, foot.index_at),
    }
}

/// As [`segment`], but without the lines of sound blocks where the extents say enough: a few
/// kilobytes a segment, however many blocks it has.
pub(crate) fn outline(file: &dyn File, id: u64) -> io::Result<Scan> {
    let file_len = file.len()?;
    if let Some(foot) = foot(file, id, file_len)?
        && let Some(scan) = by_extents(file, &foot, file_len)?
    {
        return Ok(scan);
    }
    let mut scan = segment(file, id)?;
    if scan.sealed {
        scan.lines.retain(|line| line.damaged);
        scan.lines.shrink_to_fit();
    }
    Ok(scan)
}

fn foot(file: &dyn File, id: u64, file_len: u64) -> io::Result<Option<Foot>> {
    let Some(foot_at) = index::foot_at(file_len) else {
        return Ok(None);
    };
    let mut foot = [0u8; FOOT_LEN];
    if read_full(file, &mut foot, foot_at)? < FOOT_LEN {
        return Ok(None);
    }
    Ok(Foot::decode(&foot).filter(|f| index::plausible(f, id, file_len)))
}

fn by_extents(file: &dyn File, foot: &Foot, file_len: u64) -> io::Result<Option<Scan>> {
    let Some(section) = foot.extents else {
        return Ok(None);
    };
    let mut bytes = vec![0u8; section.len as usize];
    let whole = read_full(file, &mut bytes, foot.extents_at())? == bytes.len();
    let extents = (whole && crc32c::crc32c(&bytes) == section.crc)
        .then(|| Extents::decode(&bytes))
        .flatten();
    // Where a line says that its block is damaged, that has to be told.
    Ok(extents.filter(|e| e.damaged == 0).map(|extents| Scan {
        sealed: true,
        end: foot.index_at,
        synced_to: foot.index_at,
        file_len,
        extents,
        ..Scan::default()
    }))
}

fn by_index(file: &dyn File, foot: &Foot, file_len: u64) -> io::Result<Option<Scan>> {
    let mut bytes = vec![0u8; foot.index_len as usize];
    let read = read_full(file, &mut bytes, foot.index_at)?;
    let lines = bytes
        .get(..read)
        .and_then(|bytes| index::decode(bytes, foot));
    Ok(lines.map(|lines| Scan {
        sealed: true,
        extents: Extents::of(&lines),
        blank: lines.is_empty(),
        lines,
        holes: Vec::new(),
        end: foot.index_at,
        synced_to: foot.index_at,
        file_len,
    }))
}

/// Reads a segment block by block, every checksum included. After damage it goes on with the next
/// header that stands where it says, so one bad byte costs one block.
pub(crate) fn by_blocks(file: &dyn File, id: u64) -> io::Result<Scan> {
    scan_blocks(file, id, 0)
}

/// The same for a segment that is known to have been synced up to `synced_to`.
fn scan_blocks(file: &dyn File, id: u64, synced_to: u64) -> io::Result<Scan> {
    let file_len = file.len()?;
    let mut window = Window::new(file, file_len);
    let mut scan = Scan {
        end: HEAD_LEN as u64,
        synced_to,
        file_len,
        ..Scan::default()
    };
    let mut at = HEAD_LEN as u64;
    loop {
        let Some(header) = window.header(at, id)? else {
            let Some(next) = search(&mut window, at + ALIGN, id)? else {
                let bytes = window.bytes(at, HEADER_LEN)?;
                if bytes.is_some_and(|bytes| looks_like_header(bytes, id, at)) {
                    scan.holes.push(Hole {
                        offset: at,
                        len: HEADER_LEN as u64,
                        header: None,
                    });
                }
                break;
            };
            scan.holes.push(Hole {
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
            scan.lines.push(Line::of(&header, false));
            scan.end = at + header.block_len();
        } else {
            scan.holes.push(Hole {
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

/// Keeps a line for each damaged block that is known to have been on disk, so that sealing the
/// segment does not forget that it was there.
fn finish(scan: &mut Scan, at: u64) {
    let was_there = |h: &&Hole| h.offset < scan.synced_to;
    let kept: Vec<Header> = scan
        .holes
        .iter()
        .filter(was_there)
        .filter_map(|h| h.header)
        .collect();
    for header in kept {
        scan.lines.push(Line::of(&header, true));
        scan.end = scan
            .end
            .max((u64::from(header.offset) + header.block_len()).min(at));
    }
    // A block may say that more was synced than can be found: then that much is damaged, too.
    if scan.synced_to > scan.end {
        let covered = scan.holes.iter().any(|h| h.offset + h.len > scan.end);
        if !covered {
            let hole = Hole {
                offset: scan.end,
                len: scan.synced_to - scan.end,
                header: None,
            };
            scan.holes.push(hole);
        }
    }
    scan.lines.sort_by_key(|line| line.offset);
    scan.end = scan.end.min(scan.file_len.max(HEAD_LEN as u64));
    scan.extents = Extents::of(&scan.lines);
    scan.blank = scan.lines.is_empty() && scan.holes.is_empty();
}

/// The next place at which a header of this segment stands.
fn search(window: &mut Window<'_>, from: u64, id: u64) -> io::Result<Option<u64>> {
    let mut at = from.next_multiple_of(ALIGN);
    while at + HEADER_LEN as u64 <= window.file_len {
        let room = (window.file_len - at).min(WINDOW as u64);
        let Some(bytes) = window.bytes(at, to_usize(room))? else {
            return Ok(None);
        };
        let mut i = 0;
        while i + HEADER_LEN <= bytes.len() {
            if bytes[i] != 0 && Header::decode_at(&bytes[i..], id, at + i as u64).is_some() {
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

/// A part of a file in memory, moved along.
struct Window<'a> {
    file: &'a dyn File,
    file_len: u64,
    start: u64,
    buf: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn File, file_len: u64) -> Self {
        Self {
            file,
            file_len,
            start: 0,
            buf: Vec::new(),
        }
    }

    fn header(&mut self, at: u64, segment: u64) -> io::Result<Option<Header>> {
        let bytes = self.bytes(at, HEADER_LEN)?;
        Ok(bytes.and_then(|bytes| Header::decode_at(bytes, segment, at)))
    }

    /// Bytes at a place; `None` where the file ends before.
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
