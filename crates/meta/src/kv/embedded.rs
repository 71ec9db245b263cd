//! Embedded store: one SQLite file in the data directory, for one process.
//!
//! One thread writes (`writer`); reads have separate connections and never wait for it; watches
//! read the recent transactions from memory (`history`). Leases end with the process: their keys
//! are deleted when the store is opened. The last committed revision is also in a separate file
//! (`revision_file`), to detect lost transactions, and the store creates verified copies
//! (`copies`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use crate::kv::store::{
    EntryPage, LeaseId, RANGE_ENTRIES_MAX, Revision, Store, StoreEntry, StoreError, Txn, TxnError,
    WatchError, WatchStream, check_key,
};

mod apply;
pub mod copies;
mod history;
mod lease;
mod open;
mod restore;
mod revision_file;
mod rows;
mod writer;

pub use history::HistoryLimits;
pub use lease::{ManualMonotonicClock, MonotonicClock, TokioMonotonicClock};
pub use open::{DATABASE_FILE, OpenMode, StoreOpenError};
pub use restore::{RestoreError, restore_copy};

use history::WatchHistory;
use lease::LeaseTable;
use open::StoreLock;
use revision_file::RevisionFile;
use writer::{QueuedCommand, StoreCommand, StoreWriter};

/// Transactions that may queue for the writer; further callers wait for a permit.
const QUEUE_MAX: usize = 1024;
/// Concurrent reads; further reads wait.
const READERS_MAX: usize = 4;

#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    pub existing: OpenMode,
    /// Folder of the copies; by default [`copies::COPIES_FOLDER`] in the directory.
    pub copies: Option<PathBuf>,
    /// Limits of the watch history.
    pub history: HistoryLimits,
    /// Clock of the leases.
    pub clock: Arc<dyn MonotonicClock>,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            existing: OpenMode::default(),
            copies: None,
            history: HistoryLimits::default(),
            clock: Arc::new(TokioMonotonicClock::start()),
        }
    }
}

/// The embedded store. Drop waits for the queued transactions.
pub struct EmbeddedStore {
    dir: PathBuf,
    history: Arc<WatchHistory>,
    readers: Arc<StoreReaderPool>,
    writer: WriterHandle,
    /// The first disk failure, see [`StoreWriter::failed`].
    latched: Arc<OnceLock<StoreError>>,
}

/// Handle of the writer thread.
struct WriterHandle {
    queue: SyncSender<QueuedCommand>,
    permits: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
    /// Dropped last.
    _lock: StoreLock,
}

