//! Opens the database file, with a separate error for each way in which it can be unusable.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};

use crate::kv::store::Revision;

/// "fbmd": shown as the application id by SQLite's tools and `file`.
pub(super) const APPLICATION_ID: i32 = 0x6662_6d64;
/// Version of the tables below. Each change needs a new version and a step in [`migrate`].
pub(super) const SCHEMA_VERSION: i32 = 1;
/// File name of the metadata store.
pub const DATABASE_FILE: &str = "meta.db";
/// Locked by the one process that may write.
const LOCK_FILE: &str = "meta.lock";

const SCHEMA: &str = "
    CREATE TABLE meta (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('revision', 0), ('opened', 0);
    CREATE TABLE kv (
        key TEXT PRIMARY KEY,
        value BLOB NOT NULL,
        created INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        lease INTEGER
    ) STRICT;
    CREATE INDEX kv_lease ON kv (lease) WHERE lease IS NOT NULL;
";

/// Expected content of the directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpenMode {
    /// A store or nothing: a new store is created, unless there is evidence of an earlier one.
    #[default]
    Optional,
    /// A store; its absence is an error.
    Required,
    /// The operator accepts the existing store, even if it has lost transactions.
    MayBeBehind,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    #[error("{dir} is in use by another process (it holds {LOCK_FILE})")]
    Locked { dir: PathBuf },
    /// The tables are of a later version of Forebay.
    #[error(
        "{file} has format version {found}, this program knows versions up to {SCHEMA_VERSION}: use a newer forebay"
    )]
    Newer { file: PathBuf, found: i32 },
    #[error("{file} is an SQLite database, but not a Forebay metadata store")]
    NotOurs { file: PathBuf },
    /// The directory or file is not writable.
    #[error("{path} can't be written: {reason}")]
    NotWritable {
        path: PathBuf,
        /// Error of the operating system.
        reason: String,
    },
    #[error("{file} is damaged ({reason}); the log's data is not affected")]
    Corrupt {
        file: PathBuf,
        /// Error of SQLite.
        reason: String,
    },
    #[error("{file} does not exist")]
    Missing { file: PathBuf },
    /// The database is missing, but files beside it show that there was one.
    #[error("{file} is missing, but this directory had a metadata store")]
    Removed { file: PathBuf },
    /// The database lost committed transactions: SQLite recovered an earlier state because its
    /// write-ahead log is missing or damaged, or an older file was restored.
    #[error(
        "{file} is at revision {found}, but revision {known} was committed: at least {} transactions are lost",
        known.0 - found.0
    )]
    Behind {
        file: PathBuf,
        /// Revision of the database.
        found: Revision,
        /// Highest revision known to be committed.
        known: Revision,
    },
    /// No free space to open it.
    #[error("can't open {path}, the disk is full: {reason}")]
    Full {
        path: PathBuf,
        /// Error of the operating system or SQLite.
        reason: String,
    },
    #[error("can't open {path}: {reason}")]
    Other {
        path: PathBuf,
        /// Error of the operating system or SQLite.
        reason: String,
    },
}

/// Lock on the directory until drop. The operating system releases it when the process ends.
#[derive(Debug)]
pub(super) struct StoreLock(
    #[allow(dead_code, reason = "held for its lock, not for its content")] File,
);

/// Locks the directory for this process; creates the directory if it is missing.
pub(super) fn acquire_lock(dir: &Path) -> Result<StoreLock, StoreOpenError> {
    std::fs::create_dir_all(dir).map_err(|e| from_io(dir, &e))?;
    let path = dir.join(LOCK_FILE);
    let file = open_private(&path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(StoreLock(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreOpenError::Locked {
            dir: dir.to_owned(),
        }),
        Err(e) => Err(from_io(&path, &e.into())),
    }
}

/// Opens or creates a file with owner-only permissions: the database has the sources' secrets.
fn open_private(path: &Path) -> Result<File, StoreOpenError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| from_io(path, &e))
}

pub(super) fn from_io(path: &Path, error: &std::io::Error) -> StoreOpenError {
    use std::io::ErrorKind;
    let (path, reason) = (path.to_owned(), error.to_string());
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            StoreOpenError::NotWritable { path, reason }
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreOpenError::Full { path, reason },
        _ => StoreOpenError::Other { path, reason },
    }
}

pub(super) fn from_sqlite(file: &Path, error: &rusqlite::Error) -> StoreOpenError {
    use rusqlite::ErrorCode;
    let (path, reason) = (file.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreOpenError::Corrupt { file: path, reason }
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            StoreOpenError::NotWritable { path, reason }
        }
        Some(ErrorCode::DiskFull) => StoreOpenError::Full { path, reason },
        // SQLite's error is unspecific when there is no space for the index of its write-ahead log.
        _ if is_full(&path) => StoreOpenError::Full { path, reason },
        _ => StoreOpenError::Other { path, reason },
    }
}

