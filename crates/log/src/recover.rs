//! From files to the table: what a directory holds. Reads only, so that `inspect` can use it beside
//! a running node; `open` then mends what has to be mended.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::active::is_scarce;
use crate::block::{HEADER_LEN, Kind};
use crate::catalog::{Catalog, Control};
use crate::env::{Access, Env, File, read_full};
use crate::error::OpenError;
use crate::index::Line;
use crate::locate::{Located, locate};
use crate::place::place;
use crate::queue::StreamId;
use crate::scan::{self, Scan};
use crate::segment::{HEAD_LEN, Head, parse_segment_name, parse_spare_name, segment_name};
use crate::stats::{Damage, DamagedBlock, LostRun, RecoveryReport};
use crate::table::{Entry, Run, Segment, Stream, Table, occupy};
use crate::volume::{Found, sort};

/// A segment that was read.
pub(crate) struct Read {
    pub(crate) file: Arc<dyn File>,
    pub(crate) scan: Scan,
}

/// What was found.
pub(crate) struct Recovered {
    pub(crate) table: Table,
    pub(crate) report: RecoveryReport,
    /// Segments without an index, which `open` seals.
    pub(crate) unsealed: BTreeMap<u64, Read>,
    /// Segments that were given up before the crash, or in which nothing is.
    pub(crate) garbage: Vec<u64>,
    pub(crate) spares: Vec<u64>,
    pub(crate) last_segment: u64,
    /// The volume, if the directory says which.
    pub(crate) volume: Option<u64>,
}

/// Reads all of a directory, whose file `volume` was `found`.
pub(crate) fn load(
    env: &dyn Env,
    dir: &Path,
    access: Access,
    found: Found,
) -> Result<Recovered, OpenError> {
    let names = env.list(dir).map_err(|e| sort(dir, dir, e))?;
    let spares: Vec<u64> = names.iter().filter_map(|n| parse_spare_name(n)).collect();
    let mut files = Vec::new();
    for id in names.iter().filter_map(|n| parse_segment_name(n)) {
        let path = dir.join(segment_name(id));
        let file = match env.open(&path, access) {
            Ok(file) => file,
            // Removed by the running node that we look at.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(sort(dir, &path, e)),
        };
        // A running node that we look at may remove it: then it has to stay open.
        let file = match access {
            Access::Read => file,
            _ => env.at_rest(&path, file),
        };
        files.push((id, path, file));
    }
    files.sort_by_key(|(id, ..)| std::cmp::Reverse(*id));
    let last = files.first().map_or(0, |(id, ..)| *id);
    let (volume, foreign) = set_apart(found, &mut files).map_err(|(p, e)| sort(dir, &p, e))?;
    // All there is to know of streams stands in the newest sound catalog and behind it. The
    // segments before it only have blocks, and their extents say where.
    let mut segments = BTreeMap::new();
    let mut newest = None;
    for (id, path, file) in files {
        let scan = match newest {
            None => scan::segment(&*file, id),
            Some(_) => scan::outline(&*file, id),
        };
        let scan = scan.map_err(|e| sort(dir, &path, e))?;
        let read = Read { file, scan };
        if newest.is_none() {
            let found = catalog(&read).map_err(|e| sort(dir, &path, e))?;
            newest = found.map(|catalog| (id, catalog));
        }
        segments.insert(id, read);
    }
    let recovered = Replay::new(segments).run(newest);
    let mut recovered = recovered.map_err(|e| sort(dir, dir, e))?;
    recovered.spares = spares;
    recovered.volume = volume;
    let report = &mut recovered.report;
    report.volume_file_damaged = match found {
        Found::Sound(written) => volume != Some(written.id),
        Found::Damaged => true,
        Found::Missing => report.segments > 0 || !foreign.is_empty(),
    };
    report.foreign_segments = foreign;
    // Also those of other volumes keep their names.
    recovered.last_segment = recovered.last_segment.max(last);
    Ok(recovered)
}

