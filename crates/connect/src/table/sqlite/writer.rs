//! The writer thread.

use forebay_model::{Mapping, TableId};
use tokio::sync::{mpsc, oneshot};

use crate::table::sqlite::database::Database;
use crate::table::sqlite::import::RowMessage;
use crate::table::sqlite::{import, ledger, schema};
use crate::table::{Import, ImportSummary, TableError};

type ReplySender<T> = oneshot::Sender<Result<T, TableError>>;

#[derive(Debug)]
pub(super) enum WriterCommand {
    Prepare {
        table: TableId,
        mapping: Mapping,
        reply: ReplySender<()>,
    },
    Import {
        import: Import,
        rows: mpsc::Receiver<RowMessage>,
        reply: ReplySender<ImportSummary>,
    },
    Delete {
        table: TableId,
        reply: ReplySender<()>,
    },
    Forget {
        imports: Vec<String>,
        reply: ReplySender<()>,
    },
    Imported {
        import_id: String,
        reply: ReplySender<Option<u64>>,
    },
    MissingImports {
        imports: Vec<String>,
        reply: ReplySender<Vec<String>>,
    },
    Ledger {
        after: String,
        limit: u32,
        reply: ReplySender<Vec<String>>,
    },
    Check {
        reply: ReplySender<()>,
    },
}

/// Runs commands one after another until all senders are dropped.
pub(super) fn run(mut database: Database, mut commands: mpsc::Receiver<WriterCommand>) {
    while let Some(command) = commands.blocking_recv() {
        match command {
            WriterCommand::Prepare {
                table,
                mapping,
                reply,
            } => send_reply(reply, || {
                database.with(|db| schema::prepare(db, &table, &mapping))
            }),
            WriterCommand::Import {
                import,
                rows,
                reply,
            } => send_reply(reply, || database.with(|db| import::run(db, &import, rows))),
            WriterCommand::Delete { table, reply } => {
                send_reply(reply, || database.with(|db| schema::delete(db, &table)));
            }
            WriterCommand::Forget { imports, reply } => {
                send_reply(reply, || database.with(|db| ledger::forget(db, &imports)));
            }
            WriterCommand::Imported { import_id, reply } => send_reply(reply, || {
                let recorded = database.with(|db| ledger::find(db, &import_id))?;
                Ok(recorded.map(|imported| imported.rows))
            }),
            WriterCommand::MissingImports { imports, reply } => {
                send_reply(reply, || database.with(|db| ledger::missing(db, &imports)));
            }
            WriterCommand::Ledger {
                after,
                limit,
                reply,
            } => send_reply(reply, || {
                database.with(|db| ledger::page(db, &after, limit))
            }),
            WriterCommand::Check { reply } => send_reply(reply, || database.with(ledger::check)),
        }
    }
}

fn send_reply<T>(reply: ReplySender<T>, work: impl FnOnce() -> Result<T, TableError>) {
    // Skip the work if the caller was dropped: nothing has begun.
    if !reply.is_closed() {
        drop(reply.send(work()));
    }
}