/// Whether the file system has no free block.
fn is_full(path: &Path) -> bool {
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty());
    rustix::fs::statvfs(dir.unwrap_or(Path::new("."))).is_ok_and(|fs| fs.f_bavail == 0)
}

/// The revision of the database; 0 if it has no tables yet.
pub(super) fn revision(db: &Connection, file: &Path) -> Result<Revision, StoreOpenError> {
    let fail = |e: rusqlite::Error| from_sqlite(file, &e);
    let tables: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))
        .map_err(fail)?;
    if tables == 0 {
        return Ok(Revision::default());
    }
    let sql = "SELECT value FROM meta WHERE name = 'revision'";
    let revision = db.query_row(sql, (), |row| row.get(0));
    revision.map(super::rows::from_sql).map_err(fail)
}

/// Opens the writing connection; creates the file and its tables if there are none. `known` is a
/// revision that was committed before; a database behind it is opened only if `existing` is
/// [`OpenMode::MayBeBehind`].
pub(super) fn writer(
    dir: &Path,
    known: Option<Revision>,
    existing: OpenMode,
) -> Result<Connection, StoreOpenError> {
    let file = dir.join(DATABASE_FILE);
    let is_new = !file.exists();
    let accepted = existing == OpenMode::MayBeBehind;
    if is_new && !accepted && (known.is_some() || existing == OpenMode::Required) {
        return Err(StoreOpenError::Removed { file });
    }
    drop(open_private(&file)?);
    let fail = |e: rusqlite::Error| from_sqlite(&file, &e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(&file, flags).map_err(fail)?;
    check(&db, &file)?;
    let found = revision(&db, &file)?;
    let behind = known.filter(|known| found < *known);
    if let Some(known) = behind.filter(|_| !accepted) {
        return Err(StoreOpenError::Behind { file, found, known });
    }
    db.pragma_update(None, "journal_mode", "WAL")
        .map_err(fail)?;
    // Acknowledged transactions are synced.
    db.pragma_update(None, "synchronous", "FULL")
        .map_err(fail)?;
    // Checkpoints keep the log small; this truncates it after it has grown large.
    db.pragma_update(None, "journal_size_limit", 64 << 20)
        .map_err(fail)?;
    migrate(&mut db).map_err(fail)?;
    if let Some(known) = behind {
        tracing::error!(file = %file.display(), found = found.0, known = known.0, lost = known.0 - found.0, "metadata store opened at an earlier revision, as requested");
        // Never reuse a revision; the database is no longer behind either.
        let set = "UPDATE meta SET value = ?1 WHERE name = 'revision'";
        db.execute(set, [super::rows::to_sql(known.next())])
            .map_err(fail)?;
    }
    if is_new {
        // Sync the directory entry before anything in the file is relied upon.
        for dir in [Some(dir), dir.parent()].into_iter().flatten() {
            if !dir.as_os_str().is_empty() {
                let synced = File::open(dir).and_then(|d| d.sync_all());
                synced.map_err(|e| from_io(dir, &e))?;
            }
        }
    }
    Ok(db)
}

/// Opens a read-only connection.
pub(super) fn reader(dir: &Path) -> Result<Connection, StoreOpenError> {
    let file = dir.join(DATABASE_FILE);
    if !file.exists() {
        return Err(StoreOpenError::Missing { file });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(&file, flags).map_err(|e| from_sqlite(&file, &e))?;
    // Readers wait only while the write-ahead log is reset.
    db.busy_timeout(std::time::Duration::from_secs(5))
        .map_err(|e| from_sqlite(&file, &e))?;
    Ok(db)
}

/// Checks that the file is an intact metadata store of a known version.
pub(super) fn check(db: &Connection, file: &Path) -> Result<(), StoreOpenError> {
    let fail = |e: rusqlite::Error| from_sqlite(file, &e);
    let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let version = pragma("user_version").map_err(fail)?;
    let application = pragma("application_id").map_err(fail)?;
    let tables: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))
        .map_err(fail)?;
    if tables > 0 && application != APPLICATION_ID {
        return Err(StoreOpenError::NotOurs {
            file: file.to_owned(),
        });
    }
    if version > SCHEMA_VERSION {
        return Err(StoreOpenError::Newer {
            file: file.to_owned(),
            found: version,
        });
    }
    let verdict: String = db
        .query_row("PRAGMA quick_check(1)", (), |row| row.get(0))
        .map_err(fail)?;
    if verdict != "ok" {
        return Err(StoreOpenError::Corrupt {
            file: file.to_owned(),
            reason: verdict,
        });
    }
    Ok(())
}

/// Migrates one version per step, each in a transaction that also writes the version number.
fn migrate(db: &mut Connection) -> rusqlite::Result<()> {
    let txn = db.transaction()?;
    let version: i32 = txn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version < 1 {
        txn.execute_batch(SCHEMA)?;
        txn.pragma_update(None, "application_id", APPLICATION_ID)?;
        txn.pragma_update(None, "user_version", 1)?;
    }
    txn.commit()
}
