//! Revision file: the last committed revision, in a separate file.
//!
//! SQLite treats a missing or damaged write-ahead log as one that ends earlier, and silently
//! returns to its last checkpoint. This file detects that. It is never ahead of the database, since
//! the commit is on disk before the revision is written. After a power failure it may be behind by
//! the commits since its last sync.
//! behind after a power cut, by what was committed since its last sync.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::kv::store::Revision;

pub(super) const REVISION_FILE: &str = "meta.mark";
/// Two slots, written alternately, so that one is always intact.
const SLOT_OFFSETS: [u64; 2] = [0, 4096];
const LINE_LEN: usize = 64;
/// Maximum delay of the sync.
const SYNC_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct RevisionFile {
    path: PathBuf,
    file: Option<File>,
    next: usize,
    synced_at: Duration,
    unsynced: bool,
}

fn encode_line(revision: Revision) -> String {
    let body = format!("forebay-meta 1 {:020}", revision.0);
    format!("{body} {}\n", checksum(&body))
}

fn checksum(body: &str) -> String {
    format!("{:.16x}", Sha256::digest(body))
}

fn parse(bytes: &[u8]) -> Option<Revision> {
    let text = std::str::from_utf8(bytes).ok()?;
    let revision = text.strip_prefix("forebay-meta 1 ")?.get(..20)?;
    let revision = Revision(revision.parse().ok()?);
    text.starts_with(&encode_line(revision)).then_some(revision)
}

/// Reads the revision; `None` if the file is missing or neither slot is intact.
pub(super) fn read(dir: &Path) -> Option<Revision> {
    let file = File::open(dir.join(REVISION_FILE)).ok()?;
    let at = |offset: &u64| {
        let mut bytes = [0; LINE_LEN];
        let n = file.read_at(&mut bytes, *offset).ok()?;
        parse(bytes.get(..n)?)
    };
    SLOT_OFFSETS.iter().filter_map(at).max()
}

impl RevisionFile {
    /// Opens or creates the file. A failure is only logged, since the store works without it.
    pub(super) fn open(dir: &Path, now: Duration) -> Self {
        let path = dir.join(REVISION_FILE);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        if let Err(error) = &file {
            tracing::warn!(%error, file = %path.display(), "can't open the revision file of the metadata store");
        }
        Self {
            path,
            file: file.ok(),
            next: 0,
            synced_at: now,
            unsynced: false,
        }
    }

    /// Writes the committed revision. It survives the end of the process at once, and a power
    /// failure some seconds later.
    pub(super) fn write(&mut self, revision: Revision, now: Duration) {
        let Some(file) = &self.file else { return };
        let offset = SLOT_OFFSETS.get(self.next).copied().unwrap_or_default();
        self.next = 1 - self.next;
        if let Err(error) = file.write_all_at(encode_line(revision).as_bytes(), offset) {
            // Most likely a full disk: the next commit retries.
            tracing::debug!(%error, file = %self.path.display(), "can't write the revision file");
            return;
        }
        self.unsynced = true;
        if now.saturating_sub(self.synced_at) >= SYNC_EVERY {
            self.sync(now);
        }
    }

    pub(super) fn sync(&mut self, now: Duration) {
        self.synced_at = now;
        let Some(file) = self.file.as_ref().filter(|_| self.unsynced) else {
            return;
        };
        self.unsynced = false;
        if let Err(error) = file.sync_data() {
            tracing::warn!(%error, file = %self.path.display(), "can't sync the revision file of the metadata store");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_intact_slot_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), None);
        let mut file = RevisionFile::open(dir.path(), Duration::ZERO);
        for n in 1..=5 {
            file.write(Revision(n), Duration::ZERO);
            assert_eq!(read(dir.path()), Some(Revision(n)));
        }
        let path = dir.path().join(REVISION_FILE);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..encode_line(Revision(5)).len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(read(dir.path()), Some(Revision(4)), "byte {at}");
        }
        std::fs::write(&path, b"").unwrap();
        assert_eq!(read(dir.path()), None);
    }
}
