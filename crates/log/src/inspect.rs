//! Inspecting a data directory without its lock: beside a running node, or after a crash.
//!
//! Read-only. Blocks that a running node appends after [`LogInspection::open`] are not visible;
//! segments that it removes can still be read.
//!
//! ```
//! # use std::sync::Arc;
//! # use forebay_log::{Log, LogConfig, NewBlock, StdEnv, inspect::LogInspection, ReadItem};
//! # let dir = tempfile::tempdir().unwrap();
//! # let (log, _) = Log::open(Arc::new(StdEnv::new()), dir.path(), LogConfig::default()).unwrap();
//! # let stream = log.stream("orders").unwrap();
//! # let block = NewBlock { stream, records: 1, codec: 0, raw_len: 3, first_at_ms: 0,
//! #     last_at_ms: 0, payload: bytes::Bytes::from_static(b"a,b") };
//! # log.append(block).unwrap().wait().unwrap();
//! let inspection = LogInspection::open(Arc::new(StdEnv::new()), dir.path())?;
//! for stream in inspection.streams() {
//!     println!("{} {} records in {} blocks", stream.name, stream.records, stream.blocks);
//!     for item in inspection.reader(stream.id, 0)? {
//!         if let ReadItem::Block(block) = item? {
//!             assert_eq!(&block.payload[..], b"a,b");
//!         }
//!     }
//! }
//! assert!(inspection.verify(|_, _| {}).is_sound());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::Path;
use std::sync::Arc;

use crate::block::{BlockHeader, HEADER_LEN};
use crate::env::{Env, EnvFile, FileAccess, read_full};
use crate::error::{LogOpenError, LogReadError};
use crate::index::IndexEntry;
use crate::read::{BlockReader, CommittedState};
use crate::recover;
use crate::scan;
use crate::segment::spare_name;
use crate::stats::{DamagedBlock, RecoveryReport, SegmentDamage, SegmentStats, StreamStats};
use crate::std_env::StdEnv;
use crate::stream::StreamId;
use crate::volume::{self, VolumeFileStatus};

/// The state of a directory when it was opened for inspection.
pub struct LogInspection {
    committed: Arc<CommittedState>,
    volume: Option<u64>,
    report: RecoveryReport,
    spare_segments: usize,
    spare_bytes: u64,
}

/// Result of [`LogInspection::verify`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Number of segments read.
    pub segments: usize,
    /// Blocks with correct checksums.
    pub sound_blocks: u64,
    /// Bytes of the sound blocks.
    pub sound_bytes: u64,
    /// Damaged regions.
    pub damage: Vec<SegmentDamage>,
    /// Files that could not be read, with the error of the operating system.
    pub unreadable: Vec<String>,
}

impl VerifyReport {
    /// Whether everything that was acknowledged is readable.
    pub fn is_sound(&self) -> bool {
        self.unreadable.is_empty() && self.damage.iter().all(|d| !d.acknowledged)
    }
}

/// Statistics of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirStats {
    /// Id of the volume, if the file `volume` or a segment has it.
    pub volume: Option<u64>,
    /// Number of streams.
    pub streams: usize,
    /// Number of segment files.
    pub segments: usize,
    /// Empty segment files that are kept ready.
    pub spare_segments: usize,
    /// Bytes of all segment files, including spares.
    pub file_bytes: u64,
    /// Bytes of blocks in segments.
    pub used_bytes: u64,
    /// Bytes of readable blocks.
    pub live_bytes: u64,
}

impl LogInspection {
    /// Opens a directory for inspection.
    ///
    /// # Errors
    /// [`LogOpenError::NoLog`], [`LogOpenError::Version`] or [`LogOpenError::Io`].
    pub fn open(env: Arc<dyn Env>, dir: &Path) -> Result<Self, LogOpenError> {
        let found = volume::read(&*env, dir)?;
        let recovered = match recover::load(&*env, dir, FileAccess::Read, found) {
            Err(LogOpenError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                return Err(LogOpenError::NoLog {
                    dir: dir.to_owned(),
                });
            }
            other => other?,
        };
        let report = recovered.report;
        let empty = report.segments == 0 && report.foreign_segments.is_empty();
        if found == VolumeFileStatus::Missing && empty {
            return Err(LogOpenError::NoLog {
                dir: dir.to_owned(),
            });
        }
        let volume = recovered.volume;
        let len = |id: &u64| {
            env.open(&dir.join(spare_name(*id)), FileAccess::Read)?
                .len()
        };
        let spare_bytes = recovered
            .spare_segments
            .iter()
            .map(|id| len(id).unwrap_or(0))
            .sum();
        Ok(Self {
            committed: Arc::new(CommittedState::new(dir.to_owned(), recovered.table)),
            volume,
            report,
            spare_segments: recovered.spare_segments.len(),
            spare_bytes,
        })
    }

    /// Like [`LogInspection::open`], in the file system.
    pub fn open_dir(dir: &Path) -> Result<Self, LogOpenError> {
        Self::open(Arc::new(StdEnv::new()), dir)
    }

