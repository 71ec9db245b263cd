//! Reclaiming disk space: dead segments are freed, nearly dead ones compacted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::block::BlockKind;
use crate::catalog::ControlBlock;
use crate::commit::CommitGroup;
use crate::config::SyncPolicy;
use crate::env::{EnvFile, FileAccess};
use crate::io_failure::{WriteFailure, is_scarce};
use crate::queue::{NewBlock, WriteOp, WriterState};
use crate::read::read_entry;
use crate::scan;
use crate::segment::segment_name;
use crate::segment_pool::SpareSegment;
use crate::shared::SharedVolume;
use crate::stream::StreamId;
use crate::table::{BlockEntry, Segment, VolumeTable};
use crate::writer_state::LogWriter;

/// Bytes copied forward between two commits: what an append may have to wait for.
const COPY_STEP: u64 = 4 << 20;
/// Small segments, which restarts leave behind, are joined once there are this many.
const MANY_SMALL: usize = 8;
/// A small segment is below this part of the segment size.
const SMALL: u64 = 16;

impl LogWriter {
    /// Reclaims space until nothing is left to do or an append waits.
    pub(crate) fn reclaim(&mut self, shared: &SharedVolume) {
        while shared.reclaim.load(Ordering::Relaxed) {
            match self.reclaim_some(shared) {
                Ok(true) => {}
                // Nothing left to reclaim, or no space to do it in: wait for the next trim.
                Ok(false) | Err(WriteFailure::Full | WriteFailure::Scarce { .. }) => {
                    shared.reclaim.store(false, Ordering::Relaxed);
                }
                Err(WriteFailure::Io {
                    during,
                    path,
                    source,
                }) => {
                    shared.latch(during, &format!("{}: {source}", path.display()));
                    return;
                }
            }
            let queue = shared.queue.lock();
            if !queue.ops.is_empty() || queue.writer_state != WriterState::Running {
                return;
            }
        }
    }

    /// Does one step; `false` when there was nothing to do.
    fn reclaim_some(&mut self, shared: &SharedVolume) -> Result<bool, WriteFailure> {
        let dead = dead(&shared.committed.read());
        if !dead.is_empty() {
            self.remove(shared, &dead)?;
            return Ok(true);
        }
        let candidate = compaction_candidate(&shared.committed.read(), shared);
        match candidate {
            Some((id, file)) => self.copy_forward(shared, id, &*file).map(|()| true),
            None => self.seal_dead_segment(shared),
        }
    }

    /// Seals the open segment when nothing in it is alive and the volume has hardly any space left
    /// for records: where a disk or `max_bytes` is smaller than a segment, only this segment can
    /// free space.
    fn seal_dead_segment(&mut self, shared: &SharedVolume) -> Result<bool, WriteFailure> {
        let Some(active) = &self.active else {
            return Ok(false);
        };
        let is_dead = {
            let table = shared.committed.read();
            let segment = table.segments.get(&active.id);
            segment.is_some_and(|s| s.live_blocks == 0 && s.data_bytes > 0)
        };
        if !is_dead {
            return Ok(false);
        }
        let max = shared.config.max_bytes;
        let available = {
            let mut queue = shared.queue.lock();
            shared.refresh_free_space(&mut queue);
            queue.available(max)
        };
        let enough = match max {
            0 => shared.reserve(),
            max => shared.reserve().min(max / 4),
        };
        if available >= enough {
            return Ok(false);
        }
        self.rotate(shared)?;
        Ok(true)
    }

    /// Removes segments. The removal is recorded first, so that a segment that is missing without a
    /// record is known to be lost.
    fn remove(&mut self, shared: &SharedVolume, dead: &[u64]) -> Result<(), WriteFailure> {
        let files: Vec<(u64, u64, Arc<dyn EnvFile>)> = {
            let table = shared.committed.read();
            let found = dead
                .iter()
                .filter_map(|id| Some((*id, table.segments.get(id)?)));
            found
                .map(|(id, s)| (id, s.file_len, s.file.clone()))
                .collect()
        };
        let drops: Vec<WriteOp> = dead
            .iter()
            .map(|&segment| WriteOp::Control(ControlBlock::Drop { segment }))
            .collect();
        self.commit(shared, &drops, &CommitGroup::default())?;
        if shared.config.sync != SyncPolicy::Disk {
            self.sync_for_reclaim()?;
        }
        for (id, len, file) in files {
            let is_read = Arc::strong_count(&file) > 1;
            if is_read {
                // Otherwise a reader finds the file removed, and may retry.
                drop(file.keep_open());
            }
            let is_free = !is_read && !file.is_read_elsewhere();
            drop(file);
            self.free_file(shared, id, is_free && len == shared.config.segment_size)?;
        }
        let used = shared.committed.read().used();
        let mut queue = shared.queue.lock();
        queue.space.used = used;
        shared.refresh_free_space(&mut queue);
        drop(queue);
        shared.counters.lock().reclaimed_segments += dead.len() as u64;
        Ok(())
    }