/// Idle read connections, and a permit for each.
struct StoreReaderPool {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Opens or creates the store in `dir`. Blocks for some reads and syncs.
    pub fn open(dir: &Path, options: EmbeddedOptions) -> Result<Self, StoreOpenError> {
        let lock = open::acquire_lock(dir)?;
        let folder = options.copies.clone();
        let folder = folder.unwrap_or_else(|| dir.join(copies::COPIES_FOLDER));
        let copied = copies::list(&folder).first().map(|copy| copy.revision);
        let known = revision_file::read(dir).max(copied);
        let mut db = open::writer(dir, known, options.existing)?;
        let file = dir.join(DATABASE_FILE);
        let (head, run) =
            apply::end_all_leases(&mut db).map_err(|e| open::from_sqlite(&file, &e))?;
        let readers = StoreReaderPool::open(dir)?;
        let history = Arc::new(WatchHistory::new(head, options.history));
        // The semaphore is the bound; one extra slot for the stop command.
        let (queue, receiver) = sync_channel(QUEUE_MAX + 1);
        let latched = Arc::new(OnceLock::new());
        let now = options.clock.elapsed();
        let mut revision_file = RevisionFile::open(dir, now);
        revision_file.write(head, now);
        let writer = StoreWriter {
            revision_file,
            db,
            file: file.clone(),
            queue: receiver,
            history: Arc::clone(&history),
            leases: LeaseTable::new(run),
            clock: options.clock,
            head,
            failed: Arc::clone(&latched),
        };
        let thread = std::thread::Builder::new()
            .name("meta-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|e| StoreOpenError::Other {
                path: file,
                reason: e.to_string(),
            })?;
        Ok(Self {
            dir: dir.to_owned(),
            history,
            readers: Arc::new(readers),
            writer: WriterHandle {
                queue,
                permits: Arc::new(Semaphore::new(QUEUE_MAX)),
                thread: Some(thread),
                _lock: lock,
            },
            latched,
        })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs `run` between two transactions, with the revision of the first. All writes wait, so it
    /// has to be short.
    pub async fn with_writes_paused<T: Send + 'static>(
        &self,
        run: impl FnOnce(Revision) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        self.send_command(|reply| {
            StoreCommand::RunPaused(Box::new(move |head| {
                // Ignore a caller that no longer waits.
                drop(reply.send(Ok(run(head))));
            }))
        })
        .await
    }

    /// Checkpoints the write-ahead log into the database file, so that losing the log loses little.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        self.send_command(StoreCommand::Checkpoint).await
    }

    async fn send_command<T, E>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, E>>) -> StoreCommand,
    ) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        let closed = || StoreError::Terminal("the metadata store was closed".to_owned());
        let permit = match Arc::clone(&self.writer.permits).acquire_owned().await {
            Ok(permit) => Some(permit),
            Err(_) => return Err(closed().into()),
        };
        let (reply, response) = oneshot::channel();
        let queued = QueuedCommand {
            command: command(reply),
            permit,
        };
        if self.writer.queue.try_send(queued).is_err() {
            return Err(closed().into());
        }
        // Without a reply the batch failed before it reached this transaction, or the thread ended.
        let lost = || StoreError::Uncertain("the metadata store sent no reply".to_owned());
        response.await.unwrap_or_else(|_| Err(lost().into()))
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        // Behind all queued commands; a slot is reserved for it.
        let stop = QueuedCommand {
            command: StoreCommand::Stop,
            permit: None,
        };
        drop(self.writer.queue.try_send(stop));
        if let Some(Err(_)) = self.writer.thread.take().map(JoinHandle::join) {
            tracing::error!(dir = %self.dir.display(), "metadata store writer panicked");
        }
    }
}

impl StoreReaderPool {
    fn open(dir: &Path) -> Result<Self, StoreOpenError> {
        let idle: Result<Vec<_>, _> = (0..READERS_MAX).map(|_| open::reader(dir)).collect();
        Ok(Self {
            idle: Mutex::new(idle?),
            permits: Arc::new(Semaphore::new(READERS_MAX)),
        })
    }

    fn idle(&self) -> parking_lot::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock()
    }

    /// Runs a read on a thread that may block on the disk.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let failed = |e: &dyn fmt::Display| StoreError::Unavailable(format!("reading: {e}"));
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|e| failed(&e))?;
        let readers = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            // There are as many connections as permits; a connection is returned before its permit.
            let Some(mut db) = readers.idle().pop() else {
                return Err(StoreError::Unavailable("no idle connection".to_owned()));
            };
            let result = read(&mut db);
            readers.idle().push(db);
            drop(permit);
            result.map_err(|e| match e.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DatabaseCorrupt) => {
                    StoreError::Terminal(format!("reading: {e}"))
                }
                _ => StoreError::Unavailable(format!("reading: {e}")),
            })
        });
        done.await.unwrap_or_else(|e| Err(failed(&e)))
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, key: &str) -> Result<Option<StoreEntry>, StoreError> {
        check_key(key)?;
        let key = key.to_owned();
        self.readers.read(move |db| rows::get(db, &key)).await
    }

    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<EntryPage, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        let limit = limit.min(RANGE_ENTRIES_MAX);
        self.readers
            .read(move |db| rows::range(db, &prefix, after.as_deref(), limit))
            .await
    }

    async fn count(&self, prefix: &str) -> Result<usize, StoreError> {
        let prefix = prefix.to_owned();
        let count = move |db: &mut Connection| rows::count(db, &prefix);
        self.readers.read(count).await
    }

    async fn txn(&self, txn: Txn) -> Result<Revision, TxnError> {
        txn.check()?;
        self.send_command(|reply| StoreCommand::Txn(txn, reply))
            .await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, WatchError> {
        history::subscribe(&self.history, prefix, from)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.send_command(|reply| StoreCommand::Grant(ttl, reply))
            .await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.send_command(|reply| StoreCommand::KeepAlive(lease, reply))
            .await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.send_command(|reply| StoreCommand::Revoke(lease, reply))
            .await
    }

    fn health(&self) -> Result<(), StoreError> {
        self.latched.get().cloned().map_or(Ok(()), Err)
    }
}
