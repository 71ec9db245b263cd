//! A cache of row hashes in an SQLite file.
//!
//! Notes are not synced: what is lost with the machine is only known no more. Forgetting is, as a
//! row may be in its table with another content right afterwards.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use crate::cache::{CacheError, Hash, RowCache};

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS spaces (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS known (
    space INTEGER NOT NULL, key BLOB NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (space, key)
) WITHOUT ROWID;
";

/// A cache in a file.
#[derive(Debug)]
pub struct EmbeddedCache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl EmbeddedCache {
    /// Opens the file, and drops what it knows of other spaces than `space`: nobody asks for it any
    /// more. A file that is damaged is made anew.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open(path: &Path, space: &str) -> Result<Self, CacheError> {
        let connection = connect(path, space).or_else(|_| {
            for suffix in ["", "-wal", "-shm"] {
                let mut name = path.as_os_str().to_owned();
                name.push(suffix);
                // What is not there need not go; what can't go shows in the next step.
                drop(std::fs::remove_file(&name));
            }
            connect(path, space)
        });
        let connection = connection.map_err(|e| failed(path, &e))?;
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                connection: Mutex::new(connection),
            }),
        })
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, CacheError> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || {
            let mut connection = inner.connection.lock().unwrap_or_else(|e| e.into_inner());
            work(&mut connection).map_err(|e| failed(&inner.path, &e))
        });
        done.await
            .unwrap_or_else(|e| Err(CacheError(format!("the work was ended: {e}"))))
    }
}

fn failed(path: &Path, error: &rusqlite::Error) -> CacheError {
    CacheError(format!("the cache {}: {error}", path.display()))
}

fn connect(path: &Path, space: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.execute_batch(TABLES)?;
    connection.execute(
        "DELETE FROM known WHERE space NOT IN (SELECT id FROM spaces WHERE name = ?1)",
        [space],
    )?;
    connection.execute("DELETE FROM spaces WHERE name <> ?1", [space])?;
    Ok(connection)
}

fn space_id(c: &Connection, space: &str) -> rusqlite::Result<i64> {
    let mut insert = c.prepare_cached("INSERT OR IGNORE INTO spaces (name) VALUES (?1)")?;
    insert.execute([space])?;
    let mut select = c.prepare_cached("SELECT id FROM spaces WHERE name = ?1")?;
    select.query_row([space], |r| r.get(0))
}

#[async_trait]
impl RowCache for EmbeddedCache {
    async fn get(&self, space: &str, keys: &[Hash]) -> Result<Vec<Option<Hash>>, CacheError> {
        let (space, keys) = (space.to_owned(), keys.to_vec());
        self.with(move |c| {
            let id = space_id(c, &space)?;
            let mut select =
                c.prepare_cached("SELECT hash FROM known WHERE space = ?1 AND key = ?2")?;
            let found = keys.iter().map(|key| {
                select
                    .query_row(params![id, key], |r| r.get::<_, Hash>(0))
                    .optional()
            });
            found.collect()
        })
        .await
    }

    async fn forget(&self, space: &str, keys: &[Hash]) -> Result<(), CacheError> {
        if keys.is_empty() {
            return Ok(());
        }
        let (space, keys) = (space.to_owned(), keys.to_vec());
        self.with(move |c| {
            let id = space_id(c, &space)?;
            c.pragma_update(None, "synchronous", "FULL")?;
            let transaction = c.transaction()?;
            {
                let mut delete = transaction
                    .prepare_cached("DELETE FROM known WHERE space = ?1 AND key = ?2")?;
                for key in &keys {
                    delete.execute(params![id, key])?;
                }
            }
            transaction.commit()?;
            c.pragma_update(None, "synchronous", "NORMAL")
        })
        .await
    }

    async fn put(&self, space: &str, known: &[(Hash, Hash)]) -> Result<(), CacheError> {
        let (space, known) = (space.to_owned(), known.to_vec());
        self.with(move |c| {
            let id = space_id(c, &space)?;
            let transaction = c.transaction()?;
            {
                let mut insert = transaction
                    .prepare_cached("INSERT OR REPLACE INTO known VALUES (?1, ?2, ?3)")?;
                for (key, hash) in &known {
                    insert.execute(params![id, key, hash])?;
                }
            }
            transaction.commit()
        })
        .await
    }
}
