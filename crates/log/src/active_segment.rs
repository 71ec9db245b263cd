//! The open segment: batching, writing, syncing and sealing.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::bytefields::{to_u32, to_usize};
use crate::catalog::Catalog;
use crate::env::{Env, EnvFile, write_all_vectored, write_full, write_zeroes};
use crate::extent::SegmentExtents;
use crate::index::{self, INDEX_ENTRY_LEN, IndexEntry};
use crate::io_failure::{WriteFailure, is_full, is_scarce};
use crate::segment::{SEGMENT_FOOTER_LEN, SEGMENT_HEADER_LEN, SegmentHeader};
use crate::{
    block::{self, BlockHeader, BlockKind},
    extent,
};

/// Maximum length of a part of a catalog block.
const CATALOG_PART: usize = 1 << 20;
/// Payloads up to this size are copied beside their headers: one long slice is cheaper to write
/// than many short ones.
const COPY_BELOW: usize = 4 << 10;

/// A block that has no position yet.
pub(crate) struct PendingBlock<'a> {
    pub(crate) kind: BlockKind,
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

enum WriteChunk {
    Copied(std::ops::Range<usize>),
    Shared(Bytes),
}

/// The open segment and the batch to write next.
pub(crate) struct ActiveSegment {
    pub(crate) id: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn EnvFile>,
    /// The segment is sealed before it grows beyond this.
    capacity: u64,
    /// Bytes of the file with allocated disk space.
    pub(crate) allocated: u64,
    /// Offset of the next block, behind those of the batch.
    pub(crate) end: u64,
    /// Start of the unwritten bytes.
    start: u64,
    synced: u64,
    /// Only the catalog is in it.
    fresh: bool,
    /// The index of the written blocks and the batch, as encoded on disk.
    index: Vec<u8>,
    extents: SegmentExtents,
    /// Entries of the batch's blocks, in order.
    batch: Vec<IndexEntry>,
    scratch: Vec<u8>,
    chunks: Vec<WriteChunk>,
    /// Start of the range of copied bytes that still grows.
    copied_from: usize,
}

impl ActiveSegment {
    pub(crate) fn new(
        file: Arc<dyn EnvFile>,
        path: PathBuf,
        header: &SegmentHeader,
        segment_size: u64,
        allocated: u64,
        catalog: &Catalog,
    ) -> Self {
        let mut active = Self {
            id: header.segment,
            path,
            file,
            capacity: segment_size,
            allocated,
            end: SEGMENT_HEADER_LEN as u64,
            start: 0,
            synced: 0,
            fresh: true,
            index: Vec::new(),
            extents: SegmentExtents::default(),
            batch: Vec::new(),
            scratch: header.encode().to_vec(),
            chunks: Vec::new(),
            copied_from: 0,
        };
        active.push_catalog(catalog, header.created_at_ms);
        // With very many streams there must be space for blocks beside the catalog.
        active.capacity = active
            .capacity
            .max(active.end.saturating_mul(2).min(3 << 30));
        active
    }

