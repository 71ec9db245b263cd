//! Cache of row hashes in an SQLite file.
//!
//! Entries are buffered in memory and written in batches, in the order of their keys: keys are
//! hashes, so each single write would cost a page. Writes are not synced: an entry lost in a crash
//! is only a cache miss. Invalidation is synced, as the row may have other content in its table
//! right afterwards.
//!
//! Up to a limit, all entries are held in memory too, so that a lookup doesn't read the file: keys
//! are hashes, so each would be on another page.
//!
//! The file has a row limit. Beyond it, each new key evicts another one, selected by hash. LRU
//! would be the wrong policy: a job that reads the same files again visits all keys in the same
//! order and would never hit.

use std::any::Any;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::cache::{CacheBackend, CacheError, RowHash};

/// Schema version; a file of another version is recreated.
const VERSION: i64 = 2;
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS spaces (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS known (
    space INTEGER NOT NULL, key BLOB NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (space, key)
) WITHOUT ROWID;
";
/// Buffered entries before a write: about 20 MB of memory.
const GATHERED: usize = 200_000;
/// Page cache in KiB: while all rows are in memory, and otherwise.
const PAGES_KB: (i64, i64) = (16 << 10, 64 << 10);
/// Maximum of rows in memory: seven eighths of 2^21 slots of 33 bytes, 69 MB.
const IN_MEMORY: usize = (2 << 20) / 8 * 7;

pub struct EmbeddedCache {
    inner: Arc<EmbeddedCacheInner>,
}

struct EmbeddedCacheInner {
    path: PathBuf,
    file: Mutex<CacheFile>,
    /// Declared after the file, as fields are dropped in order.
    _owner: CacheFileLock,
}

/// Held as long as the cache writes: a lock that guarantees exclusive use of the file. Without it
/// the writes of an ended process could arrive after those of its successor.
pub type CacheFileLock = Arc<dyn Any + Send + Sync>;

/// Hashes by key.
type InMemory = HashMap<RowHash, RowHash, BuildHasherDefault<IdentityHasher>>;

/// Uses the first bytes of a key as its hash, as a key is a hash.
#[derive(Debug, Default)]
struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    // The length of the key carries no information.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
struct CacheFile {
    connection: Connection,
    /// Entries not yet written, by space and key.
    gathered: HashMap<(i64, RowHash), RowHash>,
    /// All entries of one space, buffered or written; `None` when there are too many.
    all: Option<(i64, InMemory)>,
    /// Written rows.
    rows: u64,
    max_rows: u64,
}

impl EmbeddedCache {
    /// Opens the file and deletes the entries of spaces other than `space`, which are not read
    /// again. The file holds at most `max_rows` rows besides the entries buffered in memory. A file
    /// that is damaged or of another version is recreated.
    pub fn open(
        path: &Path,
        space: &str,
        max_rows: u64,
        owner: CacheFileLock,
    ) -> Result<Self, CacheError> {
        let file = CacheFile::open(path, space, max_rows).or_else(|_| {
            for suffix in ["", "-wal", "-shm"] {
                let mut name = path.as_os_str().to_owned();
                name.push(suffix);
                // A file that can't be removed fails the next step.
                drop(std::fs::remove_file(&name));
            }
            CacheFile::open(path, space, max_rows)
        });
        let file = file.map_err(|e| failed(path, &e))?;
        Ok(Self {
            inner: Arc::new(EmbeddedCacheInner {
                path: path.to_owned(),
                file: Mutex::new(file),
                _owner: owner,
            }),
        })
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut CacheFile) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, CacheError> {
        let inner = Arc::clone(&self.inner);
        let result = tokio::task::spawn_blocking(move || {
            let mut file = inner.file.lock();
            work(&mut file).map_err(|e| failed(&inner.path, &e))
        });
        result
            .await
            .unwrap_or_else(|e| Err(CacheError(format!("cache task failed: {e}"))))
    }
}

fn failed(path: &Path, error: &rusqlite::Error) -> CacheError {
    CacheError(format!("cache {}: {error}", path.display()))
}

impl CacheFile {
    fn open(path: &Path, space: &str, max_rows: u64) -> rusqlite::Result<Self> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        // The file is used exclusively: a lock per lookup would take half of its time.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "cache_size", -PAGES_KB.0)?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |r| r.get(0))?;
        let is_new =
            !connection.table_exists(None, "known")? && !connection.table_exists(None, "spaces")?;
        if version != VERSION && !is_new {
            return Err(rusqlite::Error::InvalidQuery);
        }
        connection.execute_batch(TABLES)?;
        connection.pragma_update(None, "user_version", VERSION)?;
        let transaction = connection.transaction()?;
        let others = transaction.execute("DELETE FROM spaces WHERE name <> ?1", [space])?;
        // Scans every row, so only when there is something to delete.
        if others > 0 {
            transaction.execute(
                "DELETE FROM known WHERE space NOT IN (SELECT id FROM spaces)",
                [],
            )?;
        }
        transaction.commit()?;
        let rows: i64 = connection.query_row("SELECT count(*) FROM known", [], |r| r.get(0))?;
        let mut file = Self {
            connection,
            gathered: HashMap::new(),
            all: None,
            rows: unsigned(rows),
            max_rows,
        };
        // The limit may have been higher before.
        file.write_gathered()?;
        file.load(space)?;
        Ok(file)
    }

    /// Loads all entries of a space, unless there are too many.
    fn load(&mut self, space: &str) -> rusqlite::Result<()> {
        let id = self.space_id(space)?;
        let mut all = InMemory::default();
        if usize::try_from(self.rows).is_ok_and(|rows| rows <= IN_MEMORY) {
            all.reserve(usize::try_from(self.rows).unwrap_or(0));
            let mut select = self
                .connection
                .prepare("SELECT key, hash FROM known WHERE space = ?1")?;
            let mut rows = select.query([id])?;
            while let Some(row) = rows.next()? {
                all.insert(row.get(0)?, row.get(1)?);
            }
            self.all = Some((id, all));
        } else {
            self.drop_in_memory()?;
        }
        Ok(())
    }

    /// Later lookups read the file.
    fn drop_in_memory(&mut self) -> rusqlite::Result<()> {
        self.all = None;
        self.connection
            .pragma_update(None, "cache_size", -PAGES_KB.1)
    }

    fn space_id(&self, space: &str) -> rusqlite::Result<i64> {
        let c = &self.connection;
        let mut select = c.prepare_cached("SELECT id FROM spaces WHERE name = ?1")?;
        if let Some(id) = select.query_row([space], |r| r.get(0)).optional()? {
            return Ok(id);
        }
        c.execute("INSERT INTO spaces (name) VALUES (?1)", [space])?;
        Ok(c.last_insert_rowid())
    }

    fn get(&self, space: &str, keys: &[RowHash]) -> rusqlite::Result<Vec<Option<RowHash>>> {
        let id = self.space_id(space)?;
        if let Some((_, all)) = self.all.as_ref().filter(|(loaded, _)| *loaded == id) {
            return Ok(keys.iter().map(|key| all.get(key).copied()).collect());
        }
        let mut select = self
            .connection
            .prepare_cached("SELECT hash FROM known WHERE space = ?1 AND key = ?2")?;
        // In key order, so that neighbours in the file are written together.
        let mut indices: Vec<usize> = (0..keys.len()).collect();
        indices.sort_unstable_by_key(|index| keys.get(*index));
        let mut all = vec![None; keys.len()];
        for index in indices {
            let (Some(key), Some(found)) = (keys.get(index), all.get_mut(index)) else {
                continue;
            };
            *found = match self.gathered.get(&(id, *key)) {
                Some(hash) => Some(*hash),
                None if self.rows == 0 => None,
                None => select
                    .query_row(params![id, key], |r| r.get::<_, RowHash>(0))
                    .optional()?,
            };
        }
        Ok(all)
    }

    fn invalidate(&mut self, space: &str, keys: &[RowHash]) -> rusqlite::Result<()> {
        let id = self.space_id(space)?;
        for key in keys {
            self.gathered.remove(&(id, *key));
            if let Some((_, all)) = self.all.as_mut().filter(|(loaded, _)| *loaded == id) {
                all.remove(key);
            }
        }
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction = self.connection.transaction()?;
        let mut forgotten = 0;
        {
            let mut delete =
                transaction.prepare_cached("DELETE FROM known WHERE space = ?1 AND key = ?2")?;
            for key in keys {
                forgotten += delete.execute(params![id, key])?;
            }
        }
        transaction.commit()?;
        self.rows = self.rows.saturating_sub(forgotten as u64);
        self.connection.pragma_update(None, "synchronous", "NORMAL")
    }

    fn put(&mut self, space: &str, entries: &[(RowHash, RowHash)]) -> rusqlite::Result<()> {
        let id = self.space_id(space)?;
        let pending = entries.iter().map(|(key, hash)| ((id, *key), *hash));
        self.gathered.extend(pending);
        if let Some((_, all)) = self.all.as_mut().filter(|(loaded, _)| *loaded == id) {
            all.extend(entries.iter().copied());
            if all.len() > IN_MEMORY {
                self.drop_in_memory()?;
            }
        }
        // A part of the limit, so that new entries evict others and not themselves.
        let part = usize::try_from(self.max_rows / 8).unwrap_or(usize::MAX);
        if self.gathered.len() >= GATHERED.min(part) {
            self.write_gathered()?;
        }
        Ok(())
    }

    /// Writes the buffered entries and enforces the limit. Entries that can't be written are
    /// dropped.
    fn write_gathered(&mut self) -> rusqlite::Result<()> {
        let mut pending: Vec<_> = self.gathered.drain().collect();
        pending.sort_unstable();
        let transaction = self.connection.transaction()?;
        let mut rows = self.rows;
        let evicted;
        {
            let mut insert =
                transaction.prepare_cached("INSERT OR IGNORE INTO known VALUES (?1, ?2, ?3)")?;
            let mut update = transaction
                .prepare_cached("UPDATE known SET hash = ?3 WHERE space = ?1 AND key = ?2")?;
            for ((space, key), hash) in &pending {
                if insert.execute(params![space, key, hash])? == 1 {
                    rows += 1;
                } else {
                    update.execute(params![space, key, hash])?;
                }
            }
            evicted = evict(
                &transaction,
                rows.saturating_sub(self.max_rows),
                any_key(&pending),
            )?;
        }
        transaction.commit()?;
        self.rows = rows - evicted;
        if evicted > 0 && self.all.is_some() {
            // The deleted keys are unknown.
            self.drop_in_memory()?;
        }
        Ok(())
    }
}