/// Finds out of which volume the directory is, and takes the segments of others out of `files`:
/// their streams have the same numbers as ours. A segment whose head is damaged is taken for ours. A
/// head of another number is of what the file was before: it does not say what the directory is.
fn set_apart(
    found: Found,
    files: &mut Vec<SegmentFile>,
) -> Result<(Option<u64>, Vec<u64>), (PathBuf, io::Error)> {
    let mut heads = Vec::new();
    for (id, path, file) in files.iter() {
        let mut bytes = [0; HEAD_LEN];
        match read_full(&**file, &mut bytes, 0) {
            Err(e) if is_scarce(&e) => return Err((path.clone(), e)),
            // One that can't be read is met again by the scan.
            Err(_) => {}
            Ok(_) => {
                heads.extend(Head::decode(&bytes).map(|head| (*id, head)));
            }
        }
    }
    let own = heads.iter().filter(|(id, head)| head.segment == *id);
    let own: Vec<(u64, u64)> = own.map(|(id, head)| (*id, head.volume)).collect();
    let volume = found.id(&own);
    let others = heads.iter().filter(|(_, head)| Some(head.volume) != volume);
    let foreign: Vec<u64> = match volume {
        Some(_) => others.map(|(id, _)| *id).collect(),
        None => Vec::new(),
    };
    files.retain(|(id, ..)| !foreign.contains(id));
    Ok((volume, foreign))
}

/// A segment's number, path and file.
type SegmentFile = (u64, PathBuf, Arc<dyn File>);

/// Reads a block's payload; `None` if it can't be read, or is not what its checksum says.
///
/// # Errors
/// Where the system is short of something: that says nothing of what is on disk.
pub(crate) fn payload(file: &dyn File, line: &Line) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; line.stored_len as usize];
    let at = u64::from(line.offset) + HEADER_LEN as u64;
    let n = match read_full(file, &mut bytes, at) {
        Err(e) if is_scarce(&e) => return Err(e),
        read => read.unwrap_or(0),
    };
    let sound = n == bytes.len() && crc32c::crc32c(&bytes) == line.payload_crc;
    Ok(sound.then_some(bytes))
}

/// The catalog of a segment. It is written twice; either will do.
fn catalog(read: &Read) -> io::Result<Option<Catalog>> {
    let lines = read
        .scan
        .lines
        .iter()
        .filter(|l| l.kind == Kind::Catalog && !l.damaged);
    let mut copies: [BTreeMap<u64, &Line>; 2] = [BTreeMap::new(), BTreeMap::new()];
    let mut parts = 0;
    for line in lines {
        parts = u64::from(line.records);
        if let Some(copy) = copies.get_mut(usize::from(line.codec)) {
            copy.insert(line.first_seq, line);
        }
    }
    let mut bytes = Vec::new();
    for part in 0..parts {
        let mut found = None;
        for line in copies.iter().filter_map(|copy| copy.get(&part)) {
            found = match found {
                None => payload(&*read.file, line)?,
                found => found,
            };
        }
        let Some(found) = found else { return Ok(None) };
        bytes.extend_from_slice(&found);
    }
    Ok((parts > 0).then(|| Catalog::decode(&bytes)).flatten())
}

/// Builds the table out of segments that were read.
struct Replay {
    segments: BTreeMap<u64, Read>,
    table: Table,
    report: RecoveryReport,
    dropped: BTreeSet<u64>,
    deleted: HashSet<u64>,
}

impl Replay {
    fn new(segments: BTreeMap<u64, Read>) -> Self {
        Self {
            segments,
            table: Table::default(),
            report: RecoveryReport::default(),
            dropped: BTreeSet::new(),
            deleted: HashSet::new(),
        }
    }

