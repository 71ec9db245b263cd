//! Threads that read, each with a connection of its own.
//!
//! A lookup takes some microseconds, less than it takes to wake a thread. While there is load, these
//! threads do not sleep: each takes the next work from its queue.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use super::cell::{bind, from_cell};
use super::{BUSY_TIMEOUT, failed};
use crate::keyed::{Row, Shape, Value};
use crate::table::TableError;
use crate::table::shape::{quote, quoted};

/// Threads at most.
const READERS: usize = 4;
/// Work that waits for a thread.
const WAITING: usize = 64;

type Work = Box<dyn FnOnce(&mut Reader) + Send>;

/// The threads; each begins with the first work for it, and ends when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Readers {
    queues: [Mutex<Option<mpsc::Sender<Work>>>; READERS],
    next: AtomicUsize,
}

/// What a thread has.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) path: PathBuf,
    connection: Option<Connection>,
    /// The statement of the table that was read last.
    select: Option<(Arc<Shape>, String)>,
}

impl Readers {
    /// Has one of the threads do some work. After an error it opens the file anew.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce(&mut Reader) -> Result<T, TableError> + Send + 'static,
    ) -> Result<T, TableError> {
        let queue = self.queue(path)?;
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |reader| {
            let result = work(reader);
            if result.is_err() {
                reader.connection = None;
            }
            // Who asked may have gone.
            drop(answer.send(result));
        });
        let gone = || TableError::Retryable("the thread that reads has ended".to_owned());
        queue.send(work).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    fn queue(&self, path: &Path) -> Result<mpsc::Sender<Work>, TableError> {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % READERS;
        let [first, ..] = &self.queues;
        let slot = self.queues.get(next).unwrap_or(first);
        let mut slot = slot.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(queue) = slot.as_ref().filter(|q| !q.is_closed()) {
            return Ok(queue.clone());
        }
        let (sender, mut receiver) = mpsc::channel::<Work>(WAITING);
        let mut reader = Reader {
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
            .map_err(|e| TableError::Retryable(format!("can't begin a thread: {e}")))?;
        *slot = Some(sender.clone());
        Ok(sender)
    }
}

impl Reader {
    /// The connection, opened when it is not.
    pub(super) fn connection(&mut self) -> Result<&Connection, TableError> {
        connected(&self.path, &mut self.connection)
    }

    pub(super) fn get(
        &mut self,
        shape: &Arc<Shape>,
        key: &[Value],
    ) -> Result<Option<Row>, TableError> {
        let failed = |error| {
            let action = format!("look up a row of table \"{}\"", shape.table);
            failed(&self.path, &action)(error)
        };
        let (_, sql) = match self.select.take() {
            Some(select) if Arc::ptr_eq(&select.0, shape) => self.select.insert(select),
            _ => self.select.insert((Arc::clone(shape), select_sql(shape))),
        };
        let connection = connected(&self.path, &mut self.connection)?;
        let mut statement = connection.prepare_cached(sql).map_err(failed)?;
        for (place, value) in (1..).zip(key) {
            bind(&mut statement, place, value.as_ref()).map_err(failed)?;
        }
        let mut rows = statement.raw_query();
        let Some(row) = rows.next().map_err(failed)? else {
            return Ok(None);
        };
        let cells = shape.columns.iter().enumerate();
        let cells = cells.map(|(i, column)| Ok(from_cell(row.get_ref(i)?, column.kind)));
        let cells = cells.collect::<rusqlite::Result<_>>().map_err(failed)?;
        Ok(Some(Row(cells)))
    }
}

fn connected<'a>(
    path: &Path,
    slot: &'a mut Option<Connection>,
) -> Result<&'a Connection, TableError> {
    let connection = match slot.take() {
        Some(connection) => connection,
        None => open(path).map_err(failed(path, "open the database"))?,
    };
    Ok(slot.insert(connection))
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

fn select_sql(shape: &Shape) -> String {
    let conditions: Vec<String> = shape
        .key()
        .map(|c| format!("{} = ?", quote(&c.name)))
        .collect();
    format!(
        "SELECT {} FROM {} WHERE {}",
        quoted(shape.columns.iter().map(|c| &c.name)),
        quote(&shape.table),
        conditions.join(" AND ")
    )
}