/// An arbitrary key: hashes are as good as random numbers.
fn any_key(pending: &[((i64, RowHash), RowHash)]) -> (i64, RowHash) {
    let random: usize = pending.first().map_or(0, |((_, key), _)| key[15].into());
    let at = random * pending.len() / (usize::from(u8::MAX) + 1);
    pending
        .get(at)
        .map_or((0, RowHash::default()), |(key, _)| *key)
}

/// Deletes `count` rows: first those of spaces other than that of `near`, then those whose keys
/// follow it, wrapping around to the smallest. Returns the number of deleted rows.
fn evict(c: &Transaction<'_>, count: u64, near: (i64, RowHash)) -> rusqlite::Result<u64> {
    let (space, key) = near;
    let mut remaining = i64::try_from(count).unwrap_or(i64::MAX);
    for which in [
        "space <> ?1 AND ?2 = ?2",
        "space = ?1 AND key > ?2",
        "space = ?1 AND ?2 = ?2",
    ] {
        if remaining == 0 {
            break;
        }
        let sql = format!(
            "DELETE FROM known WHERE (space, key) IN
                 (SELECT space, key FROM known WHERE {which} ORDER BY space, key LIMIT ?3)"
        );
        let deleted = c.execute(&sql, params![space, key, remaining])?;
        remaining = remaining.saturating_sub(i64::try_from(deleted).unwrap_or(i64::MAX));
    }
    Ok(count.saturating_sub(unsigned(remaining)))
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

impl Drop for CacheFile {
    fn drop(&mut self) {
        // A lost entry is only a cache miss.
        drop(self.write_gathered());
    }
}

#[async_trait]
impl CacheBackend for EmbeddedCache {
    async fn get(&self, space: &str, keys: &[RowHash]) -> Result<Vec<Option<RowHash>>, CacheError> {
        let (space, keys) = (space.to_owned(), keys.to_vec());
        self.with(move |file| file.get(&space, &keys)).await
    }

    async fn invalidate(&self, space: &str, keys: &[RowHash]) -> Result<(), CacheError> {
        if keys.is_empty() {
            return Ok(());
        }
        let (space, keys) = (space.to_owned(), keys.to_vec());
        self.with(move |file| file.invalidate(&space, &keys)).await
    }

    async fn put(&self, space: &str, entries: &[(RowHash, RowHash)]) -> Result<(), CacheError> {
        let (space, entries) = (space.to_owned(), entries.to_vec());
        self.with(move |file| file.put(&space, &entries)).await
    }
}
