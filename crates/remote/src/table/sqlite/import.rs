//! One import: rows and ledger entry in one transaction.

use forebay_model::failpoint::{self, Point};
use rusqlite::{Statement, Transaction, TransactionBehavior};
use tokio::sync::mpsc;

use crate::table::shape::{self, Fit, quote, quoted};
use crate::table::sqlite::database::Db;
use crate::table::sqlite::writer::RowMessage;
use crate::table::sqlite::{error, ledger, schema};
use crate::table::text::clean;
use crate::table::{Import, Imported, RowBatch, TableError};

pub(super) fn run(
    db: &mut Db<'_>,
    import: &Import,
    mut rows: mpsc::Receiver<RowMessage>,
) -> Result<Imported, TableError> {
    let (context, guard) = (db.context, db.guard());
    let action = format!("import into table \"{}\"", import.table);
    let failed = || error::at(context, &action);
    // The lock is taken before the ledger is read: of two processes with the same import, the
    // second one sees what the first one wrote. A transaction that is dropped is rolled back.
    let transaction = db
        .connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed())?;
    if let Some(done) = ledger::find_in(&transaction, context, &import.id)? {
        return Ok(done);
    }
    let fit = fit(&transaction, context, import)?;
    let mut done = Imported {
        rows: 0,
        already_done: false,
        replaced_cells: 0,
    };
    let mut insert = transaction
        .prepare(&insert_sql(import, &fit))
        .map_err(failed())?;
    loop {
        match rows.blocking_recv() {
            Some(RowMessage::Batch(batch)) => {
                shape::check_batch(&import.table, &import.mapping, &batch)?;
                insert_batch(&mut insert, &batch, &mut done).map_err(failed())?;
            }
            Some(RowMessage::End) => break,
            None => {
                return Err(TableError::Retryable(format!(
                    "import {} was given up before its last row",
                    import.id
                )));
            }
        }
    }
    drop(insert);
    failpoint::at(Point::RowsWritten);
    ledger::note(&transaction, import, done).map_err(failed())?;
    failpoint::at(Point::LedgerWritten);
    guard.check()?;
    transaction.commit().map_err(failed())?;
    failpoint::at(Point::RowsCommitted);
    Ok(done)
}

fn fit(
    transaction: &Transaction<'_>,
    context: error::Context<'_>,
    import: &Import,
) -> Result<Fit, TableError> {
    match schema::fit(transaction, context, &import.table, &import.mapping)? {
        Some(fit) if fit.missing.is_empty() => Ok(fit),
        // It was prepared and has been dropped or replaced since; the next try prepares it again.
        _ => Err(TableError::Retryable(format!(
            "table \"{}\" is not prepared",
            import.table
        ))),
    }
}

fn insert_sql(import: &Import, fit: &Fit) -> String {
    let marks = vec!["?"; fit.names.len()].join(", ");
    let conflict = match shape::key_names(&import.mapping, fit).is_empty() {
        true => String::new(),
        false => shape::on_conflict(&import.mapping, fit),
    };
    format!(
        "INSERT INTO {} ({}) VALUES ({marks}) {conflict}",
        quote(&import.table.to_string()),
        quoted(&fit.names)
    )
}

fn insert_batch(
    insert: &mut Statement<'_>,
    batch: &RowBatch,
    done: &mut Imported,
) -> rusqlite::Result<()> {
    let mut column = 0;
    for cell in batch.cells() {
        let text = clean(cell);
        if matches!(text, std::borrow::Cow::Owned(_)) {
            done.replaced_cells += 1;
        }
        column += 1;
        insert.raw_bind_parameter(column, &*text)?;
        if column == batch.columns() {
            insert.raw_execute()?;
            done.rows += 1;
            column = 0;
        }
    }
    Ok(())
}
