//! The thread that writes.

use forebay_model::{Mapping, TableId};
use tokio::sync::{mpsc, oneshot};

use crate::table::sqlite::database::Database;
use crate::table::sqlite::{import, ledger, schema};
use crate::table::{Import, Imported, RowBatch, TableError};

type Reply<T> = oneshot::Sender<Result<T, TableError>>;

/// What the writer can be asked for.
#[derive(Debug)]
pub(super) enum Command {
    Prepare {
        table: TableId,
        mapping: Mapping,
        reply: Reply<()>,
    },
    Import {
        import: Import,
        rows: mpsc::Receiver<RowMessage>,
        reply: Reply<Imported>,
    },
    Delete {
        table: TableId,
        reply: Reply<()>,
    },
    Forget {
        imports: Vec<String>,
        reply: Reply<()>,
    },
    Imported {
        import_id: String,
        reply: Reply<Option<u64>>,
    },
    Lacking {
        imports: Vec<String>,
        reply: Reply<Vec<String>>,
    },
    Ledger {
        after: String,
        limit: u32,
        reply: Reply<Vec<String>>,
    },
    Check {
        reply: Reply<()>,
    },
}

/// Rows on their way to the writer. A channel that ends without `End` was given up.
#[derive(Debug)]
pub(super) enum RowMessage {
    Batch(RowBatch),
    End,
}

/// Does one command after another, until nobody can give any more.
pub(super) fn run(mut database: Database, mut commands: mpsc::Receiver<Command>) {
    while let Some(command) = commands.blocking_recv() {
        match command {
            Command::Prepare {
                table,
                mapping,
                reply,
            } => answer(reply, || {
                database.with(|db| schema::prepare(db, &table, &mapping))
            }),
            Command::Import {
                import,
                rows,
                reply,
            } => answer(reply, || database.with(|db| import::run(db, &import, rows))),
            Command::Delete { table, reply } => {
                answer(reply, || database.with(|db| schema::delete(db, &table)));
            }
            Command::Forget { imports, reply } => {
                answer(reply, || database.with(|db| ledger::forget(db, &imports)));
            }
            Command::Imported { import_id, reply } => answer(reply, || {
                let noted = database.with(|db| ledger::find(db, &import_id))?;
                Ok(noted.map(|imported| imported.rows))
            }),
            Command::Lacking { imports, reply } => {
                answer(reply, || database.with(|db| ledger::lacking(db, &imports)));
            }
            Command::Ledger {
                after,
                limit,
                reply,
            } => answer(reply, || {
                database.with(|db| ledger::page(db, &after, limit))
            }),
            Command::Check { reply } => answer(reply, || database.with(ledger::check)),
        }
    }
}

fn answer<T>(reply: Reply<T>, work: impl FnOnce() -> Result<T, TableError>) {
    // Whoever asked may be gone: then nothing was begun that is worth doing.
    if !reply.is_closed() {
        drop(reply.send(work()));
    }
}
