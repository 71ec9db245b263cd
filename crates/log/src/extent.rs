//! Extents: runs of a stream's blocks in one sealed segment, written behind its index, so that
//! opening need not read a line for each block and memory need not hold one.
//!
//! An extent is contiguous in sequence and in order of position, and has at most [`MAX_BLOCKS`]
//! blocks: that bounds what a reader loads at a time, and how far a search in the index goes.

use std::collections::HashMap;
use std::io;

use crate::block::block_len;
use crate::bytefields::{Fields, to_u32};
use crate::env::{File, read_full};
use crate::index::{LINE_LEN, Line};
use crate::stream::Entry;

/// Blocks of an extent, at most.
pub(crate) const MAX_BLOCKS: u32 = 1024;
/// Bytes of one extent on disk.
pub(crate) const EXTENT_LEN: usize = 80;
/// Bytes before the first extent.
pub(crate) const EXTENTS_HEAD: usize = 16;
/// Lines of the index read at a time.
const LINES_AT_ONCE: u32 = 1024;

/// The lines of an index that an extent is made of: those of its stream from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) first_line: u32,
    pub(crate) last_line: u32,
    /// Checksum of the stream's lines between them, as they are on disk.
    pub(crate) crc: u32,
}

/// A run of a stream's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) stream: u64,
    pub(crate) first_seq: u64,
    pub(crate) end_seq: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) stored_bytes: u64,
    /// Bytes of its blocks in the file, headers and padding included.
    pub(crate) disk_bytes: u64,
    pub(crate) first_at_ms: i64,
    pub(crate) last_at_ms: i64,
    pub(crate) blocks: u32,
    pub(crate) place: Place,
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
        let place = self.place;
        for n in [self.blocks, place.first_line, place.last_line, place.crc] {
            out.extend_from_slice(&n.to_le_bytes());
        }
    }

    fn decode(f: &mut Fields<'_>) -> Option<Self> {
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
            place: Place {
                first_line: f.u32()?,
                last_line: f.u32()?,
                crc: f.u32()?,
            },
        };
        let sound = extent.first_seq < extent.end_seq
            && extent.place.first_line <= extent.place.last_line
            && (1..=MAX_BLOCKS).contains(&extent.blocks);
        sound.then_some(extent)
    }
}

/// The extents of a segment, gathered line by line.
#[derive(Debug, Default)]
pub(crate) struct Extents {
    pub(crate) all: Vec<Extent>,
    /// Bytes of all blocks of records, those in no extent included.
    pub(crate) data_bytes: u64,
    /// Lines of blocks that are known to be damaged.
    pub(crate) damaged: u32,
    lines: u32,
    /// The newest extent of each stream.
    newest: HashMap<u64, usize>,
}

impl Extents {
    /// Of these lines.
    pub(crate) fn of(lines: &[Line]) -> Self {
        let mut extents = Self::default();
        let mut bytes = Vec::with_capacity(LINE_LEN);
        for line in lines {
            bytes.clear();
            line.encode(&mut bytes);
            extents.add(line, &bytes);
        }
        extents
    }

    /// Takes the next line of the index; `bytes` is the line as it is on disk.
    pub(crate) fn add(&mut self, line: &Line, bytes: &[u8]) {
        let number = self.lines;
        self.lines += 1;
        self.damaged += u32::from(line.damaged);
        if !line.kind.has_records() {
            return;
        }
        let disk = block_len(line.stored_len as usize);
        self.data_bytes += disk;
        if !line.is_readable() {
            return;
        }
        let newest = self.newest.get(&line.stream);
        if let Some(run) = newest.and_then(|&i| self.all.get_mut(i))
            && run.end_seq == line.first_seq
            && run.blocks < MAX_BLOCKS
        {
            run.end_seq = line.end_seq();
            run.raw_bytes += u64::from(line.raw_len);
            run.stored_bytes += u64::from(line.stored_len);
            run.disk_bytes += disk;
            run.last_at_ms = line.last_at_ms;
            run.blocks += 1;
            run.place.last_line = number;
            run.place.crc = crc32c::crc32c_append(run.place.crc, bytes);
            return;
        }
        self.newest.insert(line.stream, self.all.len());
        self.all.push(Extent {
            stream: line.stream,
            first_seq: line.first_seq,
            end_seq: line.end_seq(),
            raw_bytes: u64::from(line.raw_len),
            stored_bytes: u64::from(line.stored_len),
            disk_bytes: disk,
            first_at_ms: line.first_at_ms,
            last_at_ms: line.last_at_ms,
            blocks: 1,
            place: Place {
                first_line: number,
                last_line: number,
                crc: crc32c::crc32c(bytes),
            },
        });
    }

    /// Bytes that they take on disk, one more extent included.
    pub(crate) fn room(&self) -> u64 {
        (EXTENTS_HEAD + (self.all.len() + 1) * EXTENT_LEN) as u64
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(EXTENTS_HEAD + self.all.len() * EXTENT_LEN);
        out.extend_from_slice(&self.data_bytes.to_le_bytes());
        out.extend_from_slice(&self.damaged.to_le_bytes());
        out.extend_from_slice(&to_u32(self.all.len()).to_le_bytes());
        for extent in &self.all {
            extent.encode(&mut out);
        }
        out
    }

    /// Reads what [`SegmentExtents::encode`] wrote; nothing can be added to it.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut f = Fields::new(bytes);
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

/// The blocks of an extent, by the index of its segment (which begins at `index_at`). `None`: the
/// lines are not what they were.
pub(crate) fn entries(
    file: &dyn File,
    segment: u64,
    index_at: u64,
    stream: u64,
    place: &Place,
) -> io::Result<Option<Vec<Entry>>> {
    let wanted = stream.to_le_bytes();
    let mut found = Vec::new();
    let mut crc = 0;
    let mut buf = Vec::new();
    let mut at = place.first_line;
    while at <= place.last_line {
        let lines = (place.last_line - at + 1).min(LINES_AT_ONCE);
        buf.resize(lines as usize * LINE_LEN, 0);
        let offset = index_at + u64::from(at) * LINE_LEN as u64;
        if read_full(file, &mut buf, offset)? < buf.len() {
            return Ok(None);
        }
        for bytes in buf.chunks_exact(LINE_LEN) {
            // The number of the stream is the first field.
            if !bytes.starts_with(&wanted) {
                continue;
            }
            let Some(line) = Line::decode(&mut Fields::new(bytes)) else {
                return Ok(None);
            };
            if line.is_readable() {
                crc = crc32c::crc32c_append(crc, bytes);
                found.push(Entry::of(&line, segment));
            }
        }
        at += lines;
    }
    Ok((crc == place.crc).then_some(found))
}
