//! What can go wrong, one enum for each kind of call.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a directory could not be opened. Damaged content is never a reason, see
/// [`RecoveryReport`](crate::RecoveryReport).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogOpenError {
    /// Another process has the lock.
    #[error("{}: another process has this data directory open; stop it, or use another directory", dir.display())]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// A newer Forebay wrote it.
    #[error("{}: written in format version {found}, this program knows up to {known}; use a newer one", dir.display())]
    Version {
        /// The data directory.
        dir: PathBuf,
        /// The version found there.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// Nothing can be written there.
    #[error("{}: can't write in this data directory ({source}); mount it writable and give this user the right to write in it", dir.display())]
    ReadOnly {
        /// The data directory.
        dir: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is no log there (only when opened for inspection).
    #[error("{}: no log here: a data directory has a file named `volume` or segments in it; check the path", dir.display())]
    NoLog {
        /// The data directory.
        dir: PathBuf,
    },
    /// A setting is outside its range.
    #[error("log setting `{name}` is {value}, allowed is {allowed}")]
    Config {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// The operating system refused something else.
    #[error("{}: {source}; check the disk and the rights on this path, then start again", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Why something could not be appended. Nothing was written in any of these cases.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogAppendError {
    /// The queue before the writer is full: wait for [`Log::queue_space`](crate::Log::queue_space), try again.
    #[error("the log's queue is full")]
    Busy,
    /// The volume has no room left.
    #[error("the volume is full: {needed} bytes asked for, {available} available")]
    Full {
        /// Bytes that were asked for.
        needed: u64,
        /// Bytes that are neither used nor reserved.
        available: u64,
    },
    /// The stream was closed.
    #[error("the stream is closed")]
    Closed,
    /// There is no such stream (any more).
    #[error("no such stream")]
    UnknownStream,
    /// A name is empty or too long, or a block has no records or too large a payload.
    #[error("{0}")]
    Invalid(&'static str),
    /// As many streams as the configuration allows.
    #[error("the volume has {0} streams, and may not have more")]
    TooManyStreams(usize),
    /// A write or sync has failed: nothing is taken until the directory is opened anew.
    #[error(transparent)]
    Latched(#[from] LatchedFailure),
    /// The log was shut down.
    #[error("the log is shut down")]
    Shutdown,
}

/// Why a block that was handed over is not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The disk failed; the block may be found when the directory is opened anew, or not.
    #[error("may have happened: {0}")]
    MayHaveHappened(LatchedFailure),
    /// There was no room; the block was not written, and never will be.
    #[error("not written: the volume is full")]
    Full,
    /// The system had no file descriptor or memory to open the next segment with; the block was not
    /// written, and never will be. The volume is well: the next block is tried as usual.
    #[error("not written: the system has no room for one more open file or for memory ({0})")]
    Scarce(Arc<str>),
    /// The log was dropped before the block was written; it never will be.
    #[error("not written: the log is shut down")]
    Shutdown,
}

/// The first failure of a volume, after which it takes nothing more.
#[derive(Clone, Debug)]
pub struct LatchedFailure {
    /// What was being done.
    pub during: &'static str,
    /// The file, and what the operating system said.
    pub cause: Arc<str>,
    /// When, by the wall clock.
    pub at_ms: i64,
}

impl PartialEq for LatchedFailure {
    fn eq(&self, other: &Self) -> bool {
        self.during == other.during && self.cause == other.cause && self.at_ms == other.at_ms
    }
}

impl Eq for LatchedFailure {}

impl fmt::Display for LatchedFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the volume failed during {} ({}); it can be read, and takes data again after the disk was checked and the log was opened anew",
            self.during, self.cause
        )
    }
}

impl std::error::Error for LatchedFailure {}

/// Why a block could not be read. Damage is no error: it is a [`SequenceGap`](crate::SequenceGap).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogReadError {
    /// There is no such stream (any more).
    #[error("no such stream")]
    UnknownStream,
    /// The operating system could not read; trying again may help.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}
