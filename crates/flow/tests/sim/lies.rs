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

fn is_segment(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str());
    name.is_some_and(|n| n.starts_with("segment-"))
}

/// Bytes up to the last one that is not zero.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1)
}
