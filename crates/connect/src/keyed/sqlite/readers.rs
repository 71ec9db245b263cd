//! Reader threads, each with its own connection.
//!
//! A file in a folder that can't be written (a read-only mount) is opened as immutable, as SQLite
//! can't create its lock there. Each lookup checks whether the file has changed after all.
//!
//! A lookup takes some microseconds, less than waking a thread. Under load these threads don't
//! sleep: each takes the next job from its queue.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use super::cell::{bind, from_cell};
use super::connection::{BUSY_TIMEOUT, failed};
use crate::keyed::{CellValue, KeyedRow, TableSchema};
use crate::table::TableError;
use crate::table::mapping_fit::{quote, quoted};
use crate::table::sqlite::file_uri;

/// Maximum of threads.
const READERS: usize = 4;
/// Attempts to read a row from a file that is replaced meanwhile.
const TRIES: u32 = 3;
/// Queue length of a thread.
const WAITING: usize = 64;

type ReadJob = Box<dyn FnOnce(&mut ReaderContext) + Send>;

#[derive(Debug)]
struct ReadConnection {
    connection: Connection,
    /// Fingerprint at opening of a file that is treated as immutable.
    fixed: Option<FileFingerprint>,
}

/// Identity of a file, to detect changes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileFingerprint {
    dev: u64,
    ino: u64,
    size: u64,
    modified: (i64, i64),
    /// The file has a write-ahead log.
    has_log: bool,
}

impl FileFingerprint {
    fn from_path(path: &Path) -> std::io::Result<Self> {
        let file = path.metadata()?;
        Ok(Self {
            dev: file.dev(),
            ino: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            has_log: log_of(path).metadata().is_ok_and(|log| log.len() > 0),
        })
    }
}

impl ReadConnection {
    /// Whether the file was replaced or changed after opening.
    fn is_stale(&self, path: &Path) -> bool {
        let fixed = self.fixed.as_ref();
        fixed.is_some_and(|then| FileFingerprint::from_path(path).is_ok_and(|now| now != *then))
    }
}

/// The threads; each starts with its first job and ends when this is dropped.
#[derive(Debug, Default)]
pub(super) struct ReaderPool {
    queues: [Mutex<Option<mpsc::Sender<ReadJob>>>; READERS],
    next: AtomicUsize,
}

/// State of a thread.
#[derive(Debug)]
pub(super) struct ReaderContext {
    pub(super) path: PathBuf,
    connection: Option<ReadConnection>,
    /// Statement of the table that was read last.
    select: Option<(Arc<TableSchema>, String)>,
}

impl ReaderPool {
    /// Runs a job on one of the threads. After an error it reopens the file.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce(&mut ReaderContext) -> Result<T, TableError> + Send + 'static,
    ) -> Result<T, TableError> {
        let queue = self.queue(path)?;
        let (reply, response) = oneshot::channel();
        let work: ReadJob = Box::new(move |reader| {
            let result = work(reader);
            if result.is_err() {
                reader.connection = None;
            }
            // The caller may have been dropped.
            drop(reply.send(result));
        });
        let closed = || TableError::Retryable("the reader thread has ended".to_owned());
        queue.send(work).await.map_err(|_| closed())?;
        response.await.map_err(|_| closed())?
    }

    fn queue(&self, path: &Path) -> Result<mpsc::Sender<ReadJob>, TableError> {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % READERS;
        let [first, ..] = &self.queues;
        let slot = self.queues.get(next).unwrap_or(first);
        let mut slot = slot.lock();
        if let Some(queue) = slot.as_ref().filter(|q| !q.is_closed()) {
            return Ok(queue.clone());
        }
        let (sender, mut receiver) = mpsc::channel::<ReadJob>(WAITING);
        let mut reader = ReaderContext {
            path: path.to_owned(),
            connection: None,
            select: None,
        };
        std::thread::Builder::new()
            .name("sqlite-reader".to_owned())
            .spawn(move || {
                while let Some(work) = receiver.blocking_recv() {
                    work(&mut reader);
                }
            })
            .map_err(|e| TableError::Retryable(format!("can't start a thread: {e}")))?;
        *slot = Some(sender.clone());
        Ok(sender)
    }
}

