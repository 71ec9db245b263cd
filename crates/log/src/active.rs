//! The segment that is being written.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::block::{self, Header, Kind};
use crate::bytefields::{to_u32, to_usize};
use crate::catalog::Catalog;
use crate::env::{Env, File, write_all_vectored, write_full, write_zeroes};
use crate::extent::Extents;
use crate::index::{self, LINE_LEN, Line};
use crate::segment::{FOOT_LEN, HEAD_LEN, Head};

/// Why something could not be written.
#[derive(Debug)]
pub(crate) enum Fail {
    /// No room; nothing that was acknowledged is at risk.
    Full,
    /// The system had no descriptor or memory for a call that touches no data. Nothing was
    /// written; later it may succeed.
    Scarce { path: PathBuf, source: io::Error },
    /// The disk failed. Final.
    Io {
        during: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

/// Whether the file system says that it is full.
pub(crate) fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Whether the process or the system ran out of something that others give back: the disk has not
/// failed. Says nothing of a write or a sync of data, of which a part may be done.
pub(crate) fn is_scarce(e: &io::Error) -> bool {
    use rustix::io::Errno;
    const SCARCE: [Errno; 6] = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::INTR,
        Errno::AGAIN,
        Errno::NOBUFS,
    ];
    let errno = Errno::from_io_error(e);
    errno.is_some_and(|errno| SCARCE.contains(&errno))
        || e.kind() == io::ErrorKind::OutOfMemory
        || e.get_ref()
            .is_some_and(|e| e.is::<crate::resting::NotReopened>())
}

/// Whether the process or the system has as many files open as it may.
pub(crate) fn is_no_descriptor(e: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(e), Some(Errno::MFILE | Errno::NFILE))
}

/// A part of a catalog block is at most this long.
const CATALOG_PART: usize = 1 << 20;
/// Payloads up to here are copied beside their headers: one long slice is cheaper to write than
/// many short ones.
const COPY_BELOW: usize = 4 << 10;

/// A block, ready to be given a place.
pub(crate) struct Draft<'a> {
    pub(crate) kind: Kind,
    pub(crate) codec: u8,
    pub(crate) stream: u64,
    pub(crate) first_seq: u64,
    pub(crate) records: u32,
    pub(crate) raw_len: u32,
    pub(crate) first_at_ms: i64,
    pub(crate) last_at_ms: i64,
    pub(crate) crc: u32,
    pub(crate) payload: &'a Bytes,
}

enum Piece {
    Copied(std::ops::Range<usize>),
    Shared(Bytes),
}

/// The open segment, and what is to be written to it next.
pub(crate) struct Active {
    pub(crate) id: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    /// It is sealed before it grows over this.
    capacity: u64,
    /// Bytes of the file that have their place on the disk.
    pub(crate) allocated: u64,
    /// Where the next block goes, those of the batch included.
    pub(crate) end: u64,
    /// What is on its way to the disk starts here.
    start: u64,
    synced: u64,
    /// Nothing but the catalog is in it.
    fresh: bool,
    /// The index of what is written and of the batch, as it will stand on disk.
    index: Vec<u8>,
    extents: Extents,
    /// Lines of the batch's blocks, in order.
    batch: Vec<Line>,
    scratch: Vec<u8>,
    pieces: Vec<Piece>,
    /// Where the run of copied bytes that is still growing began.
    run: usize,
}

impl Active {
    pub(crate) fn new(
        file: Arc<dyn File>,
        path: PathBuf,
        head: &Head,
        segment_size: u64,
        allocated: u64,
        catalog: &Catalog,
    ) -> Self {
        let mut active = Self {
            id: head.segment,
            path,
            file,
            capacity: segment_size,
            allocated,
            end: HEAD_LEN as u64,
            start: 0,
            synced: 0,
            fresh: true,
            index: Vec::new(),
            extents: Extents::default(),
            batch: Vec::new(),
            scratch: head.encode().to_vec(),
            pieces: Vec::new(),
            run: 0,
        };
        active.push_catalog(catalog, head.created_at_ms);
        // Where there are very many streams, there must be room for blocks beside the catalog.
        active.capacity = active
            .capacity
            .max(active.end.saturating_mul(2).min(3 << 30));
        active
    }

