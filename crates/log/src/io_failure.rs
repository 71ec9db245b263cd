//! Failures of files: full, scarce or broken.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Failure of a write.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    /// No space; no acknowledged data is at risk.
    Full,
    /// Out of descriptors or memory in a call that touches no data. Nothing was written; a later
    /// attempt may succeed.
    Scarce { path: PathBuf, source: io::Error },
    /// The disk failed. Final.
    Io {
        during: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

/// Whether the file system reports that it is full.
pub(crate) fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Whether the process or the system ran out of a resource that may be released later: the disk has
/// not failed. Not for a write or sync of data, which may be partly done.
pub(crate) fn is_scarce(e: &io::Error) -> bool {
    use rustix::io::Errno;
    const SCARCE: [Errno; 6] = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::INTR,
        Errno::AGAIN,
        Errno::NOBUFS,
    ];
    let errno = Errno::from_io_error(e);
    errno.is_some_and(|errno| SCARCE.contains(&errno))
        || e.kind() == io::ErrorKind::OutOfMemory
        || e.get_ref().is_some_and(|e| e.is::<ReopenError>())
}

/// Whether the process or the system reached its limit of open files.
pub(crate) fn is_no_descriptor(e: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(e), Some(Errno::MFILE | Errno::NFILE))
}

/// A segment could not be reopened: that proves nothing about its content.
#[derive(Debug)]
pub(crate) struct ReopenError(pub(crate) io::Error);

impl fmt::Display for ReopenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't reopen the file: {}", self.0)
    }
}

impl std::error::Error for ReopenError {}
