//! Space of file systems.

use std::path::Path;

/// Free bytes of a directory's file system.
pub(crate) fn free_bytes(dir: &Path) -> Option<u64> {
    disk_space(dir).map(|space| space.free)
}

/// Space of a file system, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskSpace {
    pub(crate) size: u64,
    /// Bytes that an unprivileged process can use.
    pub(crate) free: u64,
}

pub(crate) fn disk_space(dir: &Path) -> Option<DiskSpace> {
    let fs = rustix::fs::statvfs(dir).ok()?;
    Some(DiskSpace {
        size: fs.f_blocks.saturating_mul(fs.f_frsize),
        free: fs.f_bavail.saturating_mul(fs.f_frsize),
    })
}
