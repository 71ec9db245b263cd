//! Import of a file: rows and ledger entry in one transaction.

use forebay_model::failpoint::{self, FailPoint};
use forebay_model::{DataType, TypedValue};
use rusqlite::{Statement, Transaction, TransactionBehavior};
use tokio::sync::mpsc;

use crate::keyed::ValueRef;
use crate::keyed::sqlite::bind;
use crate::table::mapping_fit::{self, CellForm, DamagedCell, MappingFit, quote, quoted};
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
                insert_batch(&mut insert, &batch, &fit.forms, &mut summary).map_err(
                    |e| match e {
                        InsertError::Sqlite(e) => failed()(e),
                        InsertError::Damaged(cell) => cell.error(&import.table, &import.mapping),
                    },
                )?;
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

/// Error of inserting rows.
enum InsertError {
    Sqlite(rusqlite::Error),
    Damaged(DamagedCell),
}

impl From<rusqlite::Error> for InsertError {
    fn from(e: rusqlite::Error) -> Self {
        Self::Sqlite(e)
    }
}

fn insert_batch(
    insert: &mut Statement<'_>,
    batch: &RowBatch,
    forms: &[CellForm],
    summary: &mut ImportSummary,
) -> Result<(), InsertError> {
    let mut cells = batch.cells();
    for _ in 0..batch.len() {
        for (column, (form, cell)) in forms.iter().zip(&mut cells).enumerate() {
            let text = clean(cell);
            if matches!(text, std::borrow::Cow::Owned(_)) {
                summary.replaced_cells += 1;
            }
            let value = match form {
                CellForm::Text => ValueRef::Text(&text),
                _ if text.is_empty() => ValueRef::Null,
                CellForm::Canonical | CellForm::Typed(DataType::Text | DataType::Json) => {
                    ValueRef::Text(&text)
                }
                CellForm::Typed(data_type) => typed(*data_type, column, &text)?,
                CellForm::Numeric => typed(DataType::Integer, column, &text)?,
            };
            bind(insert, column + 1, value)?;
        }
        insert.raw_execute()?;
        summary.rows += 1;
    }
    Ok(())
}

fn typed(data_type: DataType, column: usize, text: &str) -> Result<ValueRef<'static>, InsertError> {
    let value = TypedValue::from_text(data_type, text);
    let damaged = || InsertError::Damaged(DamagedCell::new(column, text.as_bytes()));
    value.map(ValueRef::from).ok_or_else(damaged)
}
