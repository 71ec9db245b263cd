//! Silent corruption of synced bytes: lost, replaced or altered. Done to the files of a log that is
//! not open.

use std::path::Path;

use forebay_log::MemEnv;
use forebay_test_support::SeededRandom;

const SECTOR: usize = 512;

/// Damages one sector of the log; returns a description. The newest sector of the newest segment is
/// spared: a last write that is lost completely can't be told from one that never happened.
pub(crate) fn lie(disk: &MemEnv, random: &mut SeededRandom) -> Option<String> {
    let mut files = disk.files();
    files.retain(|(path, bytes)| is_segment(path) && used(bytes) > 2 * SECTOR);
    let newest = files.last()?.0.clone();
    let (path, mut bytes) = random.pick(&files).clone();
    let spared = if path == newest { used(&bytes) / 2 } else { 0 };
    let sectors = ((used(&bytes) - spared) / SECTOR).max(1);
    let at = random.index(sectors) * SECTOR;
    let name = path.file_name()?.to_string_lossy().into_owned();
    let what = match random.index(4) {
        0 => {
            bytes[at..at + SECTOR].fill(0);
            "was never written"
        }
        1 => {
            bytes[at + random.index(SECTOR)] ^= 1 << random.index(8);
            "has another bit"
        }
        2 => {
            let (_, other) = random.pick(&files);
            let from = random.index(other.len() / SECTOR) * SECTOR;
            bytes[at..at + SECTOR].copy_from_slice(&other[from..from + SECTOR]);
            "is another's"
        }
        _ => {
            let to = (at + 4 * SECTOR).min(sectors * SECTOR);
            bytes[at..to].fill(0xff);
            "is unreadable, with those behind it"
        }
    };
    let used = used(&bytes);
    disk.put(&path, bytes);
    Some(format!(
        "sector {} of {name} with {used} bytes {what}",
        at / SECTOR
    ))
}

/// Deletes what an operator may delete by mistake; returns a description, and whether records may
/// be lost with it without a trace.
pub(crate) fn lose(disk: &MemEnv, random: &mut SeededRandom) -> (&'static str, bool) {
    let all = disk.files();
    let is_volume = |path: &Path| path.file_name().is_some_and(|name| name == "volume");
    let (what, deletes, records): (_, fn(&Path) -> bool, _) = match random.index(4) {
        0 => ("the volume file was deleted", is_volume, false),
        1 => {
            if let Some((path, bytes)) = all.iter().find(|(path, _)| is_volume(path)) {
                let mut bytes = bytes.clone();
                let at = random.index(bytes.len().max(1));
                bytes.iter_mut().skip(at).take(1).for_each(|b| *b ^= 4);
                disk.put(path, bytes);
            }
            return ("the volume file is damaged", false);
        }
        2 => ("all segments were deleted", is_segment, true),
        _ => ("the log directory was deleted", |_| true, true),
    };
    for (path, _) in all.iter().filter(|(path, _)| deletes(path)) {
        // It exists: it was listed.
        forebay_log::Env::remove(disk, path).unwrap();
    }
    forebay_log::Env::sync_dir(disk, Path::new("/log")).unwrap();
    (what, records)
}

fn is_segment(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str());
    name.is_some_and(|n| n.starts_with("segment-"))
}

/// Bytes up to the last one that is not zero.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1)
}
