//! Import of a file: rows and ledger entry in one transaction.

use forebay_model::failpoint::{self, FailPoint};
use rusqlite::{Statement, Transaction, TransactionBehavior};
use tokio::sync::mpsc;

use crate::table::mapping_fit::{self, MappingFit, quote, quoted};
use crate::table::sqlite::handle::DatabaseHandle;
use crate::table::sqlite::{error, ledger, schema};
use crate::table::text::clean;
use crate::table::{Import, ImportSummary, RowBatch, TableError};

/// Rows sent to the writer. A channel that ends without `End` cancels the import.
#[derive(Debug)]
pub(super) enum RowMessage {
    Batch(RowBatch),
    End,
}

pub(super) fn run(
    db: &mut DatabaseHandle<'_>,
    import: &Import,
    mut rows: mpsc::Receiver<RowMessage>,
) -> Result<ImportSummary, TableError> {
    let (context, guard) = (db.context, db.identity_check());
    let action = format!("import into table \"{}\"", import.table);
    let failed = || error::to_table_error(context, &action);
    // Lock before reading the ledger: of two processes with the same import, the second one sees
    // the first one's entry. Dropping the transaction rolls it back.
    let transaction = db
        .connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed())?;
    if let Some(summary) = ledger::find_in(&transaction, context, &import.id)? {
        return Ok(summary);
    }
    let fit = fit(&transaction, context, import)?;
    let mut summary = ImportSummary {
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
                mapping_fit::check_batch(&import.table, &import.mapping, &batch)?;
                insert_batch(&mut insert, &batch, &mut summary).map_err(failed())?;
            }
            Some(RowMessage::End) => break,
            None => {
                return Err(TableError::Retryable(format!(
                    "import {} was cancelled before its last row",
                    import.id
                )));
            }
        }
    }
    drop(insert);
    failpoint::at(FailPoint::RowsWritten);
    ledger::record_import(&transaction, import, summary).map_err(failed())?;
    failpoint::at(FailPoint::LedgerWritten);
    guard.check()?;
    transaction.commit().map_err(failed())?;
    failpoint::at(FailPoint::RowsCommitted);
    Ok(summary)
}

fn fit(
    transaction: &Transaction<'_>,
    context: error::ErrorContext<'_>,
    import: &Import,
) -> Result<MappingFit, TableError> {
    match schema::fit(transaction, context, &import.table, &import.mapping)? {
        Some(fit) if fit.missing.is_empty() => Ok(fit),
        // Dropped or replaced since it was prepared; the retry prepares it again.
        _ => Err(TableError::Retryable(format!(
            "table \"{}\" is not prepared",
            import.table
        ))),
    }
}

fn insert_sql(import: &Import, fit: &MappingFit) -> String {
    let marks = vec!["?"; fit.names.len()].join(", ");
    let conflict = match mapping_fit::key_names(&import.mapping, fit).is_empty() {
        true => String::new(),
        false => mapping_fit::on_conflict(&import.mapping, fit),
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
    summary: &mut ImportSummary,
) -> rusqlite::Result<()> {
    let mut column = 0;
    for cell in batch.cells() {
        let text = clean(cell);
        if matches!(text, std::borrow::Cow::Owned(_)) {
            summary.replaced_cells += 1;
        }
        column += 1;
        insert.raw_bind_parameter(column, &*text)?;
        if column == batch.columns() {
            insert.raw_execute()?;
            summary.rows += 1;
            column = 0;
        }
    }
    Ok(())
}
