//! The one writer of a volume: takes what waits, writes it, syncs once, and says so.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use crate::active::{Active, Draft, Fail, Room};
use crate::block::Kind;
use crate::bytefields::to_u32;
use crate::catalog::Control;
use crate::commit::{Drive, Group};
use crate::config::{LogConfig, SyncMode};
use crate::env::{Access, Env, LockGuard};
use crate::error::{CommitError, Latched};
use crate::queue::{Mood, Op, Queue, lock};
use crate::read::Store;
use crate::segment::{Head, segment_name};
use crate::spares::Spares;
use crate::stats::{SyncStats, VolumeStats};
use crate::table::{Segment, Table};

/// What the handles, the writer and the readers have in common.
pub(crate) struct Shared {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) config: LogConfig,
    pub(crate) volume: u64,
    pub(crate) store: Arc<Store>,
    pub(crate) queue: Mutex<Queue>,
    /// The writer waits here for work.
    pub(crate) work: Condvar,
    /// Appenders wait here for room.
    pub(crate) space: Condvar,
    pub(crate) spares: Spares,
    pub(crate) meters: Mutex<Meters>,
    pub(crate) watchers: Mutex<Vec<Waker>>,
    /// Grows with each commit.
    pub(crate) commits: AtomicU64,
    pub(crate) writer: Mutex<Writer>,
    /// Set when a segment may have become free, so that commits need not look.
    pub(crate) reclaim: AtomicBool,
    /// Held until the end.
    pub(crate) lock: Mutex<Option<LockGuard>>,
}

/// Counters since the log was opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meters {
    pub(crate) committed_blocks: u64,
    pub(crate) written_bytes: u64,
    pub(crate) moved_blocks: u64,
    pub(crate) reclaimed_segments: u64,
    pub(crate) syncs: SyncStats,
}

/// What only the writer touches.
pub(crate) struct Writer {
    pub(crate) active: Option<Active>,
    pub(crate) last_segment: u64,
    last_sync: Duration,
}

impl Writer {
    pub(crate) fn new(last_segment: u64) -> Self {
        Self {
            active: None,
            last_segment,
            last_sync: Duration::ZERO,
        }
    }
}

impl Shared {
    pub(crate) fn dir(&self) -> &Path {
        &self.store.dir
    }

