//! Looking into a data directory without its lock: beside a running node, or after one died.
//!
//! Nothing is written. What a running node appends after [`LogInspection::open`] is not seen; segments
//! that it removes meanwhile can still be read.
//!
//! ```
//! # use std::sync::Arc;
//! # use forebay_log::{Log, LogConfig, NewBlock, StdEnv, inspect::Inspection, Item};
//! # let dir = tempfile::tempdir().unwrap();
//! # let (log, _) = Log::open(Arc::new(StdEnv::new()), dir.path(), LogConfig::default()).unwrap();
//! # let stream = log.stream("orders").unwrap();
//! # let block = NewBlock { stream, records: 1, codec: 0, raw_len: 3, first_at_ms: 0,
//! #     last_at_ms: 0, payload: bytes::Bytes::from_static(b"a,b") };
//! # log.append(block).unwrap().wait().unwrap();
//! let inspection = Inspection::open(Arc::new(StdEnv::new()), dir.path())?;
//! for stream in inspection.streams() {
//!     println!("{} {} records in {} blocks", stream.name, stream.records, stream.blocks);
//!     for item in inspection.reader(stream.id, 0)? {
//!         if let Item::Block(block) = item? {
//!             assert_eq!(&block.payload[..], b"a,b");
//!         }
//!     }
//! }
//! assert!(inspection.verify(|_, _| {}).is_sound());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::Path;
use std::sync::Arc;

use crate::block::{HEADER_LEN, Header};
use crate::env::{Access, Env, File, StdEnv, read_full};
use crate::error::{OpenError, ReadError};
use crate::index::Line;
use crate::queue::StreamId;
use crate::read::{Reader, Store};
use crate::recover;
use crate::scan;
use crate::segment::spare_name;
use crate::stats::{Damage, DamagedBlock, RecoveryReport, SegmentStats, StreamStats};
use crate::volume::{self, Found};

/// A directory as it was when it was looked at.
pub struct Inspection {
    store: Arc<Store>,
    volume: Option<u64>,
    report: RecoveryReport,
    spares: usize,
    spare_bytes: u64,
}

/// What [`LogInspection::verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segments read.
    pub segments: usize,
    /// Blocks whose checksums are right.
    pub sound_blocks: u64,
    /// Bytes of these.
    pub sound_bytes: u64,
    /// Places where that is not so.
    pub damage: Vec<Damage>,
    /// Files that could not be read, with what the operating system said.
    pub unreadable: Vec<String>,
}

impl VerifyReport {
    /// Whether everything that was acknowledged is there.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.unreadable.is_empty() && self.damage.iter().all(|d| !d.acknowledged)
    }
}

/// Figures of a directory as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirStats {
    /// The volume's id, if the file `volume` or a segment tells it.
    pub volume: Option<u64>,
    /// Streams.
    pub streams: usize,
    /// Segment files.
    pub segments: usize,
    /// Empty segment files that are kept ready.
    pub spare_segments: usize,
    /// Bytes of all segment files, spares included.
    pub file_bytes: u64,
    /// Bytes of blocks in segments.
    pub used_bytes: u64,
    /// Bytes of blocks that can be read.
    pub live_bytes: u64,
}

impl Inspection {
    /// Looks at a directory.
    ///
    /// # Errors
    /// See [`LogOpenError`]: no log there, newer, can't be read.
    pub fn open(env: Arc<dyn Env>, dir: &Path) -> Result<Self, OpenError> {
        let found = volume::read(&*env, dir)?;
        let recovered = match recover::load(&*env, dir, Access::Read, found) {
            Err(OpenError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(OpenError::NoLog {
                    dir: dir.to_owned(),
                });
            }
            other => other?,
        };
        let report = recovered.report;
        let empty = report.segments == 0 && report.foreign_segments.is_empty();
        if found == Found::Missing && empty {
            return Err(OpenError::NoLog {
                dir: dir.to_owned(),
            });
        }
        let volume = recovered.volume;
        let len = |id: &u64| env.open(&dir.join(spare_name(*id)), Access::Read)?.len();
        let spare_bytes = recovered.spares.iter().map(|id| len(id).unwrap_or(0)).sum();
        Ok(Self {
            store: Arc::new(Store::new(dir.to_owned(), recovered.table)),
            volume,
            report,
            spares: recovered.spares.len(),
            spare_bytes,
        })
    }