    /// Writes the catalog twice: the names of all streams must not depend on one sector.
    fn push_catalog(&mut self, catalog: &Catalog, now_ms: i64) {
        let bytes = Bytes::from(catalog.encode());
        let parts = to_u32(bytes.len().div_ceil(CATALOG_PART));
        for copy in 0..2 {
            for part in 0..parts {
                let from = part as usize * CATALOG_PART;
                let payload = bytes.slice(from..bytes.len().min(from + CATALOG_PART));
                self.append_block(&PendingBlock {
                    kind: BlockKind::Catalog,
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

    fn entry_count(&self) -> usize {
        self.index.len() / INDEX_ENTRY_LEN
    }

    /// Adds a block to the batch; `false` when the segment is too full for it.
    pub(crate) fn push(&mut self, pending: &PendingBlock<'_>) -> bool {
        let end = self.end + block::block_len(pending.payload.len());
        let needed = end + extent::seal_len(self.entry_count() + 1, &self.extents);
        if needed > self.capacity {
            let alone = self.fresh && self.batch.is_empty();
            if !alone {
                return false;
            }
            // Larger than a segment: the block gets one of its own.
            self.capacity = needed;
        }
        self.append_block(pending);
        true
    }

    fn append_block(&mut self, pending: &PendingBlock<'_>) {
        let header = BlockHeader {
            kind: pending.kind,
            codec: pending.codec,
            stream: pending.stream,
            first_seq: pending.first_seq,
            records: pending.records,
            raw_len: pending.raw_len,
            stored_len: to_u32(pending.payload.len()),
            payload_crc: pending.crc,
            first_at_ms: pending.first_at_ms,
            last_at_ms: pending.last_at_ms,
            segment: self.id,
            offset: to_u32(to_usize(self.end)),
            synced_to: to_u32(to_usize(self.synced)),
        };
        header.encode(&mut self.scratch);
        if pending.payload.len() <= COPY_BELOW {
            self.scratch.extend_from_slice(pending.payload);
        } else {
            self.chunks
                .push(WriteChunk::Copied(self.copied_from..self.scratch.len()));
            self.chunks
                .push(WriteChunk::Shared(pending.payload.clone()));
            self.copied_from = self.scratch.len();
        }
        let padding = block::padding(pending.payload.len());
        self.scratch.resize(self.scratch.len() + padding, 0);
        let index_entry = IndexEntry::from_header(&header, false);
        let entry_start = self.index.len();
        index_entry.encode(&mut self.index);
        self.extents.add(
            &index_entry,
            self.index.get(entry_start..).unwrap_or_default(),
        );
        self.batch.push(index_entry);
        self.end += header.block_len();
    }

    /// Entries of the batch's blocks, in order.
    pub(crate) fn batch(&self) -> &[IndexEntry] {
        &self.batch
    }

    /// Writes the batch. Space is allocated first, so a full disk is detected before a block is
    /// touched.
    pub(crate) fn write(&mut self, free_space: &FreeSpace<'_>) -> Result<u64, WriteFailure> {
        self.allocate(
            self.end + extent::seal_len(self.entry_count(), &self.extents),
            free_space,
        )?;
        self.chunks
            .push(WriteChunk::Copied(self.copied_from..self.scratch.len()));
        let mut slices: Vec<IoSlice<'_>> = self
            .chunks
            .iter()
            .map(|chunk| match chunk {
                WriteChunk::Copied(range) => {
                    IoSlice::new(self.scratch.get(range.clone()).unwrap_or_default())
                }
                WriteChunk::Shared(bytes) => IoSlice::new(bytes),
            })
            .collect();
        write_all_vectored(&*self.file, &mut slices, self.start)
            .map_err(|source| self.failed("writing blocks", source))?;
        let written = self.end - self.start;
        self.start = self.end;
        self.scratch.clear();
        self.scratch.shrink_to(1 << 20);
        self.chunks.clear();
        self.copied_from = 0;
        Ok(written)
    }

    /// Makes the written blocks durable.
    pub(crate) fn sync(&mut self) -> Result<(), WriteFailure> {
        let synced = self.file.sync_data();
        synced.map_err(|source| self.failed("syncing blocks", source))?;
        self.synced = self.start;
        Ok(())
    }

    /// Makes the written batch part of the segment.
    pub(crate) fn finish_batch(&mut self) {
        self.fresh = self.fresh && self.batch.is_empty();
        self.batch.clear();
    }

    /// Discards the unwritten batch.
    pub(crate) fn discard_batch(&mut self) {
        // The header and catalog of a fresh segment are in the scratch buffer too, and are not
        // worth separating: the writer drops a fresh segment as a whole.
        let remaining = self.entry_count() - self.batch.len();
        self.index.truncate(remaining * INDEX_ENTRY_LEN);
        self.batch.clear();
        self.extents =
            SegmentExtents::from_entries(&index::decode_entries(&self.index).unwrap_or_default());
        self.scratch.clear();
        self.chunks.clear();
        self.copied_from = 0;
        self.end = self.start;
    }

    /// Whether not even the catalog was written.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.start == 0
    }

    fn allocate(&mut self, to: u64, free_space: &FreeSpace<'_>) -> Result<(), WriteFailure> {
        if to <= self.allocated {
            return Ok(());
        }
        let mut target = (self.allocated + free_space.step)
            .min(self.capacity)
            .max(to);
        if let Some(free) = free_space.free() {
            if free < to - self.allocated {
                return Err(WriteFailure::Full);
            }
            // Preallocate more than needed only from the space for records: otherwise a control
            // block, which may use the last space, would leave preallocated space in which records
            // are accepted again.
            let spare = free_space
                .spare
                .map_or(free, |keep| free.saturating_sub(keep));
            target = target.min(self.allocated + spare).max(to);
        }
        // Zeroes keep metadata out of the syncs of many small batches. A large batch is about to
        // overwrite the range: not worth writing twice.
        let large = to - self.allocated >= free_space.step;
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
            Err(e) if is_full(&e) => Err(WriteFailure::Full),
            // The space is behind all blocks, so none of them is affected.
            Err(source) if is_scarce(&source) => Err(self.scarce(source)),
            Err(source) => Err(self.failed("preallocating", source)),
        }
    }

    /// Writes index, extents and footer, and frees unused space if it is much. Returns the length
    /// of the file and the extents.
    pub(crate) fn seal(
        &mut self,
        free_space: &FreeSpace<'_>,
        now_ms: i64,
    ) -> Result<(u64, SegmentExtents), WriteFailure> {
        let full = self.end + extent::seal_len(self.entry_count(), &self.extents);
        self.allocate(full, free_space)?;
        let (extents, footer) =
            extent::encode_footer(&self.index, &self.extents, self.id, self.end, now_ms);
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
            write_full(&*self.file, &footer, len - SEGMENT_FOOTER_LEN as u64)?;
            self.file.sync_data()
        })();
        sealed.map_err(|source| self.failed("sealing a segment", source))?;
        Ok((len, std::mem::take(&mut self.extents)))
    }

    fn scarce(&self, source: io::Error) -> WriteFailure {
        WriteFailure::Scarce {
            path: self.path.clone(),
            source,
        }
    }

    fn failed(&self, during: &'static str, source: io::Error) -> WriteFailure {
        WriteFailure::Io {
            during,
            path: self.path.clone(),
            source,
        }
    }
}

/// Parameters of preallocation.
pub(crate) struct FreeSpace<'a> {
    pub(crate) env: &'a dyn Env,
    pub(crate) dir: &'a std::path::Path,
    pub(crate) step: u64,
    pub(crate) min_free: u64,
    /// Bytes to spare when allocating ahead of need.
    pub(crate) spare: Option<u64>,
}

impl FreeSpace<'_> {
    /// Bytes that may be allocated in the file system; `None`: unknown.
    pub(crate) fn free(&self) -> Option<u64> {
        let free = self.env.free_bytes(self.dir).ok()?;
        Some(free.saturating_sub(self.min_free))
    }
}
