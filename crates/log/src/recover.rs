//! Recovery: builds the table from the files of a directory. Read-only, so that `inspect` can use
//! it beside a running node; `open` does the repairs.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::block::BlockKind;
use crate::catalog::Catalog;
use crate::env::{Env, EnvFile, FileAccess, read_full};
use crate::error::LogOpenError;
use crate::index::IndexEntry;
use crate::io_failure::is_scarce;
use crate::scan;
use crate::segment::{
    SEGMENT_HEADER_LEN, SegmentHeader, parse_segment_name, parse_spare_name, segment_name,
};
use crate::volume::{VolumeFileStatus, open_error};

mod replay;

pub(crate) use replay::{RecoveredVolume, ScannedSegment};

use replay::{SegmentReplay, payload};

/// Recovers a directory whose file `volume` has the status `found`.
pub(crate) fn load(
    env: &dyn Env,
    dir: &Path,
    access: FileAccess,
    found: VolumeFileStatus,
) -> Result<RecoveredVolume, LogOpenError> {
    let names = env.list(dir).map_err(|e| open_error(dir, dir, e))?;
    let spare_segments: Vec<u64> = names.iter().filter_map(|n| parse_spare_name(n)).collect();
    let mut files = Vec::new();
    for id in names.iter().filter_map(|n| parse_segment_name(n)) {
        let path = dir.join(segment_name(id));
        let file = match env.open(&path, access) {
            Ok(file) => file,
            // Removed by the running node.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(open_error(dir, &path, e)),
        };
        // A running node may remove an inspected file: it must stay open.
        let file = match access {
            FileAccess::Read => file,
            _ => env.cache_read_only(&path, file),
        };
        files.push((id, path, file));
    }
    files.sort_by_key(|(id, ..)| std::cmp::Reverse(*id));
    let last = files.first().map_or(0, |(id, ..)| *id);
    let (volume, foreign) =
        separate_foreign(found, &mut files).map_err(|(p, e)| open_error(dir, &p, e))?;
    // The newest sound catalog and the control blocks behind it define all streams. Older segments
    // only contribute blocks, and their extents list them.
    let mut segments = BTreeMap::new();
    let mut newest = None;
    for (id, path, file) in files {
        let scan = match newest {
            None => scan::segment(&*file, id),
            Some(_) => scan::outline(&*file, id),
        };
        let scan = scan.map_err(|e| open_error(dir, &path, e))?;
        let read = ScannedSegment { file, scan };
        if newest.is_none() {
            let found = catalog(&read).map_err(|e| open_error(dir, &path, e))?;
            newest = found.map(|catalog| (id, catalog));
        }
        segments.insert(id, read);
    }
    let recovered = SegmentReplay::new(segments).run(newest);
    let mut recovered = recovered.map_err(|e| open_error(dir, dir, e))?;
    recovered.spare_segments = spare_segments;
    recovered.volume = volume;
    let report = &mut recovered.report;
    report.volume_file_damaged = match found {
        VolumeFileStatus::Sound(written) => volume != Some(written.id),
        VolumeFileStatus::Damaged => true,
        VolumeFileStatus::Missing => report.segments > 0 || !foreign.is_empty(),
    };
    report.foreign_segments = foreign;
    // Segments of other volumes keep their names, too.
    recovered.last_segment = recovered.last_segment.max(last);
    Ok(recovered)
}

/// Determines the volume of the directory, and removes the segments of other volumes from `files`:
/// their stream numbers collide with ours. A segment with a damaged header counts as ours. A header
/// with another segment number is previous content of the file and does not identify the directory.
fn separate_foreign(
    found: VolumeFileStatus,
    files: &mut Vec<ListedSegment>,
) -> Result<(Option<u64>, Vec<u64>), (PathBuf, io::Error)> {
    let mut headers = Vec::new();
    for (id, path, file) in files.iter() {
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        match read_full(&**file, &mut bytes, 0) {
            Err(e) if is_scarce(&e) => return Err((path.clone(), e)),
            // The scan reports an unreadable file.
            Err(_) => {}
            Ok(_) => {
                headers.extend(SegmentHeader::decode(&bytes).map(|header| (*id, header)));
            }
        }
    }
    let own = headers.iter().filter(|(id, header)| header.segment == *id);
    let own: Vec<(u64, u64)> = own.map(|(id, header)| (*id, header.volume)).collect();
    let volume = found.id(&own);
    let others = headers
        .iter()
        .filter(|(_, header)| Some(header.volume) != volume);
    let foreign: Vec<u64> = match volume {
        Some(_) => others.map(|(id, _)| *id).collect(),
        None => Vec::new(),
    };
    files.retain(|(id, ..)| !foreign.contains(id));
    Ok((volume, foreign))
}

/// Number, path and file of a segment.
type ListedSegment = (u64, PathBuf, Arc<dyn EnvFile>);

/// Reads the catalog of a segment. It is written twice; either copy will do.
fn catalog(read: &ScannedSegment) -> io::Result<Option<Catalog>> {
    let index_entries = read
        .scan
        .index_entries
        .iter()
        .filter(|l| l.kind == BlockKind::Catalog && !l.damaged);
    let mut copies: [BTreeMap<u64, &IndexEntry>; 2] = [BTreeMap::new(), BTreeMap::new()];
    let mut parts = 0;
    for index_entry in index_entries {
        parts = u64::from(index_entry.records);
        if let Some(copy) = copies.get_mut(usize::from(index_entry.codec)) {
            copy.insert(index_entry.first_seq, index_entry);
        }
    }
    let mut bytes = Vec::new();
    for part in 0..parts {
        let mut found = None;
        for index_entry in copies.iter().filter_map(|copy| copy.get(&part)) {
            found = match found {
                None => payload(&*read.file, index_entry)?,
                found => found,
            };
        }
        let Some(found) = found else { return Ok(None) };
        bytes.extend_from_slice(&found);
    }
    Ok((parts > 0).then(|| Catalog::decode(&bytes)).flatten())
}
