//! The single writer of a volume: appends the queued operations to the open segment, writes it,
//! syncs once, and publishes the result.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::active_segment::{ActiveSegment, FreeSpace, PendingBlock};
use crate::block::BlockKind;
use crate::bytefields::to_u32;
use crate::catalog::ControlBlock;
use crate::commit::CommitGroup;
use crate::config::SyncPolicy;
use crate::env::FileAccess;
use crate::io_failure::{WriteFailure, is_full, is_no_descriptor, is_scarce};
use crate::queue::WriteOp;
use crate::segment::{SegmentHeader, segment_name};
use crate::shared::SharedVolume;
use crate::table::{Segment, VolumeTable};
use crate::writer_state::{LogWriter, PreparedSegment};

fn pending_block(op: &WriteOp) -> Option<PendingBlock<'_>> {
    let (kind, first_seq, crc, block) = match op {
        WriteOp::Data {
            first_seq,
            crc,
            block,
        } => (BlockKind::Data, first_seq, crc, block),
        WriteOp::Relocated {
            first_seq,
            crc,
            block,
            ..
        } => (BlockKind::Relocated, first_seq, crc, block),
        WriteOp::Control(_) => return None,
    };
    Some(PendingBlock {
        kind,
        codec: block.codec,
        stream: block.stream.0,
        first_seq: *first_seq,
        records: block.records,
        raw_len: block.raw_len,
        first_at_ms: block.first_at_ms,
        last_at_ms: block.last_at_ms,
        crc: *crc,
        payload: &block.payload,
    })
}

impl LogWriter {
    /// Writes and syncs all operations, in as many segments as needed.
    #[tracing::instrument(name = "commit", level = "debug", skip_all, fields(operations = ops.len()))]
    pub(crate) fn commit(
        &mut self,
        shared: &SharedVolume,
        ops: &[WriteOp],
        group: &CommitGroup,
    ) -> Result<(), WriteFailure> {
        let data = |op: &WriteOp| !matches!(op, WriteOp::Control(_));
        let free_space = if ops.iter().any(data) {
            shared.data_space()
        } else {
            shared.control_space()
        };
        let mut done = 0;
        // Once a batch: spares are made again meanwhile.
        let mut freed_spares = false;
        while let Some(rest) = ops.get(done..).filter(|rest| !rest.is_empty()) {
            match self.commit_some(shared, rest, &free_space) {
                Ok(committed) => {
                    done += committed;
                    group.advance(done);
                }
                Err(WriteFailure::Full) if !freed_spares => {
                    freed_spares = true;
                    if !shared.segment_pool.free(&*shared.env) {
                        return Err(WriteFailure::Full);
                    }
                }
                Err(fail) => return Err(fail),
            }
        }
        Ok(())
    }

