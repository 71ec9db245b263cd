//! Errors, one enum per kind of call.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Error of opening a directory. Damaged content is no error, see
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
    /// The directory was written by a newer version.
    #[error("{}: format version {found} is newer than the supported {known}; use a newer Forebay", dir.display())]
    Version {
        /// The data directory.
        dir: PathBuf,
        /// The version found there.
        found: u32,
        /// The newest supported version.
        known: u32,
    },
    /// The directory is not writable.
    #[error("{}: this data directory is not writable ({source}); mount it writable and give this user write permission", dir.display())]
    ReadOnly {
        /// The data directory.
        dir: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// No log exists in the directory (only when opened for inspection).
    #[error("{}: no log here: a data directory contains a file `volume` or segments; check the path", dir.display())]
    NoLog {
        /// The data directory.
        dir: PathBuf,
    },
    /// A setting is outside its range.
    #[error("log setting `{name}` is {value}, allowed is {allowed}")]
    Config {
        /// Name of the setting.
        name: &'static str,
        /// Given value.
        value: String,
        /// Allowed range.
        allowed: String,
    },
    /// Another error of the operating system.
    #[error("{}: {source}; check the disk and the permissions of this path, then restart", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Error of an append. Nothing was written in any of these cases.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogAppendError {
    /// The append queue is full: wait for [`Log::queue_space`](crate::Log::queue_space) and retry.
    #[error("the log's queue is full")]
    Busy,
    /// The volume has too little free space.
    #[error("the volume is full: {needed} bytes requested, {available} available")]
    Full {
        /// Bytes requested.
        needed: u64,
        /// Bytes neither used nor reserved.
        available: u64,
    },
    /// The stream was closed.
    #[error("the stream is closed")]
    Closed,
    /// The stream doesn't exist (any more).
    #[error("no such stream")]
    UnknownStream,
    /// A name is empty or too long, or a block has no records or too large a payload.
    #[error("{0}")]
    Invalid(&'static str),
    /// The volume has as many streams as the configuration allows.
    #[error("the volume has reached the limit of {0} streams")]
    TooManyStreams(usize),
    /// A write or sync has failed: the volume accepts nothing until it is reopened.
    #[error(transparent)]
    Latched(#[from] LatchedFailure),
    /// The log was shut down.
    #[error("the log is shut down")]
    Shutdown,
}

/// Error of a block that was queued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The disk failed; after a reopen the block may exist or not.
    #[error("outcome unknown: {0}")]
    MayHaveHappened(LatchedFailure),
    /// The volume was full; the block was not written, and never will be.
    #[error("not written: the volume is full")]
    Full,
    /// No file descriptor or memory was available to open the next segment; the block was not
    /// written, and never will be. The volume is healthy: the next block is tried as usual.
    #[error("not written: out of file descriptors or memory ({0})")]
    Scarce(Arc<str>),
    /// The log was shut down before the block was written; it never will be.
    #[error("not written: the log is shut down")]
    Shutdown,
}

/// The first failure of a volume, after which it accepts nothing.
#[derive(Clone, Debug)]
pub struct LatchedFailure {
    /// The operation that failed.
    pub during: &'static str,
    /// The file and the error of the operating system.
    pub cause: Arc<str>,
    /// Time of the failure in milliseconds since 1970.
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
            "the volume failed during {} ({}); it is read-only until the disk has been checked and the log reopened",
            self.during, self.cause
        )
    }
}

impl std::error::Error for LatchedFailure {}

/// Error of a read. Damage is no error but a [`SequenceGap`](crate::SequenceGap).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogReadError {
    /// The stream doesn't exist (any more).
    #[error("no such stream")]
    UnknownStream,
    /// The read failed; a retry may succeed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}