    fn run(mut self, newest: Option<(u64, Catalog)>) -> io::Result<Recovered> {
        self.report.segments = self.segments.len();
        self.report.scanned = self.segments.values().filter(|r| !r.scan.sealed).count();
        // Without a catalog everything from the first segment on is replayed.
        let from = newest.as_ref().map_or(0, |(id, _)| *id);
        let listed: Option<BTreeSet<u64>> = newest
            .as_ref()
            .map(|(_, c)| c.segments.iter().copied().collect());
        if let Some((_, catalog)) = newest {
            self.table = Table::from_catalog(catalog);
        }
        let last = self.segments.keys().next_back().copied().unwrap_or(0);
        for id in self
            .segments
            .range(from..)
            .map(|(id, _)| *id)
            .collect::<Vec<_>>()
        {
            self.replay(id)?;
        }
        let garbage = self.garbage(from, listed.as_ref());
        self.note_missing(listed.as_ref());
        for id in &garbage {
            self.dropped.insert(*id);
        }
        self.note_damage(last);
        self.collect_blocks()?;
        Ok(self.finish(garbage, last))
    }

    /// Goes through what a segment says after the newest catalog.
    fn replay(&mut self, id: u64) -> io::Result<()> {
        let Some(read) = self.segments.get(&id) else {
            return Ok(());
        };
        let file = read.file.clone();
        for line in read.scan.lines.clone() {
            match line.kind {
                Kind::Data | Kind::Moved => self.replay_block(&line),
                Kind::Control => {
                    let bytes = match line.damaged {
                        true => None,
                        false => payload(&*file, &line)?,
                    };
                    if let Some(control) = bytes.and_then(|b| Control::decode(&b)) {
                        self.replay_control(&control);
                    }
                }
                Kind::Catalog => {}
            }
        }
        Ok(())
    }

    fn replay_control(&mut self, control: &Control) {
        match control {
            Control::Delete { stream } => {
                self.deleted.insert(*stream);
            }
            Control::Drop { segment } => {
                self.dropped.insert(*segment);
            }
            _ => {}
        }
        self.table.apply(control);
    }

    fn replay_block(&mut self, line: &Line) {
        if self.deleted.contains(&line.stream) {
            return;
        }
        if !self.table.streams.contains_key(&line.stream) {
            let name = Arc::from(format!("unknown-{}", line.stream));
            self.table.insert(Stream::empty(line.stream, name));
            self.report.unnamed_streams.push(StreamId(line.stream));
        }
        let Some(stream) = self.table.streams.get_mut(&line.stream) else {
            return;
        };
        stream.line.next_seq = stream.line.next_seq.max(line.end_seq());
        if line.kind == Kind::Data {
            stream.line.total_blocks += 1;
            stream.line.total_raw_bytes += u64::from(line.raw_len);
            stream.line.total_stored_bytes += u64::from(line.stored_len);
        }
    }