    /// Commits what fits into the open segment; 0 after the segment was sealed. A failure leaves
    /// nothing of the operations behind.
    fn commit_some(
        &mut self,
        shared: &SharedVolume,
        ops: &[WriteOp],
        free_space: &FreeSpace<'_>,
    ) -> Result<usize, WriteFailure> {
        let taken = self.fill(shared, ops)?;
        if taken == 0 {
            self.rotate(shared)?;
            return Ok(0);
        }
        if let Err(fail) = self.write(shared, free_space) {
            self.discard_batch(shared);
            return Err(fail);
        }
        self.publish(shared, ops.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    /// Adds operations to the open segment until it is full; returns their number.
    fn fill(&mut self, shared: &SharedVolume, ops: &[WriteOp]) -> Result<usize, WriteFailure> {
        let now_ms = shared.env.now_ms();
        let active = self.open_segment(shared)?;
        for (i, op) in ops.iter().enumerate() {
            let fits = match (pending_block(op), op) {
                (Some(pending), _) => active.push(&pending),
                (None, WriteOp::Control(control)) => push_control(active, shared, control, now_ms),
                (None, _) => true,
            };
            if !fits {
                return Ok(i);
            }
        }
        Ok(ops.len())
    }

    fn write(
        &mut self,
        shared: &SharedVolume,
        free_space: &FreeSpace<'_>,
    ) -> Result<(), WriteFailure> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let written = active.write(free_space)?;
        let started = shared.env.elapsed();
        let sync = shared.config.sync == SyncPolicy::Disk;
        if sync {
            active.sync()?;
        }
        self.last_sync = started;
        let took = shared.env.elapsed().saturating_sub(started);
        let mut counters = shared.counters.lock();
        counters.written_bytes += written;
        if sync {
            counters.syncs.record(took);
        }
        drop(counters);
        let mut queue = shared.queue.lock();
        queue.space.used += written;
        queue.space.open_left = active.allocated.saturating_sub(active.end);
        queue.space.free = queue.space.free.saturating_sub(written);
        Ok(())
    }

    /// Advances the watermark: makes the written blocks readable.
    fn publish(&mut self, shared: &SharedVolume, ops: &[WriteOp]) {
        let Some(active) = &mut self.active else {
            return;
        };
        // Without its entry a block would be acknowledged and not readable.
        assert_eq!(active.batch().len(), ops.len(), "one index entry a block");
        let mut blocks = 0;
        let mut frees = false;
        let loaded = shared.load_cut_entries(ops);
        let mut table = shared.committed.write();
        for (index_entry, op) in active.batch().iter().zip(ops) {
            match op {
                WriteOp::Data { .. } => {
                    table.append(index_entry, active.id);
                    blocks += 1;
                }
                WriteOp::Relocated { from, .. } => table.relocate(index_entry, *from, active.id),
                WriteOp::Control(control) => {
                    frees |= !matches!(
                        control,
                        ControlBlock::Declare { .. } | ControlBlock::Close { .. }
                    );
                    table.apply(control);
                }
            }
        }
        if let Some(segment) = table.segments.get_mut(&active.id) {
            segment.end = active.end;
            segment.file_len = active.allocated;
        }
        for stream in loaded {
            table.evict_entries(stream);
        }
        drop(table);
        active.finish_batch();
        shared.counters.lock().committed_blocks += blocks;
        if frees {
            shared.reclaim.store(true, Ordering::Relaxed);
        }
    }

    /// Drops the batch after a failure, so that nothing of it is written later.
    fn discard_batch(&mut self, shared: &SharedVolume) {
        let Some(active) = &mut self.active else {
            return;
        };
        if active.is_unwritten() {
            shared.committed.write().segments.remove(&active.id);
            // Best effort: recovery recognizes an empty segment.
            drop(shared.env.remove(&active.path));
            self.active = None;
        } else {
            active.discard_batch();
        }
    }

    /// The open segment; a new one if there is none.
    fn open_segment(&mut self, shared: &SharedVolume) -> Result<&mut ActiveSegment, WriteFailure> {
        if self.active.is_none() {
            let active = self.new_segment(shared)?;
            self.active = Some(active);
        }
        Ok(self.active.as_mut().expect("the segment was created above"))
    }

    fn new_segment(&mut self, shared: &SharedVolume) -> Result<ActiveSegment, WriteFailure> {
        let id = self.last_segment + 1;
        let path = shared.dir().join(segment_name(id));
        let failed = |source| match &source {
            e if is_full(e) => WriteFailure::Full,
            e if is_scarce(e) => WriteFailure::Scarce {
                path: path.clone(),
                source,
            },
            _ => WriteFailure::Io {
                during: "opening a segment",
                path: path.clone(),
                source,
            },
        };
        if u32::try_from(id).is_err() {
            return Err(failed(std::io::Error::other(
                "segment numbers are exhausted",
            )));
        }
        let PreparedSegment { file, allocated } = match self.prepared.take() {
            Some(prepared) => prepared,
            None => prepare(shared, &path).map_err(failed)?,
        };
        // Before the first block: if a crash restores the old name of a recycled file, it must not
        // hold blocks of the new segment.
        if let Err(e) = shared.env.sync_dir(shared.dir()) {
            // Without a descriptor the directory could not even be opened, so no sync of it has
            // failed.
            if !is_no_descriptor(&e) {
                return Err(WriteFailure::Io {
                    during: "syncing the directory",
                    path,
                    source: e,
                });
            }
            self.prepared = Some(PreparedSegment { file, allocated });
            return Err(failed(e));
        }
        self.last_segment = id;
        let mut table = shared.committed.write();
        let header = SegmentHeader {
            segment: id,
            volume: shared.volume,
            created_at_ms: shared.env.now_ms(),
        };
        let size = shared.config.segment_size;
        let active = ActiveSegment::new(
            file.clone(),
            path.clone(),
            &header,
            size,
            allocated,
            &table.catalog(),
        );
        let segment = Segment {
            file,
            end: 0,
            file_len: allocated,
            sealed: false,
            data_bytes: 0,
            live_blocks: 0,
            live_bytes: 0,
        };
        table.segments.insert(id, segment);
        drop(table);
        let mut queue = shared.queue.lock();
        queue.space.open_left = allocated;
        shared.refresh_free_space(&mut queue);
        drop(queue);
        Ok(active)
    }

    /// Seals the open segment; the next block opens another.
    pub(crate) fn rotate(&mut self, shared: &SharedVolume) -> Result<(), WriteFailure> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let (len, extents) = active.seal(&shared.control_space(), shared.env.now_ms())?;
        let mut table = shared.committed.write();
        if let Some(segment) = table.segments.get_mut(&active.id) {
            segment.sealed = true;
            segment.file_len = len;
            segment.file = shared
                .env
                .cache_read_only(&active.path, Arc::clone(&segment.file));
        }
        table.evict_segment_entries(active.id, &extents);
        drop(table);
        self.active = None;
        shared.reclaim.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// A recorded removal must be durable before the segment is removed.
    pub(crate) fn sync_for_reclaim(&mut self) -> Result<(), WriteFailure> {
        self.active.as_mut().map_or(Ok(()), ActiveSegment::sync)
    }
}

/// Prepares the file of the next segment: a spare, or else a new one.
fn prepare(shared: &SharedVolume, path: &Path) -> std::io::Result<PreparedSegment> {
    let spare = shared.segment_pool.take(shared.config.spare_segments);
    if shared.config.manual {
        let free_space = shared.data_space();
        shared
            .segment_pool
            .make(&free_space, shared.config.segment_size);
    }
    let Some(spare) = spare else {
        let file = shared.env.open(path, FileAccess::Create)?;
        return Ok(PreparedSegment { file, allocated: 0 });
    };
    let renamed = spare.file.len().and_then(|allocated| {
        shared.env.rename(&spare.path, path)?;
        Ok(allocated)
    });
    match renamed {
        Ok(allocated) => Ok(PreparedSegment {
            file: spare.file,
            allocated,
        }),
        Err(e) => {
            if is_scarce(&e) {
                shared.segment_pool.add(spare);
            }
            Err(e)
        }
    }
}

fn push_control(
    active: &mut ActiveSegment,
    shared: &SharedVolume,
    control: &ControlBlock,
    now_ms: i64,
) -> bool {
    let payload = encode_control(&shared.committed.read(), control);
    active.push(&PendingBlock {
        kind: BlockKind::Control,
        codec: 0,
        stream: control.stream(),
        first_seq: 0,
        records: 0,
        raw_len: to_u32(payload.len()),
        first_at_ms: now_ms,
        last_at_ms: now_ms,
        crc: crc32c::crc32c(&payload),
        payload: &payload.into(),
    })
}

/// Encodes a control block. A trim records how many of the freed records were lost, which only the
/// table knows.
fn encode_control(table: &VolumeTable, control: &ControlBlock) -> Vec<u8> {
    match control {
        ControlBlock::Trim { stream, up_to, .. } => {
            let lost = table
                .streams
                .get(stream)
                .map_or(0, |s| s.lost_below(*up_to));
            ControlBlock::Trim {
                stream: *stream,
                up_to: *up_to,
                lost_before: lost,
            }
            .encode()
        }
        other => other.encode(),
    }
}
