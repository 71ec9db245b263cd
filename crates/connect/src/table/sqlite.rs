//! Tables in the embedded SQLite database.
//!
//! One thread owns the writing connection and receives commands, so the async runtime never waits
//! for the disk, and imports never wait for each other's locks. Readers, in this process or
//! another, see the last committed state meanwhile (write-ahead log).

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use async_trait::async_trait;
use forebay_model::{Mapping, TableBackend, TableId};
use futures::StreamExt;
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use tokio::sync::{mpsc, oneshot};

use crate::table::{
    Import, ImportSummary, InspectionFinding, RowStream, Table, TableError, TableInspection,
};

mod config;
mod database;
mod error;
mod handle;
mod import;
mod inspect;
mod ledger;
mod query;
mod schema;
mod writer;

pub use query::query;

pub(crate) use error::classify;
use import::RowMessage;
use writer::WriterCommand;

pub use config::SqliteConfig;

/// Batches of rows queued for the writer.
const BATCHES_AHEAD: usize = 2;
/// Commands queued for the writer; further callers wait.
const COMMANDS_AHEAD: usize = 64;

/// Bytes of a path that are escaped in a URI.
const NOT_IN_URIS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_');

/// The URI by which SQLite opens a file with parameters, such as `mode=ro`.
pub(crate) fn file_uri(path: &Path, parameters: &str) -> String {
    let path = percent_encode(path.as_os_str().as_encoded_bytes(), NOT_IN_URIS);
    format!("file:{path}?{parameters}")
}

/// Tables in the embedded database, named by their ids.
#[derive(Debug)]
pub struct SqliteTable {
    path: PathBuf,
    commands: mpsc::Sender<WriterCommand>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteTable {
    /// Opens the database and starts its writer. The folder must exist. Fails when the file can't
    /// be opened, is not a database, or is locked for too long.
    pub fn open(config: SqliteConfig) -> Result<Self, TableError> {
        let path = config.path.clone();
        let database = database::Database::open(config)?;
        let (commands, receiver) = mpsc::channel(COMMANDS_AHEAD);
        let writer = std::thread::Builder::new()
            .name("forebay-sqlite".to_owned())
            .spawn(move || writer::run(database, receiver))
            .map_err(|e| {
                TableError::Retryable(format!("can't start a thread for {}: {e}", path.display()))
            })?;
        Ok(Self {
            path,
            commands,
            writer: Mutex::new(Some(writer)),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Finishes the queued commands, stops the writer and waits for it: afterwards the file is
    /// closed. Blocks. Dropping does the same without waiting.
    pub fn close(self) {
        let Self {
            commands, writer, ..
        } = self;
        drop(commands);
        if let Some(writer) = writer.into_inner()
            && writer.join().is_err()
        {
            tracing::error!("writer thread of the SQLite tables panicked");
        }
    }

    async fn call<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, TableError>>) -> WriterCommand,
    ) -> Result<T, TableError> {
        let (reply, response) = oneshot::channel();
        if self.commands.send(command(reply)).await.is_err() {
            return Err(self.writer_closed());
        }
        response.await.unwrap_or_else(|_| Err(self.writer_closed()))
    }

    fn writer_closed(&self) -> TableError {
        let path = self.path.display();
        TableError::Retryable(format!("the writer thread of {path} has ended"))
    }
}

#[async_trait]
impl Table for SqliteTable {
    fn backend(&self) -> TableBackend {
        TableBackend::Sqlite
    }

    fn check_names(&self, _table: &TableId, _mapping: &Mapping) -> Vec<InspectionFinding> {
        // Any quoted name is allowed, and none beginning with `in.` or `out.` conflicts with SQLite
        // or the ledger.
        Vec::new()
    }

    async fn inspect(
        &self,
        table: &TableId,
        mapping: &Mapping,
    ) -> Result<TableInspection, TableError> {
        let (path, table, mapping) = (self.path.clone(), table.clone(), mapping.clone());
        // On a separate connection: the writer may be in the middle of a long import.
        let inspected =
            tokio::task::spawn_blocking(move || inspect::run(&path, &table, &mapping)).await;
        inspected.unwrap_or_else(|e| Err(TableError::Retryable(e.to_string())))
    }

    async fn prepare(&self, table: &TableId, mapping: &Mapping) -> Result<(), TableError> {
        self.call(|reply| WriterCommand::Prepare {
            table: table.clone(),
            mapping: mapping.clone(),
            reply,
        })
        .await
    }

    async fn import(
        &self,
        import: &Import,
        rows: RowStream<'_>,
    ) -> Result<ImportSummary, TableError> {
        let (batches, receiver) = mpsc::channel(BATCHES_AHEAD);
        let writing = self.call(|reply| WriterCommand::Import {
            import: import.clone(),
            rows: receiver,
            reply,
        });
        let mut writing = std::pin::pin!(writing);
        tokio::select! {
            written = &mut writing => written,
            fed = feed(rows, batches) => {
                // Also after a failed stream: the rollback must be complete when this returns.
                let written = writing.await;
                fed.map_err(TableError::from).and(written)
            }
        }
    }

    async fn delete(&self, table: &TableId) -> Result<(), TableError> {
        self.call(|reply| WriterCommand::Delete {
            table: table.clone(),
            reply,
        })
        .await
    }

    async fn forget(&self, imports: &[String]) -> Result<(), TableError> {
        self.call(|reply| WriterCommand::Forget {
            imports: imports.to_vec(),
            reply,
        })
        .await
    }

    async fn imported(&self, import_id: &str) -> Result<Option<u64>, TableError> {
        self.call(|reply| WriterCommand::Imported {
            import_id: import_id.to_owned(),
            reply,
        })
        .await
    }

    async fn missing_imports(&self, imports: &[String]) -> Result<Vec<String>, TableError> {
        self.call(|reply| WriterCommand::MissingImports {
            imports: imports.to_vec(),
            reply,
        })
        .await
    }

    async fn ledger(&self, after: &str, limit: u32) -> Result<Vec<String>, TableError> {
        self.call(|reply| WriterCommand::Ledger {
            after: after.to_owned(),
            limit,
            reply,
        })
        .await
    }

    async fn check(&self) -> Result<(), TableError> {
        self.call(|reply| WriterCommand::Check { reply }).await
    }
}

/// Sends rows until they end or the writer stops receiving. There is no other sender: if the stream
/// fails or the import is dropped, the channel ends without `End` and the writer rolls back.
async fn feed(
    mut rows: RowStream<'_>,
    batches: mpsc::Sender<RowMessage>,
) -> Result<(), crate::table::RowError> {
    loop {
        let message = match rows.next().await {
            None => RowMessage::End,
            Some(Ok(batch)) => RowMessage::Batch(batch),
            Some(Err(e)) => return Err(e),
        };
        let is_end = matches!(message, RowMessage::End);
        if batches.send(message).await.is_err() || is_end {
            return Ok(());
        }
    }
}