    /// Segments that the newest catalog does not know any more, that were given up after it, or
    /// that hold nothing.
    fn garbage(&self, from: u64, listed: Option<&BTreeSet<u64>>) -> Vec<u64> {
        let given_up = |id: &u64, read: &Read| {
            let unlisted = *id < from && listed.is_some_and(|l| !l.contains(id));
            unlisted || read.scan.blank || self.dropped.contains(id)
        };
        self.segments
            .iter()
            .filter(|(id, read)| given_up(id, read))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Segments that the newest catalog knows, and that are neither here nor given up since. One
    /// that is newer than the catalog is not missed: it may never have held anything.
    fn note_missing(&mut self, listed: Option<&BTreeSet<u64>>) {
        let gone = |id: &u64| !self.segments.contains_key(id) && !self.dropped.contains(id);
        let missing = listed.into_iter().flatten().copied().filter(gone);
        self.report.missing_segments = missing.collect();
    }

    fn note_damage(&mut self, last: u64) {
        let mut found = Vec::new();
        for (&id, read) in &self.segments {
            if self.dropped.contains(&id) {
                continue;
            }
            for hole in &read.scan.holes {
                let acknowledged = id < last || hole.offset < read.scan.synced_to;
                let block = hole.header.as_ref().map(|h| Line::of(h, true));
                found.push((id, hole.offset, hole.len, block, acknowledged));
            }
            for line in read
                .scan
                .lines
                .iter()
                .filter(|l| l.damaged && read.scan.sealed)
            {
                let len = crate::block::block_len(line.stored_len as usize);
                found.push((id, u64::from(line.offset), len, Some(*line), true));
            }
        }
        for (segment, offset, len, line, acknowledged) in found {
            let block = line.map(|line| self.damaged_block(&line));
            let damage = Damage {
                segment,
                offset,
                len,
                block,
                acknowledged,
            };
            self.report.damage.push(damage);
        }
    }

    fn damaged_block(&self, line: &Line) -> DamagedBlock {
        let stream = self
            .table
            .streams
            .get(&line.stream)
            .filter(|_| line.kind.has_records());
        DamagedBlock {
            stream: StreamId(line.stream),
            name: stream.map_or_else(String::new, |s| s.line.name.to_string()),
            first_seq: line.first_seq,
            records: u64::from(line.records),
        }
    }

    /// Gives each stream the blocks that it can read, and says what is missing between them.
    fn collect_blocks(&mut self) -> io::Result<()> {
        let mut runs: BTreeMap<u64, Vec<Run>> = BTreeMap::new();
        for (&id, read) in &self.segments {
            if self.dropped.contains(&id) {
                continue;
            }
            for extent in &read.scan.extents.all {
                let wanted = |s: &Stream| extent.end_seq > s.line.trimmed_to;
                if self.table.streams.get(&extent.stream).is_some_and(wanted) {
                    let mut run = Run::of(extent, id);
                    if !read.scan.sealed {
                        // There is no index to find it in.
                        run.place = None;
                    }
                    runs.entry(extent.stream).or_default().push(run);
                }
            }
        }
        for stream in self.table.streams.values_mut() {
            let id = stream.line.stream;
            let found = runs.remove(&id).unwrap_or_default();
            let segments = &self.segments;
            let lost = place(stream, found, |run| {
                let read = segments.get(&u64::from(run.segment));
                read.map_or_else(|| Ok(Vec::new()), |read| read.entries(id, run))
            })?;
            let id = StreamId(stream.line.stream);
            self.report.lost.extend(lost.into_iter().map(|r| LostRun {
                stream: id,
                name: stream.line.name.to_string(),
                first_seq: r.first,
                records: r.len(),
            }));
            self.report.blocks += stream.blocks;
        }
        self.report.lost.sort_by_key(|l| (l.stream, l.first_seq));
        Ok(())
    }

    fn finish(mut self, garbage: Vec<u64>, last: u64) -> Recovered {
        let mut unsealed = BTreeMap::new();
        for (id, read) in self.segments {
            if self.dropped.contains(&id) {
                continue;
            }
            let segment = Segment {
                file: read.file.clone(),
                end: read.scan.end,
                file_len: read.scan.file_len,
                sealed: read.scan.sealed,
                data_bytes: read.scan.extents.data_bytes,
                live_blocks: 0,
                live_bytes: 0,
            };
            self.table.segments.insert(id, segment);
            if !read.scan.sealed {
                unsealed.insert(id, read);
            }
        }
        for stream in self.table.streams.values() {
            for run in &stream.runs {
                let (segment, blocks) = (u64::from(run.segment), u64::from(run.blocks));
                occupy(&mut self.table.segments, segment, blocks, run.disk_bytes);
            }
        }
        Recovered {
            table: self.table,
            report: self.report,
            unsealed,
            garbage,
            spares: Vec::new(),
            last_segment: last,
            volume: None,
        }
    }
}

impl Read {
    /// The places of a run's blocks.
    fn entries(&self, stream: u64, run: &Run) -> io::Result<Vec<Entry>> {
        if self.scan.lines.is_empty() || self.scan.sealed {
            return Ok(locate(&*self.file, self.scan.end, stream, run)?.of(run));
        }
        let id = u64::from(run.segment);
        let lines = self.scan.lines.iter();
        let ours = lines.filter(|l| l.stream == stream && l.is_readable());
        let entries = ours.map(|line| Entry::of(line, id)).collect();
        Ok(Located::ByBlocks(entries).of(run))
    }
}
