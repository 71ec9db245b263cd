//! Opening the database file, with an error for each thing that can be wrong with it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};

use super::OpenMode;
use crate::kv::store::Revision;

/// "fbmd": what SQLite's tools and `file` show as the application's id.
pub(super) const APPLICATION_ID: i32 = 0x6662_6d64;
/// Version of the tables below. A change of them needs a new one and a step in [`migrate`].
pub(super) const SCHEMA_VERSION: i32 = 1;
/// A metadata store keeps its file under this name.
pub const DATABASE_FILE: &str = "meta.db";
/// Held by the one process that may write.
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

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    /// Another process has it.
    #[error("{dir} is in use by another process (it holds {LOCK_FILE})")]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// Its tables are of a later version of Forebay.
    #[error(
        "{file} has format version {found}, this program knows versions up to {SCHEMA_VERSION}: use a newer forebay"
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: i32,
    },
    /// It is a database of something else.
    #[error("{file} is an SQLite database, but not one of forebay's")]
    NotOurs {
        /// The file.
        file: PathBuf,
    },
    /// It can't be written to.
    #[error("{path} can't be written: {reason}")]
    NotWritable {
        /// The directory or file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Its content is damaged.
    #[error("{file} is damaged ({reason}); the log's data is not affected")]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// There is none, and it was not to be made.
    #[error("{file} does not exist")]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// There was one: what is beside it says so.
    #[error("{file} is missing, and this directory had one")]
    Removed {
        /// The file.
        file: PathBuf,
    },
    /// It has lost transactions that were committed: SQLite went back to an earlier state, because
    /// its write-ahead log is missing or damaged, or somebody has put an older file in its place.
    #[error(
        "{file} went back: it is at revision {found}, but revision {known} was committed, so at least {} transactions are lost",
        known.0 - found.0
    )]
    Behind {
        /// The file.
        file: PathBuf,
        /// What it is at.
        found: Revision,
        /// What was committed.
        known: Revision,
    },
    /// There is no room to open it.
    #[error("{path} can't be opened, the disk is full: {reason}")]
    Full {
        /// The directory or file.
        path: PathBuf,
        /// What the system or SQLite says.
        reason: String,
    },
    /// Anything else.
    #[error("can't open {path}: {reason}")]
    Other {
        /// The directory or file.
        path: PathBuf,
        /// What the system or SQLite says.
        reason: String,
    },
}

/// The lock, held as long as this lives. The system drops it with the process, however that ends.
#[derive(Debug)]
pub(super) struct StoreLock(
    #[allow(dead_code, reason = "held for its lock, not for its content")] File,
);

/// Takes the directory for this process; makes it when it is not there.
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

/// Opens or makes a file that only its owner may read: the database has the sources' secrets.
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
        // Where there is no room for the index of its write-ahead log, SQLite can't say it better.
        _ if is_full(&path) => StoreOpenError::Full { path, reason },
        _ => StoreOpenError::Other { path, reason },
    }
}

/// Whether the file system has no block left.
fn is_full(path: &Path) -> bool {
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty());
    rustix::fs::statvfs(dir.unwrap_or(Path::new("."))).is_ok_and(|fs| fs.f_bavail == 0)
}

/// The revision that the database is at; 0 when it has no tables yet.
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

/// The writing connection; makes the file and its tables when there are none. `known` is a revision
/// that was committed once; a database that is before it is only opened when that is `accepted`.
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
    // An acknowledged transaction has survived fsync.
    db.pragma_update(None, "synchronous", "FULL")
        .map_err(fail)?;
    // Checkpoints keep it small; one that grew large gives its room back.
    db.pragma_update(None, "journal_size_limit", 64 << 20)
        .map_err(fail)?;
    migrate(&mut db).map_err(fail)?;
    if let Some(known) = behind {
        tracing::error!(file = %file.display(), found = found.0, known = known.0, lost = known.0 - found.0, "the metadata store goes on from an earlier state, as was asked for");
        // Numbers that were given out are not given out again, so it is behind nothing any more.
        let set = "UPDATE meta SET value = ?1 WHERE name = 'revision'";
        db.execute(set, [super::rows::to_sql(known.next())])
            .map_err(fail)?;
    }
    if is_new {
        // The file's name is durable too, before anything that is in it is relied upon.
        for dir in [Some(dir), dir.parent()].into_iter().flatten() {
            if !dir.as_os_str().is_empty() {
                let synced = File::open(dir).and_then(|d| d.sync_all());
                synced.map_err(|e| from_io(dir, &e))?;
            }
        }
    }
    Ok(db)
}

/// A connection that only reads.
pub(super) fn reader(dir: &Path) -> Result<Connection, StoreOpenError> {
    let file = dir.join(DATABASE_FILE);
    if !file.exists() {
        return Err(StoreOpenError::Missing { file });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(&file, flags).map_err(|e| from_sqlite(&file, &e))?;
    // Readers wait for nothing but the short moment in which the log is reset.
    db.busy_timeout(std::time::Duration::from_secs(5))
        .map_err(|e| from_sqlite(&file, &e))?;
    Ok(db)
}

/// That the file is a sound database of ours, of a version that is known.
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

/// One step for each version, each in the transaction that also writes the number.
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
