//! The one writer of a volume: puts what waits into the open segment, writes it, syncs once, and
//! publishes it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::active::{Active, Draft, Fail, Room, is_full, is_no_descriptor, is_scarce};
use crate::block::Kind;
use crate::bytefields::to_u32;
use crate::catalog::Control;
use crate::commit::Group;
use crate::config::SyncMode;
use crate::env::{Access, File};
use crate::queue::{Op, lock};
use crate::segment::{Head, segment_name};
use crate::shared::Shared;
use crate::table::{Segment, Table};

/// What only the writer touches.
pub(crate) struct Writer {
    pub(crate) active: Option<Active>,
    pub(crate) last_segment: u64,
    pub(crate) last_sync: Duration,
    /// The file of the next segment, which has its name already: something that came after was
    /// scarce. It is gone on with.
    prepared: Option<Prepared>,
}

/// The file of a segment that nothing was written to.
struct Prepared {
    file: Arc<dyn File>,
    allocated: u64,
}

impl Writer {
    pub(crate) fn new(last_segment: u64) -> Self {
        Self {
            active: None,
            last_segment,
            last_sync: Duration::ZERO,
            prepared: None,
        }
    }
}

/// A block's draft.
fn draft(op: &Op) -> Option<Draft<'_>> {
    let (kind, first_seq, crc, block) = match op {
        Op::Data {
            first_seq,
            crc,
            block,
        } => (Kind::Data, first_seq, crc, block),
        Op::Moved {
            first_seq,
            crc,
            block,
            ..
        } => (Kind::Moved, first_seq, crc, block),
        Op::Control(_) => return None,
    };
    Some(Draft {
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

impl Writer {
    /// Writes and syncs all of it, in as many segments as it takes.
    pub(crate) fn commit(
        &mut self,
        shared: &Shared,
        ops: &[Op],
        group: &Group,
    ) -> Result<(), Fail> {
        let data = |op: &Op| !matches!(op, Op::Control(_));
        let room = if ops.iter().any(data) {
            shared.space_room()
        } else {
            shared.change_room()
        };
        let mut done = 0;
        while let Some(rest) = ops.get(done..).filter(|rest| !rest.is_empty()) {
            let taken = self.fill(shared, rest)?;
            if taken == 0 {
                self.rotate(shared)?;
                continue;
            }
            if let Err(fail) = self.write(shared, &room) {
                self.give_up_batch(shared);
                return Err(fail);
            }
            self.publish(shared, rest.get(..taken).unwrap_or_default());
            done += taken;
            group.advance(done);
        }
        Ok(())
    }

    /// Puts as many as fit into the open segment.
    fn fill(&mut self, shared: &Shared, ops: &[Op]) -> Result<usize, Fail> {
        let now_ms = shared.env.now_ms();
        let active = self.open_segment(shared)?;
        for (i, op) in ops.iter().enumerate() {
            let fits = match (draft(op), op) {
                (Some(draft), _) => active.push(&draft),
                (None, Op::Control(control)) => push_control(active, shared, control, now_ms),
                (None, _) => true,
            };
            if !fits {
                return Ok(i);
            }
        }
        Ok(ops.len())
    }

    fn write(&mut self, shared: &Shared, room: &Room<'_>) -> Result<(), Fail> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let written = active.write(room)?;
        let started = shared.env.elapsed();
        let sync = shared.config.sync == SyncMode::Disk;
        if sync {
            active.sync()?;
        }
        self.last_sync = started;
        let took = shared.env.elapsed().saturating_sub(started);
        let mut meters = lock(&shared.meters);
        meters.written_bytes += written;
        if sync {
            meters.syncs.record(took);
        }
        drop(meters);
        let mut queue = lock(&shared.queue);
        queue.space.used += written;
        queue.space.open_left = active.allocated.saturating_sub(active.end);
        queue.space.room = queue.space.room.saturating_sub(written);
        Ok(())
    }

    /// Moves the watermark: what was written can be read.
    fn publish(&mut self, shared: &Shared, ops: &[Op]) {
        let Some(active) = &mut self.active else {
            return;
        };
        let mut blocks = 0;
        let mut frees = false;
        let unfolded = shared.unfold(ops);
        let mut table = shared.store.write();
        for (line, op) in active.batch().iter().zip(ops) {
            match op {
                Op::Data { .. } => {
                    table.append(line, active.id);
                    blocks += 1;
                }
                Op::Moved { from, .. } => table.relocate(line, *from, active.id),
                Op::Control(control) => {
                    frees |= !matches!(control, Control::Declare { .. } | Control::Close { .. });
                    table.apply(control);
                }
            }
        }
        if let Some(segment) = table.segments.get_mut(&active.id) {
            segment.end = active.end;
            segment.file_len = active.allocated;
        }
        for stream in unfolded {
            table.fold(stream);
        }
        drop(table);
        active.settle();
        lock(&shared.meters).committed_blocks += blocks;
        if frees {
            shared.reclaim.store(true, Ordering::Relaxed);
        }
    }

    /// After a failure nothing of the batch may be written later by accident.
    fn give_up_batch(&mut self, shared: &Shared) {
        let Some(active) = &mut self.active else {
            return;
        };
        if active.is_unwritten() {
            shared.store.write().segments.remove(&active.id);
            // Best effort: recovery takes an empty segment for what it is.
            drop(shared.env.remove(&active.path));
            self.active = None;
        } else {
            active.abandon();
        }
    }

    /// The segment to write to; a new one if there is none.
    fn open_segment(&mut self, shared: &Shared) -> Result<&mut Active, Fail> {
        if self.active.is_none() {
            let active = self.new_segment(shared)?;
            self.active = Some(active);
        }
        Ok(self.active.as_mut().expect("it was put there just now"))
    }

    fn new_segment(&mut self, shared: &Shared) -> Result<Active, Fail> {
        let id = self.last_segment + 1;
        let path = shared.dir().join(segment_name(id));
        let failed = |source| match &source {
            e if is_full(e) => Fail::Full,
            e if is_scarce(e) => Fail::Scarce {
                path: path.clone(),
                source,
            },
            _ => Fail::Io {
                during: "opening a segment",
                path: path.clone(),
                source,
            },
        };
        if u32::try_from(id).is_err() {
            return Err(failed(std::io::Error::other("segment numbers are used up")));
        }
        let Prepared { file, allocated } = match self.prepared.take() {
            Some(prepared) => prepared,
            None => prepare(shared, &path).map_err(failed)?,
        };
        // Before the first block: a file that a crash gives its old name back must not hold
        // blocks of the new one.
        if let Err(e) = shared.env.sync_dir(shared.dir()) {
            // Without a descriptor it could not even be opened, so no sync of it has failed.
            if !is_no_descriptor(&e) {
                return Err(Fail::Io {
                    during: "syncing the directory",
                    path,
                    source: e,
                });
            }
            self.prepared = Some(Prepared { file, allocated });
            return Err(failed(e));
        }
        self.last_segment = id;
        let mut table = shared.store.write();
        let head = Head {
            segment: id,
            volume: shared.volume,
            created_at_ms: shared.env.now_ms(),
        };
        let size = shared.config.segment_size;
        let active = Active::new(
            file.clone(),
            path.clone(),
            &head,
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
        let mut queue = lock(&shared.queue);
        queue.space.open_left = allocated;
        shared.see_room(&mut queue);
        drop(queue);
        Ok(active)
    }

    /// Seals the open segment; the next block opens another.
    pub(crate) fn rotate(&mut self, shared: &Shared) -> Result<(), Fail> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let (len, extents) = active.seal(&shared.change_room(), shared.env.now_ms())?;
        let mut table = shared.store.write();
        if let Some(segment) = table.segments.get_mut(&active.id) {
            segment.sealed = true;
            segment.file_len = len;
            segment.file = shared.env.at_rest(&active.path, Arc::clone(&segment.file));
        }
        table.fold_segment(active.id, &extents);
        drop(table);
        self.active = None;
        shared.reclaim.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// What was said to be gone must be gone for good before its segment is removed.
    pub(crate) fn sync_for_reclaim(&mut self) -> Result<(), Fail> {
        self.active.as_mut().map_or(Ok(()), Active::sync)
    }
}

/// A file with the name of the next segment: a spare, or else a new one.
fn prepare(shared: &Shared, path: &Path) -> std::io::Result<Prepared> {
    let spare = shared.spares.take(shared.config.spare_segments);
    if shared.config.manual {
        let room = shared.space_room();
        shared.spares.make(&room, shared.config.segment_size);
    }
    let Some(spare) = spare else {
        let file = shared.env.open(path, Access::Create)?;
        return Ok(Prepared { file, allocated: 0 });
    };
    let renamed = spare.file.len().and_then(|allocated| {
        shared.env.rename(&spare.path, path)?;
        Ok(allocated)
    });
    match renamed {
        Ok(allocated) => Ok(Prepared {
            file: spare.file,
            allocated,
        }),
        Err(e) => {
            if is_scarce(&e) {
                shared.spares.add(spare);
            }
            Err(e)
        }
    }
}

fn push_control(active: &mut Active, shared: &Shared, control: &Control, now_ms: i64) -> bool {
    let payload = encode_control(&shared.store.read(), control);
    active.push(&Draft {
        kind: Kind::Control,
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

/// A trim says how much of what it frees was lost, which only the table knows.
fn encode_control(table: &Table, control: &Control) -> Vec<u8> {
    match control {
        Control::Trim { stream, up_to, .. } => {
            let lost = table
                .streams
                .get(stream)
                .map_or(0, |s| s.lost_below(*up_to));
            Control::Trim {
                stream: *stream,
                up_to: *up_to,
                lost_before: lost,
            }
            .encode()
        }
        other => other.encode(),
    }
}