    /// The catalog, twice: the names of all streams must not hang on one sector.
    fn push_catalog(&mut self, catalog: &Catalog, now_ms: i64) {
        let bytes = Bytes::from(catalog.encode());
        let parts = to_u32(bytes.len().div_ceil(CATALOG_PART));
        for copy in 0..2 {
            for part in 0..parts {
                let from = part as usize * CATALOG_PART;
                let payload = bytes.slice(from..bytes.len().min(from + CATALOG_PART));
                self.place(&Draft {
                    kind: Kind::Catalog,
                    codec: copy,
                    stream: 0,
                    first_seq: u64::from(part),
                    records: parts,
                    raw_len: to_u32(payload.len()),
                    first_at_ms: now_ms,
                    last_at_ms: now_ms,
                    crc: crc32c::crc32c(&payload),
                    payload: &payload,
                });
            }
        }
        self.batch.clear();
    }

    fn lines(&self) -> usize {
        self.index.len() / LINE_LEN
    }

    /// Takes a block into the batch; `false` when the segment is too full for it.
    pub(crate) fn push(&mut self, draft: &Draft<'_>) -> bool {
        let end = self.end + block::block_len(draft.payload.len());
        let needed = end + index::seal_len(self.lines() + 1, &self.extents);
        if needed > self.capacity {
            let alone = self.fresh && self.batch.is_empty();
            if !alone {
                return false;
            }
            // Larger than a segment: it gets one of its own.
            self.capacity = needed;
        }
        self.place(draft);
        true
    }

    fn place(&mut self, draft: &Draft<'_>) {
        let header = Header {
            kind: draft.kind,
            codec: draft.codec,
            stream: draft.stream,
            first_seq: draft.first_seq,
            records: draft.records,
            raw_len: draft.raw_len,
            stored_len: to_u32(draft.payload.len()),
            payload_crc: draft.crc,
            first_at_ms: draft.first_at_ms,
            last_at_ms: draft.last_at_ms,
            segment: self.id,
            offset: to_u32(to_usize(self.end)),
            synced_to: to_u32(to_usize(self.synced)),
        };
        header.encode(&mut self.scratch);
        if draft.payload.len() <= COPY_BELOW {
            self.scratch.extend_from_slice(draft.payload);
        } else {
            self.pieces
                .push(Piece::Copied(self.run..self.scratch.len()));
            self.pieces.push(Piece::Shared(draft.payload.clone()));
            self.run = self.scratch.len();
        }
        let padding = block::padding(draft.payload.len());
        self.scratch.resize(self.scratch.len() + padding, 0);
        let line = Line::of(&header, false);
        let at = self.index.len();
        line.encode(&mut self.index);
        self.extents
            .add(&line, self.index.get(at..).unwrap_or_default());
        self.batch.push(line);
        self.end += header.block_len();
    }

    /// Lines of the batch's blocks, in order.
    pub(crate) fn batch(&self) -> &[Line] {
        &self.batch
    }