    /// The report that [`Log::open`](crate::Log::open) would return. A torn tail of a running node
    /// is included, as unacknowledged damage.
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// Statistics of all streams, by number.
    pub fn streams(&self) -> Vec<StreamStats> {
        let table = self.committed.read();
        let mut all: Vec<_> = table
            .streams
            .values()
            .map(StreamStats::from_stream)
            .collect();
        all.sort_by_key(|s| s.id);
        all
    }

    /// Statistics of the stream with this name.
    pub fn find(&self, name: &str) -> Option<StreamStats> {
        let table = self.committed.read();
        let id = table.names.get(name)?;
        table.streams.get(id).map(StreamStats::from_stream)
    }

    /// Reads a stream from a sequence on.
    pub fn reader(&self, id: StreamId, from: u64) -> Result<BlockReader, LogReadError> {
        if !self.committed.read().streams.contains_key(&id.as_raw()) {
            return Err(LogReadError::UnknownStream);
        }
        Ok(BlockReader::new(
            self.committed.clone(),
            id.as_raw(),
            from,
            None,
        ))
    }

    /// Statistics of the segment files.
    pub fn segments(&self) -> Vec<SegmentStats> {
        self.committed.read().segment_stats()
    }

    /// Statistics of the directory.
    pub fn stats(&self) -> DirStats {
        let table = self.committed.read();
        DirStats {
            volume: self.volume,
            streams: table.streams.len(),
            segments: table.segments.len(),
            spare_segments: self.spare_segments,
            file_bytes: table.segments.values().map(|s| s.file_len).sum::<u64>() + self.spare_bytes,
            used_bytes: table.used(),
            live_bytes: table.segments.values().map(|s| s.live_bytes).sum(),
        }
    }

    /// Reads and verifies every block. `progress` receives the bytes done and the total.
    pub fn verify(&self, mut progress: impl FnMut(u64, u64)) -> VerifyReport {
        let segments: Vec<(u64, Arc<dyn EnvFile>, u64)> = {
            let table = self.committed.read();
            table
                .segments
                .iter()
                .map(|(id, s)| (*id, s.file.clone(), s.end))
                .collect()
        };
        let total = segments.iter().map(|(_, _, end)| end).sum();
        let last = segments.last().map_or(0, |(id, ..)| *id);
        let mut report = VerifyReport::default();
        let mut done = 0;
        for (id, file, end) in segments {
            let checked = self.verify_segment(id, &*file, id == last, &mut report);
            if let Err(e) = checked {
                report
                    .unreadable
                    .push(format!("{}: {e}", crate::segment::segment_name(id)));
            }
            report.segments += 1;
            done += end;
            progress(done, total);
        }
        report
    }

    fn verify_segment(
        &self,
        id: u64,
        file: &dyn EnvFile,
        last: bool,
        report: &mut VerifyReport,
    ) -> std::io::Result<()> {
        let scan = scan::segment(file, id)?;
        for index_entry in &scan.index_entries {
            let len = crate::block::block_len(index_entry.stored_len as usize);
            if !index_entry.damaged && is_sound(file, id, index_entry)? {
                report.sound_blocks += 1;
                report.sound_bytes += len;
            } else {
                // A block with an index entry was on disk; so was one with other blocks behind it.
                let block = Some(self.damaged_block(index_entry));
                let offset = u64::from(index_entry.offset);
                let damage = SegmentDamage {
                    segment: id,
                    offset,
                    len,
                    block,
                    acknowledged: true,
                };
                report.damage.push(damage);
            }
        }
        let listed = |offset| {
            scan.index_entries
                .iter()
                .any(|l| u64::from(l.offset) == offset)
        };
        for region in scan.damaged_regions.iter().filter(|h| !listed(h.offset)) {
            report.damage.push(SegmentDamage {
                segment: id,
                offset: region.offset,
                len: region.len,
                block: region
                    .header
                    .as_ref()
                    .map(|h| self.damaged_block(&IndexEntry::from_header(h, true))),
                acknowledged: !last || region.offset < scan.synced_to,
            });
        }
        Ok(())
    }

    fn damaged_block(&self, index_entry: &IndexEntry) -> DamagedBlock {
        let table = self.committed.read();
        let stream = table
            .streams
            .get(&index_entry.stream)
            .filter(|_| index_entry.kind.has_records());
        DamagedBlock {
            stream: StreamId::from_raw(index_entry.stream),
            name: stream.map_or_else(String::new, |s| s.state.name.to_string()),
            first_seq: index_entry.first_seq,
            records: u64::from(index_entry.records),
        }
    }
}

fn is_sound(file: &dyn EnvFile, id: u64, index_entry: &IndexEntry) -> std::io::Result<bool> {
    let mut bytes = vec![0; HEADER_LEN + index_entry.stored_len as usize];
    let at = u64::from(index_entry.offset);
    let whole = read_full(file, &mut bytes, at)? == bytes.len();
    let header = BlockHeader::decode_at(&bytes, id, at);
    let same = |h: BlockHeader| {
        IndexEntry::from_header(&h, false)
            == IndexEntry {
                damaged: false,
                ..*index_entry
            }
            && bytes
                .get(HEADER_LEN..)
                .is_some_and(|p| crc32c::crc32c(p) == h.payload_crc)
    };
    Ok(whole && header.is_some_and(same))
}
