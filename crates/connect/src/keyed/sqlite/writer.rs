//! The writer thread, with the only connection that writes.
//!
//! A dedicated thread instead of a pool keeps SQLite's memory in the cache of one core.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use crate::table::TableError;

use super::connection::{BUSY_TIMEOUT, failed};

/// Page size of a new file: rows are cheaper to write and read than with the default of 4 KiB.
const PAGE_SIZE: i64 = 16 << 10;
/// Queue length of the thread.
const WAITING: usize = 4;

type WriteJob = Box<dyn FnOnce(&mut WriterContext) + Send>;

/// The thread; it starts with its first job and has ended once this is dropped.
#[derive(Debug, Default)]
pub(super) struct SqliteWriter {
    thread: Mutex<Option<WriterThread>>,
}

#[derive(Debug)]
struct WriterThread {
    queue: mpsc::Sender<WriteJob>,
    handle: JoinHandle<()>,
}

/// State of the thread.
#[derive(Debug)]
struct WriterContext {
    path: PathBuf,
    connection: Option<Connection>,
}

impl SqliteWriter {
    /// Runs a job on the writing connection, one after another. An error discards the connection,
    /// and the next job opens another. A started job is finished even if the caller is dropped.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce(&Path, &mut Connection) -> Result<T, TableError> + Send + 'static,
    ) -> Result<T, TableError> {
        let queue = self.queue(path)?;
        let (reply, response) = oneshot::channel();
        let work: WriteJob = Box::new(move |slot| {
            // The caller may have been dropped.
            drop(reply.send(slot.write(work)));
        });
        let closed = || TableError::Retryable("the writer thread has ended".to_owned());
        queue.send(work).await.map_err(|_| closed())?;
        response.await.map_err(|_| closed())?
    }

    fn queue(&self, path: &Path) -> Result<mpsc::Sender<WriteJob>, TableError> {
        let mut thread = self.thread.lock();
        if let Some(thread) = thread.as_ref().filter(|t| !t.queue.is_closed()) {
            return Ok(thread.queue.clone());
        }
        let (queue, mut receiver) = mpsc::channel::<WriteJob>(WAITING);
        let mut slot = WriterContext {
            path: path.to_owned(),
            connection: None,
        };
        let handle = std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || {
                while let Some(work) = receiver.blocking_recv() {
                    work(&mut slot);
                }
            })
            .map_err(|e| TableError::Retryable(format!("can't start a thread: {e}")))?;
        let sender = queue.clone();
        *thread = Some(WriterThread { queue, handle });
        Ok(sender)
    }
}

impl Drop for SqliteWriter {
    fn drop(&mut self) {
        if let Some(WriterThread { queue, handle }) = self.thread.get_mut().take() {
            drop(queue);
            // After the last writer, the file is closed and complete without its log. A panic of
            // the thread was already reported.
            drop(handle.join());
        }
    }
}

impl WriterContext {
    fn write<T>(
        &mut self,
        work: impl FnOnce(&Path, &mut Connection) -> Result<T, TableError>,
    ) -> Result<T, TableError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.path).map_err(failed(&self.path, "open the database"))?,
        };
        let result = work(&self.path, &mut connection);
        if result.is_ok() {
            self.connection = Some(connection);
        }
        result
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Applies to a new file only.
    connection.pragma_update(None, "page_size", PAGE_SIZE)?;
    // A write must be on disk when it returns: the job's checkpoint relies on it.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    Ok(connection)
}
