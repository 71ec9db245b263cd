//! Consistent, verified copies of SQLite databases that are in use. A copy appears atomically.

use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

/// Pages to copy between two checks for cancellation.
const STEP_PAGES: i32 = 2048;

/// Error of copying a database.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("{path}: {source}")]
    Sqlite {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The integrity check failed.
    #[error("{path} is damaged: {reason}")]
    Damaged { path: PathBuf, reason: String },
    /// The caller cancelled the copy.
    #[error("the copy was stopped")]
    Stopped,
}

/// A database pinned at one moment by a read transaction: later writes are not visible, and the
/// write-ahead log can't be reset until this is dropped.
#[derive(Debug)]
pub struct PinnedDatabase {
    db: Connection,
    path: PathBuf,
}

impl PinnedDatabase {
    /// Pins the present state.
    pub fn open(path: &Path) -> Result<Self, CopyError> {
        let fail = |source| sqlite(path, source);
        // Only for reading, but a read-only connection can't open a write-ahead log that no other
        // connection has open.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags).map_err(fail)?;
        db.busy_timeout(std::time::Duration::from_secs(5))
            .map_err(fail)?;
        db.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")
            .map_err(fail)?;
        Ok(Self {
            db,
            path: path.to_owned(),
        })
    }

    /// Writes the pinned state to a new file with owner-only permissions: copies to a temporary
    /// name, checks, syncs, renames. Calls `go_on` repeatedly to ask whether to continue. Returns
    /// the copy's size in bytes. On an error there is no file.
    pub fn copy_to(&self, to: &Path, go_on: &dyn Fn() -> bool) -> Result<u64, CopyError> {
        let mut name = to.as_os_str().to_owned();
        name.push(".new");
        let temporary = PathBuf::from(name);
        let done = self
            .write(&temporary, go_on)
            .and_then(|bytes| publish(&temporary, to).map(|()| bytes));
        if done.is_err() {
            drop(std::fs::remove_file(&temporary));
        }
        done
    }

    fn write(&self, to: &Path, go_on: &dyn Fn() -> bool) -> Result<u64, CopyError> {
        let io = |source| io(to, source);
        match std::fs::remove_file(to) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
            _ => {}
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(to)
            .map_err(io)?;
        let fail = |source| sqlite(to, source);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut copy = Connection::open_with_flags(to, flags).map_err(fail)?;
        // The file is not visible before the sync below.
        copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
            .map_err(fail)?;
        {
            let backup = Backup::new(&self.db, &mut copy).map_err(fail)?;
            loop {
                match backup.step(STEP_PAGES) {
                    Ok(StepResult::Done) => break,
                    Ok(_) if go_on() => {}
                    Ok(_) => return Err(CopyError::Stopped),
                    Err(source) => return Err(sqlite(&self.path, source)),
                }
            }
        }
        copy.close().map_err(|(_, e)| fail(e))?;
        file.sync_all().map_err(io)?;
        verify(to)?;
        Ok(file.metadata().map_err(io)?.len())
    }
}

/// Checks the integrity of a database that no process has open. Writes nothing, not even beside it.
pub fn verify(path: &Path) -> Result<(), CopyError> {
    let db = open_immutable(path)?;
    let verdict: rusqlite::Result<String> =
        db.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0));
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(reason) => Err(CopyError::Damaged {
            path: path.to_owned(),
            reason,
        }),
        Err(e) => Err(CopyError::Damaged {
            path: path.to_owned(),
            reason: e.to_string(),
        }),
    }
}

/// Bytes of a path that are escaped in a URI.
const NOT_IN_URIS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_');

/// Opens the file as immutable.
pub(crate) fn open_immutable(path: &Path) -> Result<Connection, CopyError> {
    let path_bytes = path.as_os_str().as_bytes();
    let uri = format!(
        "file:{}?immutable=1",
        percent_encode(path_bytes, NOT_IN_URIS)
    );
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(uri, flags).map_err(|source| sqlite(path, source))
}

fn publish(temporary: &Path, to: &Path) -> Result<(), CopyError> {
    let renamed = std::fs::rename(temporary, to);
    renamed.map_err(|source| io(to, source))?;
    let dir = to.parent().filter(|d| !d.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    let synced = File::open(dir).and_then(|d| d.sync_all());
    synced.map_err(|source| io(dir, source))
}

fn sqlite(path: &Path, source: rusqlite::Error) -> CopyError {
    CopyError::Sqlite {
        path: path.to_owned(),
        source,
    }
}

fn io(path: &Path, source: std::io::Error) -> CopyError {
    CopyError::Io {
        path: path.to_owned(),
        source,
    }
}
