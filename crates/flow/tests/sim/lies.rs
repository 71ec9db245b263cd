//! What a disk can do to bytes that it has said are safe: forget them, put others in their place,
//! or keep them altered. Done to the files of a log that nobody has open.

use std::path::Path;

use forebay_log::MemEnv;

use crate::random::Random;

const SECTOR: usize = 512;

/// Damages one place of the log; says what it did. The newest place of the newest segment is
/// spared: a last write of which nothing is left is a write that never was, and nothing that is on
/// the disk can tell the difference.
pub(crate) fn lie(disk: &MemEnv, random: &mut Random) -> Option<String> {
    let mut files = disk.files();
    files.retain(|(path, bytes)| is_segment(path) && used(bytes) > 2 * SECTOR);
    let newest = files.last()?.0.clone();
    let (path, mut bytes) = random.pick(&files).clone();
    let spared = if path == newest { used(&bytes) / 2 } else { 0 };
    let sectors = ((used(&bytes) - spared) / SECTOR).max(1);
    let at = random.below(sectors) * SECTOR;
    let name = path.file_name()?.to_string_lossy().into_owned();
    let what = match random.below(4) {
        0 => {
            bytes[at..at + SECTOR].fill(0);
            "was never written"
        }
        1 => {
            bytes[at + random.below(SECTOR)] ^= 1 << random.below(8);
            "has another bit"
        }
        2 => {
            let (_, other) = random.pick(&files);
            let from = random.below(other.len() / SECTOR) * SECTOR;
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

/// Takes away what a person may take away by mistake; says what, and whether records may be gone
/// with it of which nothing tells any more.
pub(crate) fn lose(disk: &MemEnv, random: &mut Random) -> (&'static str, bool) {
    let all = disk.files();
    let is_volume = |path: &Path| path.file_name().is_some_and(|name| name == "volume");
    let (what, gone, records): (_, fn(&Path) -> bool, _) = match random.below(4) {
        0 => ("the file of the volume is gone", is_volume, false),
        1 => {
            if let Some((path, bytes)) = all.iter().find(|(path, _)| is_volume(path)) {
                let mut bytes = bytes.clone();
                let at = random.below(bytes.len().max(1));
                bytes.iter_mut().skip(at).take(1).for_each(|b| *b ^= 4);
                disk.put(path, bytes);
            }
            return ("the file of the volume is damaged", false);
        }
        2 => ("all segments are gone", is_segment, true),
        _ => ("the directory of the log is gone", |_| true, true),
    };
    for (path, _) in all.iter().filter(|(path, _)| gone(path)) {
        // It is there: it was listed.
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
