//! The durable state of a job: an SQLite file in its state directory.
//!
//! The file has the position of the source (a cursor, or a checkpoint per file), the *inbox* of records that an API
//! returned and that are not acknowledged yet, and the dead letters. They change together in transactions:
//!
//! - a page's records and the cursor after it: so a page is never requested twice, and none of its records
//!   is lost;
//! - the removal of a record from the inbox and its dead letter: so a record is delivered, waiting or dead.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};

mod dead_letters;
mod files;
mod inbox;

pub(crate) use dead_letters::CheckpointUpdate;
pub use dead_letters::{DeadLetterPage, JobDeadLetter};
pub(crate) use files::FileCheckpoint;

/// Version of the tables below; other versions are rejected.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS inbox (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    name TEXT PRIMARY KEY, identity TEXT NOT NULL, offset INTEGER NOT NULL, lines INTEGER NOT NULL,
    done INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, stage TEXT NOT NULL,
    origin TEXT NOT NULL, request TEXT NOT NULL, status INTEGER, error TEXT NOT NULL,
    attempts INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE (stage, origin));
";

/// The state can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the job's state in {place}: {cause}")]
pub struct StateError {
    place: String,
    cause: String,
}

#[derive(Clone)]
pub struct JobState {
    inner: Arc<JobStateInner>,
}

struct JobStateInner {
    dir: PathBuf,
    connection: Mutex<Connection>,
    /// Held by the process that runs the job.
    _lock: Option<File>,
}

impl JobState {
    /// Opens the state to run the job, exclusively.
    ///
    /// # Errors
    /// Another process runs the job, or the file can't be used.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let state_error = |cause: String| StateError {
            place: dir.display().to_string(),
            cause,
        };
        std::fs::create_dir_all(dir).map_err(|e| state_error(format!("can't be created: {e}")))?;
        let lock = File::create(dir.join("lock")).map_err(|e| state_error(e.to_string()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(state_error(
                    "the job is running in another process".to_owned(),
                ));
            }
            Err(TryLockError::Error(e)) => return Err(state_error(e.to_string())),
        }
        Self::connect(dir, Some(lock))
    }

    /// Opens the state to inspect it, also while the job runs.
    ///
    /// # Errors
    /// The job was never run, or the file can't be used.
    pub fn inspect(dir: &Path) -> Result<Self, StateError> {
        if !dir.join("state.db").exists() {
            return Err(StateError {
                place: dir.display().to_string(),
                cause: "not found: the job was never run".to_owned(),
            });
        }
        Self::connect(dir, None)
    }

    fn connect(dir: &Path, lock: Option<File>) -> Result<Self, StateError> {
        let file = dir.join("state.db");
        let open = || -> rusqlite::Result<(Connection, i64)> {
            let connection = Connection::open(&file)?;
            connection.busy_timeout(Duration::from_secs(10))?;
            // The cursor must never go back: pages that were read are not requested again.
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            let version = connection.pragma_query_value(None, "user_version", |r| r.get(0))?;
            Ok((connection, version))
        };
        let state_error = |cause: String| StateError {
            place: file.display().to_string(),
            cause,
        };
        let (connection, version) = open().map_err(|e| state_error(e.to_string()))?;
        if version != 0 && version != VERSION {
            return Err(state_error(format!(
                "version {version} is not supported, only {VERSION}"
            )));
        }
        if version == 0 {
            connection
                .execute_batch(&format!(
                    "BEGIN IMMEDIATE; {TABLES}
                     INSERT OR IGNORE INTO meta VALUES ('id', lower(hex(randomblob(8))));
                     INSERT OR IGNORE INTO meta VALUES ('generation', '1');
                     PRAGMA user_version = {VERSION}; COMMIT;"
                ))
                .map_err(|e| state_error(e.to_string()))?;
        }
        Ok(Self {
            inner: Arc::new(JobStateInner {
                dir: dir.to_owned(),
                connection: Mutex::new(connection),
                _lock: lock,
            }),
        })
    }

    /// The state directory.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// A random id of this state, constant for its lifetime.
    pub(crate) async fn id(&self) -> Result<String, StateError> {
        Ok(self.meta("id").await?.unwrap_or_default())
    }

    pub(crate) async fn meta(&self, key: &'static str) -> Result<Option<String>, StateError> {
        self.with(move |c| {
            c.query_row("SELECT value FROM meta WHERE key = ?1", [key], |r| r.get(0))
                .optional()
        })
        .await
    }

    pub(crate) async fn set_meta(
        &self,
        key: &'static str,
        value: String,
    ) -> Result<(), StateError> {
        self.with(move |c| {
            c.execute(
                "INSERT OR REPLACE INTO meta VALUES (?1, ?2)",
                params![key, value],
            )
        })
        .await
        .map(drop)
    }

    /// Deletes the position of the source and its unacknowledged records: the next run begins from the start.
    /// Dead letters stay.
    pub async fn begin_afresh(&self) -> Result<(), StateError> {
        self.with(|c| {
            c.execute_batch(
                "BEGIN; DELETE FROM inbox; DELETE FROM files; DELETE FROM meta WHERE key = 'api'; COMMIT",
            )
        })
        .await
    }

    /// Runs `work` on the database in a blocking task.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StateError> {
        let inner = Arc::clone(&self.inner);
        let state_error = |cause: String| StateError {
            place: self.inner.dir.display().to_string(),
            cause,
        };
        let task = tokio::task::spawn_blocking(move || {
            let mut connection = inner.connection.lock();
            work(&mut connection)
        });
        match task.await {
            Ok(result) => result.map_err(|e| state_error(e.to_string())),
            Err(e) => Err(state_error(format!("the database task failed: {e}"))),
        }
    }
}