    /// Writes the batch. Space is made first: a full disk is met before a block is touched.
    pub(crate) fn write(&mut self, room: &Room<'_>) -> Result<u64, Fail> {
        self.allocate(
            self.end + index::seal_len(self.lines(), &self.extents),
            room,
        )?;
        self.pieces
            .push(Piece::Copied(self.run..self.scratch.len()));
        let mut slices: Vec<IoSlice<'_>> = self
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Copied(range) => {
                    IoSlice::new(self.scratch.get(range.clone()).unwrap_or_default())
                }
                Piece::Shared(bytes) => IoSlice::new(bytes),
            })
            .collect();
        write_all_vectored(&*self.file, &mut slices, self.start)
            .map_err(|source| self.failed("writing blocks", source))?;
        let written = self.end - self.start;
        self.start = self.end;
        self.scratch.clear();
        self.scratch.shrink_to(1 << 20);
        self.pieces.clear();
        self.run = 0;
        Ok(written)
    }

    /// Makes durable what was written.
    pub(crate) fn sync(&mut self) -> Result<(), Fail> {
        let synced = self.file.sync_data();
        synced.map_err(|source| self.failed("syncing blocks", source))?;
        self.synced = self.start;
        Ok(())
    }

    /// What was written belongs to the segment now.
    pub(crate) fn settle(&mut self) {
        self.fresh = self.fresh && self.batch.is_empty();
        self.batch.clear();
    }

    /// Gives the blocks of the batch up; none was written.
    pub(crate) fn abandon(&mut self) {
        // The head and catalog of a fresh segment must stay in the scratch buffer, and sorting
        // that out is not worth it: the writer drops a fresh segment as a whole.
        let kept = self.lines() - self.batch.len();
        self.index.truncate(kept * LINE_LEN);
        self.batch.clear();
        self.extents = Extents::of(&index::lines(&self.index).unwrap_or_default());
        self.scratch.clear();
        self.pieces.clear();
        self.run = 0;
        self.end = self.start;
    }

    /// Whether not even its catalog was written.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.start == 0
    }

    fn allocate(&mut self, to: u64, room: &Room<'_>) -> Result<(), Fail> {
        if to <= self.allocated {
            return Ok(());
        }
        let mut target = (self.allocated + room.step).min(self.capacity).max(to);
        if let Some(free) = room.free() {
            if free < to - self.allocated {
                return Err(Fail::Full);
            }
            // More than is needed now only of what records may have: else a change, which may take
            // the last that there is, would leave room behind in which records are taken again.
            let spare = room.spare.map_or(free, |keep| free.saturating_sub(keep));
            target = target.min(self.allocated + spare).max(to);
        }
        // Zeroes keep metadata out of the syncs of many small batches. What a large batch is about
        // to write over is not worth writing twice.
        let large = to - self.allocated >= room.step;
        let made = if large {
            self.file.allocate(self.allocated, target)
        } else {
            write_zeroes(&*self.file, self.allocated, target)
        };
        match made {
            Ok(()) => {
                self.allocated = target;
                Ok(())
            }
            Err(e) if is_full(&e) => Err(Fail::Full),
            // The space is behind all blocks, so none of them can have been hurt.
            Err(source) if is_scarce(&source) => Err(self.scarce(source)),
            Err(source) => Err(self.failed("preallocating", source)),
        }
    }

    /// Writes index, extents and foot. Space that nobody used is given back if it is much. The
    /// length of the file, and the extents.
    pub(crate) fn seal(&mut self, room: &Room<'_>, now_ms: i64) -> Result<(u64, Extents), Fail> {
        let full = self.end + index::seal_len(self.lines(), &self.extents);
        self.allocate(full, room)?;
        let (extents, foot) = index::encode(&self.index, &self.extents, self.id, self.end, now_ms);
        let much = self.allocated - full > self.capacity / 8;
        let len = if much { full } else { self.allocated };
        if much {
            let cut = self.file.set_len(len);
            cut.map_err(|e| match is_scarce(&e) {
                true => self.scarce(e),
                false => self.failed("sealing a segment", e),
            })?;
            self.allocated = len;
        }
        let sealed = (|| {
            let mut tail = [IoSlice::new(&self.index), IoSlice::new(&extents)];
            write_all_vectored(&*self.file, &mut tail, self.end)?;
            write_full(&*self.file, &foot, len - FOOT_LEN as u64)?;
            self.file.sync_data()
        })();
        sealed.map_err(|source| self.failed("sealing a segment", source))?;
        Ok((len, std::mem::take(&mut self.extents)))
    }

    fn scarce(&self, source: io::Error) -> Fail {
        Fail::Scarce {
            path: self.path.clone(),
            source,
        }
    }

    fn failed(&self, during: &'static str, source: io::Error) -> Fail {
        Fail::Io {
            during,
            path: self.path.clone(),
            source,
        }
    }
}

/// What preallocation needs to know.
pub(crate) struct Room<'a> {
    pub(crate) env: &'a dyn Env,
    pub(crate) dir: &'a std::path::Path,
    pub(crate) step: u64,
    pub(crate) min_free: u64,
    /// Bytes beside those that are not taken ahead of need.
    pub(crate) spare: Option<u64>,
}

impl Room<'_> {
    /// Bytes that may be taken from the file system; `None`: it doesn't say.
    pub(crate) fn free(&self) -> Option<u64> {
        let free = self.env.free_bytes(self.dir).ok()?;
        Some(free.saturating_sub(self.min_free))
    }
}
