//! Opening a directory: lock it, recover it, repair what a crash left behind.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::{Condvar, Mutex};

use crate::bytefields::to_usize;
use crate::catalog::{ControlBlock, SequenceRange};
use crate::config::LogConfig;
use crate::env::{Env, FileAccess, read_full, write_full};
use crate::error::LogOpenError;
use crate::index;
use crate::io_failure::is_full;
use crate::queue::{AppendQueue, WriteOp};
use crate::read::CommittedState;
use crate::recover::{self, RecoveredVolume, ScannedSegment};
use crate::segment::{SEGMENT_FOOTER_LEN, segment_name, spare_name};
use crate::segment_pool::{SegmentPool, SpareSegment};
use crate::shared::{SharedVolume, VolumeCounters};
use crate::stats::RecoveryReport;
use crate::table::VolumeTable;
use crate::volume::{self, VolumeFile, VolumeFileStatus, open_error};
use crate::writer_state::LogWriter;
use crate::{block::FORMAT_VERSION, extent};

/// [`Log::open`](crate::Log::open) without its threads.
pub(crate) fn open(
    env: Arc<dyn Env>,
    dir: &Path,
    config: LogConfig,
) -> Result<(SharedVolume, RecoveryReport), LogOpenError> {
    config.validate()?;
    env.create_dir(dir).map_err(|e| open_error(dir, dir, e))?;
    let guard = volume::lock(&*env, dir)?;
    let found = volume::read(&*env, dir)?;
    let mut recovered = recover::load(&*env, dir, FileAccess::Write, found)?;
    let volume = VolumeFile {
        id: recovered
            .volume
            .or(config.volume)
            .unwrap_or_else(|| env.random()),
        version: u32::from(FORMAT_VERSION),
    };
    if !matches!(found, VolumeFileStatus::Sound(written) if written.id == volume.id) {
        volume::write(&*env, dir, &volume)?;
    }
    let segment_pool = repair(&*env, dir, &config, &mut recovered)?;
    // From here on the directory is open and can be synced even when descriptors run out.
    env.sync_dir(dir).map_err(|e| open_error(dir, dir, e))?;
    let RecoveredVolume {
        mut table,
        report,
        last_segment,
        ..
    } = recovered;
    table.next_stream = table.next_stream.max(1);
    let mut queue = AppendQueue::new(&table);
    queue.space.used = table.used();
    for lost in &report.lost {
        // Recorded, so that the loss is reported once and still counted when the segment is
        // removed.
        let range = SequenceRange {
            first: lost.first_seq,
            end: lost.first_seq + lost.records,
        };
        queue.push(WriteOp::Control(ControlBlock::Lost {
            stream: lost.stream.0,
            range,
        }));
    }
    let shared = SharedVolume {
        env,
        config,
        volume: volume.id,
        queue: Mutex::new(queue),
        committed: Arc::new(CommittedState::new(dir.to_owned(), table)),
        work: Condvar::new(),
        space: Condvar::new(),
        segment_pool,
        counters: Mutex::new(VolumeCounters::default()),
        watchers: Mutex::new(Vec::new()),
        commits: AtomicU64::new(0),
        writer: Mutex::new(LogWriter::new(last_segment)),
        reclaim: AtomicBool::new(true),
        is_orphaned: AtomicBool::new(false),
        lock: Mutex::new(Some(guard)),
    };
    Ok((shared, report))
}

/// Removes garbage segments and seals open ones.
fn repair(
    env: &dyn Env,
    dir: &Path,
    config: &LogConfig,
    recovered: &mut RecoveredVolume,
) -> Result<SegmentPool, LogOpenError> {
    for id in &recovered.garbage {
        remove(env, dir, &segment_name(*id))?;
    }
    for (id, read) in &recovered.unsealed {
        let path = dir.join(segment_name(*id));
        let (len, sealed) = seal(env, &path, *id, read).map_err(|e| open_error(dir, &path, e))?;
        if let Some(segment) = recovered.table.segments.get_mut(id) {
            // Nothing is appended to it any more, with or without an index.
            segment.sealed = true;
            segment.file_len = len;
        }
        if sealed {
            recovered
                .table
                .evict_segment_entries(*id, &read.scan.extents);
        }
    }
    let mut ready = Vec::new();
    for id in &recovered.spare_segments {
        let path = dir.join(spare_name(*id));
        let file = env
            .open(&path, FileAccess::Write)
            .and_then(|f| Ok((f.len()?, f)));
        match file {
            Ok((len, file))
                if len == config.segment_size
                    && ready.len() < config.spare_segments + config.recycled_segments =>
            {
                ready.push(SpareSegment { path, file });
            }
            _ => remove(env, dir, &spare_name(*id))?,
        }
    }
    let next = recovered.spare_segments.iter().copied().max().unwrap_or(0);
    Ok(SegmentPool::new(ready, next))
}

fn remove(env: &dyn Env, dir: &Path, name: &str) -> Result<(), LogOpenError> {
    let path = dir.join(name);
    match env.remove(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(open_error(dir, &path, e)),
        _ => Ok(()),
    }
}

/// Makes the end of a segment durable and writes its index. Returns the length of the file, and
/// whether the index fit on the disk.
fn seal(env: &dyn Env, path: &Path, id: u64, read: &ScannedSegment) -> io::Result<(u64, bool)> {
    // The scanned file is cached read-only: open it again for writing.
    let (file, scan) = (env.open(path, FileAccess::Write)?, &read.scan);
    let file = &*file;
    // Bytes of a failed or unfinished sync may be in memory only, marked clean: readable now and
    // lost later. Writing them again makes them dirty, so that the sync below covers them.
    let from = scan.synced_to.min(scan.end);
    let mut tail = vec![0; to_usize(scan.end - from)];
    let n = read_full(file, &mut tail, from)?;
    write_full(file, tail.get(..n).unwrap_or_default(), from)?;
    file.sync_data()?;
    let len = scan.end + extent::seal_len(scan.index_entries.len(), &scan.extents);
    let index = index::encode_entries(&scan.index_entries);
    let (extents, footer) =
        extent::encode_footer(&index, &scan.extents, id, scan.end, env.now_ms());
    let sealed = (|| {
        file.set_len(len)?;
        write_full(file, &index, scan.end)?;
        write_full(file, &extents, scan.end + index.len() as u64)?;
        write_full(file, &footer, len - SEGMENT_FOOTER_LEN as u64)?;
        file.sync_data()
    })();
    match sealed {
        // The index only saves time.
        Err(e) if is_full(&e) => Ok((file.len()?, false)),
        sealed => sealed.map(|()| (len, true)),
    }
}

impl VolumeTable {
    pub(crate) fn segment_stats(&self) -> Vec<crate::stats::SegmentStats> {
        let stats = |(id, s): (&u64, &crate::table::Segment)| crate::stats::SegmentStats {
            id: *id,
            file_bytes: s.file_len,
            used_bytes: s.end,
            live_bytes: s.live_bytes,
            live_blocks: s.live_blocks,
            sealed: s.sealed,
        };
        self.segments.iter().map(stats).collect()
    }
}