    /// Looks at a directory of the operating system.
    ///
    /// # Errors
    /// As [`LogInspection::open`].
    pub fn open_dir(dir: &Path) -> Result<Self, OpenError> {
        Self::open(Arc::new(StdEnv::new()), dir)
    }

    /// What an opening would say. A torn tail of a running node is in it, as damage that was not
    /// acknowledged.
    #[must_use]
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// All streams, by number.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamStats> {
        let table = self.store.read();
        let mut all: Vec<_> = table.streams.values().map(StreamStats::of).collect();
        all.sort_by_key(|s| s.id);
        all
    }

    /// The stream with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<StreamStats> {
        let table = self.store.read();
        let id = table.names.get(name)?;
        table.streams.get(id).map(StreamStats::of)
    }

    /// Reads a stream from a sequence on.
    ///
    /// # Errors
    /// See [`LogReadError`].
    pub fn reader(&self, id: StreamId, from: u64) -> Result<Reader, ReadError> {
        if !self.store.read().streams.contains_key(&id.as_raw()) {
            return Err(ReadError::UnknownStream);
        }
        Ok(Reader::new(self.store.clone(), id.as_raw(), from, None))
    }

    /// Figures of the segment files.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentStats> {
        self.store.read().segment_stats()
    }

    /// Figures of the directory.
    #[must_use]
    pub fn stats(&self) -> DirStats {
        let table = self.store.read();
        DirStats {
            volume: self.volume,
            streams: table.streams.len(),
            segments: table.segments.len(),
            spare_segments: self.spares,
            file_bytes: table.segments.values().map(|s| s.file_len).sum::<u64>() + self.spare_bytes,
            used_bytes: table.used(),
            live_bytes: table.segments.values().map(|s| s.live_bytes).sum(),
        }
    }

    /// Reads every block and checks it. `progress` is told bytes done, and bytes in all.
    pub fn verify(&self, mut progress: impl FnMut(u64, u64)) -> VerifyReport {
        let segments: Vec<(u64, Arc<dyn File>, u64)> = {
            let table = self.store.read();
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
        file: &dyn File,
        last: bool,
        report: &mut VerifyReport,
    ) -> std::io::Result<()> {
        let scan = scan::segment(file, id)?;
        for line in &scan.lines {
            let len = crate::block::block_len(line.stored_len as usize);
            if !line.damaged && is_sound(file, id, line)? {
                report.sound_blocks += 1;
                report.sound_bytes += len;
            } else {
                // A block that stands in the index was on disk; so was what others stand behind.
                let block = Some(self.name(line));
                let offset = u64::from(line.offset);
                let damage = Damage {
                    segment: id,
                    offset,
                    len,
                    block,
                    acknowledged: true,
                };
                report.damage.push(damage);
            }
        }
        let listed = |offset| scan.lines.iter().any(|l| u64::from(l.offset) == offset);
        for hole in scan.holes.iter().filter(|h| !listed(h.offset)) {
            report.damage.push(Damage {
                segment: id,
                offset: hole.offset,
                len: hole.len,
                block: hole.header.as_ref().map(|h| self.name(&Line::of(h, true))),
                acknowledged: !last || hole.offset < scan.synced_to,
            });
        }
        Ok(())
    }

    fn name(&self, line: &Line) -> DamagedBlock {
        let table = self.store.read();
        let stream = table
            .streams
            .get(&line.stream)
            .filter(|_| line.kind.has_records());
        DamagedBlock {
            stream: StreamId::from_raw(line.stream),
            name: stream.map_or_else(String::new, |s| s.line.name.to_string()),
            first_seq: line.first_seq,
            records: u64::from(line.records),
        }
    }
}

fn is_sound(file: &dyn File, id: u64, line: &Line) -> std::io::Result<bool> {
    let mut bytes = vec![0; HEADER_LEN + line.stored_len as usize];
    let at = u64::from(line.offset);
    let whole = read_full(file, &mut bytes, at)? == bytes.len();
    let header = Header::decode_at(&bytes, id, at);
    let same = |h: Header| {
        Line::of(&h, false)
            == Line {
                damaged: false,
                ..*line
            }
            && bytes
                .get(HEADER_LEN..)
                .is_some_and(|p| crc32c::crc32c(p) == h.payload_crc)
    };
    Ok(whole && header.is_some_and(same))
}