impl ReaderContext {
    /// The connection, opened if necessary.
    pub(super) fn connection(&mut self) -> Result<&Connection, TableError> {
        connected(&self.path, &mut self.connection)
    }

    pub(super) fn get(
        &mut self,
        schema: &Arc<TableSchema>,
        key: &[CellValue],
    ) -> Result<Option<KeyedRow>, TableError> {
        let mut tries = 0;
        loop {
            let result = self.get_once(schema, key);
            let opened = self.connection.as_ref();
            let is_stale = opened.is_some_and(|c| c.is_stale(&self.path));
            tries += 1;
            if !is_stale || tries == TRIES {
                return result;
            }
            // The data read may come from both files.
            self.connection = None;
        }
    }

    fn get_once(
        &mut self,
        schema: &Arc<TableSchema>,
        key: &[CellValue],
    ) -> Result<Option<KeyedRow>, TableError> {
        let failed = |error| {
            let action = format!("look up a row of table \"{}\"", schema.table);
            failed(&self.path, &action)(error)
        };
        let (_, sql) = match self.select.take() {
            Some(select) if Arc::ptr_eq(&select.0, schema) => self.select.insert(select),
            _ => self.select.insert((Arc::clone(schema), select_sql(schema))),
        };
        let connection = connected(&self.path, &mut self.connection)?;
        let mut statement = connection.prepare_cached(sql).map_err(failed)?;
        for (index, value) in (1..).zip(key) {
            bind(&mut statement, index, value.as_ref()).map_err(failed)?;
        }
        let mut rows = statement.raw_query();
        let Some(row) = rows.next().map_err(failed)? else {
            return Ok(None);
        };
        let cells = schema.columns.iter().enumerate();
        let cells = cells.map(|(i, column)| Ok(from_cell(row.get_ref(i)?, column.kind)));
        let cells = cells.collect::<rusqlite::Result<_>>().map_err(failed)?;
        Ok(Some(KeyedRow(cells)))
    }
}

fn connected<'a>(
    path: &Path,
    slot: &'a mut Option<ReadConnection>,
) -> Result<&'a Connection, TableError> {
    let connected = match slot.take() {
        Some(connected) if !connected.is_stale(path) => connected,
        _ => open(path).map_err(failed(path, "open the database"))?,
    };
    Ok(&slot.insert(connected).connection)
}

fn open(path: &Path) -> rusqlite::Result<ReadConnection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let probed = |connection: Connection| {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let probe = "SELECT count(*) FROM sqlite_schema";
        connection.query_row(probe, [], |_| Ok(()))?;
        Ok(connection)
    };
    let fingerprint = FileFingerprint::from_path(path);
    let opened = Connection::open_with_flags(path, flags).and_then(probed);
    let error = match opened {
        Ok(connection) => {
            let fixed = None;
            return Ok(ReadConnection { connection, fixed });
        }
        Err(error) => error,
    };
    let can_not_lock = matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
    );
    // With a write-ahead log the file alone is incomplete.
    let Some(fingerprint) = fingerprint.ok().filter(|s| can_not_lock && !s.has_log) else {
        return Err(error);
    };
    let address = file_uri(path, "immutable=1");
    let flags = flags | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(address, flags).and_then(probed)?;
    Ok(ReadConnection {
        connection,
        fixed: Some(fingerprint),
    })
}

/// The write-ahead log of a file.
fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

fn select_sql(schema: &TableSchema) -> String {
    let conditions: Vec<String> = schema
        .key()
        .map(|c| format!("{} = ?", quote(&c.name)))
        .collect();
    format!(
        "SELECT {} FROM {} WHERE {}",
        quoted(schema.columns.iter().map(|c| &c.name)),
        quote(&schema.table),
        conditions.join(" AND ")
    )
}