    /// Room for blocks. A step is left free beside what others are to have: see `change_room`.
    pub(crate) fn space_room(&self) -> Room<'_> {
        let step = self.config.preallocate_step;
        Room {
            env: &*self.env,
            dir: self.dir(),
            step,
            min_free: self.config.min_free_bytes.max(step),
        }
    }

    /// How many dead segments are kept to be written again: none where others may need the room.
    pub(crate) fn recycled(&self) -> usize {
        let most = self.config.recycled_segments;
        let all = (most as u64).saturating_mul(self.config.segment_size);
        let tight = self.space_room().free().is_some_and(|free| free < all);
        if tight { 0 } else { most }
    }

    /// Room for changes: all that there is. A trim needs a few hundred bytes, and on a full volume
    /// it is the only way to get any.
    pub(crate) fn change_room(&self) -> Room<'_> {
        Room {
            min_free: 0,
            ..self.space_room()
        }
    }

    /// The writer's thread.
    pub(crate) fn run(&self) {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work_loop()));
        if outcome.is_err() {
            // Else everybody who waits for a ticket would wait for ever.
            self.latch(
                "an internal error",
                "the writer panicked; please report this",
            );
        }
    }

    fn work_loop(&self) {
        loop {
            let mut queue = lock(&self.queue);
            while queue.ops.is_empty() && queue.mood == Mood::Running {
                queue = self
                    .work
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if queue.ops.is_empty() {
                return;
            }
            drop(queue);
            self.space_out();
            self.step();
        }
    }

    /// Waits until the next sync may start.
    fn space_out(&self) {
        let interval = self.config.sync_interval;
        if interval.is_zero() {
            return;
        }
        let last = lock(&self.writer).last_sync;
        let mut queue = lock(&self.queue);
        while queue.mood == Mood::Running {
            let left = (last + interval).saturating_sub(self.env.elapsed());
            if left.is_zero() {
                return;
            }
            // The clock is the environment's; the condition variable's is the real one.
            let step = left.min(Duration::from_millis(10));
            let waited = self.work.wait_timeout(queue, step);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Commits what waits. `false` when nothing did.
    pub(crate) fn step(&self) -> bool {
        let mut writer = lock(&self.writer);
        let (ops, group) = lock(&self.queue).take();
        if ops.is_empty() {
            return false;
        }
        match writer.commit(self, &ops, &group) {
            Ok(()) => {}
            Err(Fail::Full) => self.refuse(&group),
            Err(Fail::Io {
                during,
                path,
                source,
            }) => {
                let cause = format!("{}: {source}", path.display());
                let latched = self.latch(during, &cause);
                group.fail(CommitError::MayHaveHappened(latched));
            }
        }
        self.made_room();
        writer.reclaim(self);
        true
    }

    fn made_room(&self) {
        let mut queue = lock(&self.queue);
        queue.writing = 0;
        let wakers = std::mem::take(&mut queue.room_wakers);
        drop(queue);
        self.space.notify_all();
        self.commits.fetch_add(1, Ordering::AcqRel);
        let watchers = std::mem::take(&mut *lock(&self.watchers));
        for waker in wakers.into_iter().chain(watchers) {
            waker.wake();
        }
    }

    /// The first failure: from now on nothing is taken.
    pub(crate) fn latch(&self, during: &'static str, cause: &str) -> Latched {
        let mut queue = lock(&self.queue);
        let latched = match &queue.mood {
            Mood::Latched(first) => first.clone(),
            _ => Latched {
                during,
                cause: Arc::from(cause),
                at_ms: self.env.now_ms(),
            },
        };
        queue.mood = Mood::Latched(latched.clone());
        let (_, waiting) = queue.take();
        drop(queue);
        waiting.fail(CommitError::MayHaveHappened(latched.clone()));
        self.made_room();
        latched
    }

    /// The volume is full: nothing that waits was written, and nothing of it will be. Sequences
    /// that were assigned are taken back, so no gap stays.
    fn refuse(&self, group: &Group) {
        let table = self.store.read();
        let mut queue = lock(&self.queue);
        let (_, waiting) = queue.take();
        queue.reset(&table);
        // So the next append looks at the file system anew.
        queue.space.room = 0;
        drop(queue);
        drop(table);
        group.fail(CommitError::Full);
        waiting.fail(CommitError::Full);
    }
}

impl Shared {
    pub(crate) fn volume_stats(&self) -> VolumeStats {
        let table = self.store.read();
        let spares = self.spares.count();
        let files: u64 = table.segments.values().map(|s| s.file_len).sum();
        let live = table.segments.values().map(|s| s.live_bytes).sum();
        let (streams, segments) = (table.streams.len(), table.segments.len());
        drop(table);
        let meters = lock(&self.meters).clone();
        let mut queue = lock(&self.queue);
        self.see_room(&mut queue);
        VolumeStats {
            volume: self.volume,
            streams,
            segments,
            spare_segments: spares,
            used_bytes: queue.space.used,
            live_bytes: live,
            file_bytes: files + spares as u64 * self.config.segment_size,
            reserved_bytes: queue.space.reserved,
            available_bytes: queue.available(self.config.max_bytes),
            queued_bytes: (queue.bytes + queue.writing) as u64,
            committed_blocks: meters.committed_blocks,
            written_bytes: meters.written_bytes,
            moved_blocks: meters.moved_blocks,
            reclaimed_segments: meters.reclaimed_segments,
            syncs: meters.syncs,
            latched: match &queue.mood {
                Mood::Latched(latched) => Some(latched.clone()),
                Mood::Running | Mood::Shutdown => None,
            },
        }
    }
}

impl Drive for Shared {
    fn drive(&self) -> bool {
        self.step()
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
        let failed = |source| match crate::active::is_full(&source) {
            true => Fail::Full,
            false => Fail::Io {
                during: "opening a segment",
                path: path.clone(),
                source,
            },
        };
        if u32::try_from(id).is_err() {
            return Err(failed(std::io::Error::other("segment numbers are used up")));
        }
        let spare = shared.spares.take(shared.config.spare_segments);
        if shared.config.manual {
            shared
                .spares
                .make(&shared.space_room(), shared.config.segment_size);
        }
        let access = if spare.is_some() {
            Access::Write
        } else {
            Access::Create
        };
        if let Some(spare) = &spare {
            shared.env.rename(spare, &path).map_err(failed)?;
        }
        let file = shared.env.open(&path, access).map_err(failed)?;
        // Before the first block: a file that a crash gives its old name back must not hold
        // blocks of the new one.
        shared.env.sync_dir(shared.dir()).map_err(failed)?;
        self.last_segment = id;
        let allocated = if spare.is_some() {
            file.len().map_err(failed)?
        } else {
            0
        };
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