    /// Keeps the file as a spare if no reader has it open, or removes it. A reader that has it open
    /// can go on reading it.
    fn free_file(&self, shared: &SharedVolume, id: u64, is_free: bool) -> Result<(), WriteFailure> {
        let path = shared.dir().join(segment_name(id));
        let adopted = match is_free {
            true => shared.segment_pool.adopt(shared.dir(), shared.recycled()),
            false => None,
        };
        let done = match &adopted {
            Some(spare) => shared.env.rename(&path, spare),
            None => shared.env.remove(&path),
        };
        match done {
            Ok(()) => {
                if let Some(path) = adopted {
                    match shared.env.open(&path, FileAccess::Write) {
                        Ok(file) => shared.segment_pool.add(SpareSegment { path, file }),
                        // Losing a spare is harmless.
                        Err(_) => drop(shared.env.remove(&path)),
                    }
                }
                Ok(())
            }
            // The removal is recorded: the next opening removes the file.
            Err(e) if is_scarce(&e) => Ok(()),
            Err(source) => Err(WriteFailure::Io {
                during: "removing a segment",
                path,
                source,
            }),
        }
    }

    /// Copies some live blocks of a segment into the open one.
    fn copy_forward(
        &mut self,
        shared: &SharedVolume,
        id: u64,
        file: &dyn EnvFile,
    ) -> Result<(), WriteFailure> {
        let path = shared.dir().join(segment_name(id));
        let failed = |source| match is_scarce(&source) {
            true => WriteFailure::Scarce {
                path: path.clone(),
                source,
            },
            false => WriteFailure::Io {
                during: "reading a segment",
                path: path.clone(),
                source,
            },
        };
        let scan = scan::segment(file, id).map_err(failed)?;
        let mut ops = Vec::new();
        let mut bytes = 0;
        for index_entry in scan
            .index_entries
            .iter()
            .filter(|l| matches!(l.kind, BlockKind::Data | BlockKind::Relocated))
        {
            let entry = BlockEntry::from_index_entry(index_entry, id);
            if !is_live(&shared.committed.read(), index_entry.stream, &entry) {
                continue;
            }
            ops.push(copy(file, index_entry.stream, &entry, id).map_err(failed)?);
            bytes += entry.disk_len();
            if bytes >= COPY_STEP {
                break;
            }
        }
        if ops.is_empty() {
            // The index lacks the blocks that the table has: copying can't free this segment.
            return Err(WriteFailure::Full);
        }
        let live = |id| {
            let table = shared.committed.read();
            table.segments.get(&id).map(|s| s.live_blocks)
        };
        let before = live(id);
        self.commit(shared, &ops, &CommitGroup::default())?;
        shared.counters.lock().relocated_blocks += ops.len() as u64;
        // The table did not accept the copies (their entries can't be read): don't retry forever.
        if live(id) == before {
            return Err(WriteFailure::Full);
        }
        Ok(())
    }
}

/// Returns the copy of a block, or a loss record if it can't be read.
fn copy(
    file: &dyn EnvFile,
    stream: u64,
    entry: &BlockEntry,
    from: u64,
) -> std::io::Result<WriteOp> {
    let Some(block) = read_entry(file, stream, entry)? else {
        return Ok(WriteOp::Control(ControlBlock::Lost {
            stream,
            range: entry.range(),
        }));
    };
    let payload: Bytes = block.payload;
    Ok(WriteOp::Relocated {
        from,
        first_seq: block.first_seq,
        crc: crc32c::crc32c(&payload),
        block: NewBlock {
            stream: StreamId(stream),
            records: block.records,
            codec: block.codec,
            raw_len: block.raw_len,
            first_at_ms: block.first_at_ms,
            last_at_ms: block.last_at_ms,
            payload,
        },
    })
}

fn is_live(table: &VolumeTable, stream: u64, entry: &BlockEntry) -> bool {
    let block_range = table
        .streams
        .get(&stream)
        .and_then(|stream| stream.block_range_at(entry.first_seq));
    block_range.is_some_and(|range| {
        let whole = range.within(&entry.range()) || entry.end_seq() <= range.end_seq;
        let listed = range
            .entries
            .as_ref()
            .is_none_or(|entries| entries.contains(entry));
        range.segment == entry.segment && whole && listed
    })
}

/// Sealed segments without live blocks.
fn dead(table: &VolumeTable) -> Vec<u64> {
    let free = |s: &Segment| s.sealed && s.live_blocks == 0;
    table
        .segments
        .iter()
        .filter(|(_, s)| free(s))
        .map(|(id, _)| *id)
        .collect()
}

/// A sealed segment worth copying: nearly dead, or one of many small ones.
///
/// Compaction must terminate. A nearly dead segment frees at least as much as is copied, and each
/// copy is written once more for it; joining small ones reduces their number.
fn compaction_candidate(
    table: &VolumeTable,
    shared: &SharedVolume,
) -> Option<(u64, Arc<dyn EnvFile>)> {
    let size = shared.config.segment_size;
    let limit = size / 100 * u64::from(shared.config.compact_below_percent);
    let sealed = || table.segments.iter().filter(|(_, s)| s.sealed);
    let nearly_dead =
        sealed().find(|(_, s)| s.live_bytes < limit && s.live_bytes * 2 <= s.data_bytes);
    let small = || {
        let mut small = sealed().filter(|(_, s)| s.end < size / SMALL);
        let first = small.next()?;
        (small.count() + 1 >= MANY_SMALL && limit > 0).then_some(first)
    };
    let (id, segment) = nearly_dead.or_else(small)?;
    Some((*id, segment.file.clone()))
}
