//! A reserve file that holds disk space for the moment when the disk is full.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::disk_space::free_bytes;

const FILE: &str = "reserve";
/// With less free space, metadata and tables soon can't be written.
const LOW_FREE_BYTES: u64 = 4 << 20;

#[derive(Clone, Debug)]
pub(crate) struct DiskReserve {
    dir: PathBuf,
    size: u64,
    /// Free space reserved for other programs.
    min_free: u64,
}

impl DiskReserve {
    pub(crate) fn new(dir: &Path, size: u64, min_free: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            size,
            min_free,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// Deletes the file when the disk is full, and creates it again when there is enough space.
    pub(crate) fn maintain(&self) {
        self.release_if_full();
        let Some(free) = free_bytes(&self.dir) else {
            return;
        };
        let plenty = self
            .size
            .saturating_mul(2)
            .saturating_add(self.min_free.max(LOW_FREE_BYTES));
        let missing = self.size > 0 && !self.path().exists();
        if missing && free > plenty {
            match self.allocate() {
                Ok(()) => tracing::debug!(bytes = self.size, "created the disk reserve"),
                Err(error) => {
                    tracing::warn!(%error, file = %self.path().display(), "can't create the disk reserve");
                    drop(std::fs::remove_file(self.path()));
                }
            }
        }
    }

    /// Deletes the file when the disk is full.
    pub(crate) fn release_if_full(&self) {
        let full = free_bytes(&self.dir).is_some_and(|free| free < LOW_FREE_BYTES);
        if full && self.path().exists() {
            match std::fs::remove_file(self.path()) {
                Ok(()) => {
                    tracing::warn!(bytes = self.size, dir = %self.dir.display(), "disk full: deleted the disk reserve, so that imports can free space");
                }
                Err(error) => {
                    tracing::warn!(%error, file = %self.path().display(), "disk full: can't delete the disk reserve");
                }
            }
        }
    }

    /// Writes zeroes, not a hole: a file system may promise space that it does not have.
    fn allocate(&self) -> std::io::Result<()> {
        let temporary = self.dir.join("reserve.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        let zeroes = vec![0; 1 << 20];
        let mut left = self.size;
        while left > 0 {
            let n = usize::try_from(left)
                .unwrap_or(zeroes.len())
                .min(zeroes.len());
            if let Err(error) = file.write_all(zeroes.get(..n).unwrap_or_default()) {
                drop(std::fs::remove_file(&temporary));
                return Err(error);
            }
            left -= n as u64;
        }
        file.sync_all()?;
        std::fs::rename(temporary, self.path())
    }
}
