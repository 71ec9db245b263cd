//! The ledger of imports, a table beside the user's.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::table::sqlite::error::{self, ErrorContext};
use crate::table::sqlite::handle::DatabaseHandle;
use crate::table::{Import, ImportSummary, TableError};

/// No table id begins with `_`, so the name can't conflict with a sink's table.
const CREATE: &str = "CREATE TABLE IF NOT EXISTS _forebay_imports (
    import_id TEXT NOT NULL PRIMARY KEY,
    table_id TEXT NOT NULL,
    rows INTEGER NOT NULL,
    replaced_cells INTEGER NOT NULL,
    imported_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) WITHOUT ROWID";

pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    // Looks first: opening a database that has the ledger needs no lock.
    if connection.table_exists(None, "_forebay_imports")? {
        return Ok(());
    }
    connection.execute_batch(CREATE)
}

/// Result of an import, if it was completed.
pub(super) fn find(
    db: &mut DatabaseHandle<'_>,
    import_id: &str,
) -> Result<Option<ImportSummary>, TableError> {
    find_in(db.connection, db.context, import_id)
}

pub(super) fn find_in(
    connection: &Connection,
    context: ErrorContext<'_>,
    import_id: &str,
) -> Result<Option<ImportSummary>, TableError> {
    let recorded = connection
        .query_row(
            "SELECT rows, replaced_cells FROM _forebay_imports WHERE import_id = ?1",
            [import_id],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
        )
        .optional()
        .map_err(error::to_table_error(context, "read the ledger of imports"))?;
    Ok(recorded.map(|(rows, replaced)| ImportSummary {
        rows: rows.unsigned_abs(),
        already_done: true,
        replaced_cells: replaced.unsigned_abs(),
    }))
}

pub(super) fn record_import(
    connection: &Connection,
    import: &Import,
    summary: ImportSummary,
) -> rusqlite::Result<()> {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    connection.execute(
        "INSERT INTO _forebay_imports (import_id, table_id, rows, replaced_cells) VALUES (?1, ?2, ?3, ?4)",
        params![
            import.id,
            import.table.to_string(),
            count(summary.rows),
            count(summary.replaced_cells)
        ],
    )?;
    Ok(())
}

pub(super) fn forget(db: &mut DatabaseHandle<'_>, imports: &[String]) -> Result<(), TableError> {
    let forget = |connection: &mut Connection| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for import in imports {
            transaction.execute(
                "DELETE FROM _forebay_imports WHERE import_id = ?1",
                [import],
            )?;
        }
        transaction.commit()
    };
    forget(db.connection).map_err(error::to_table_error(
        db.context,
        "remove imports from the ledger",
    ))
}

/// The ids that are not in the ledger.
pub(super) fn missing(
    db: &mut DatabaseHandle<'_>,
    imports: &[String],
) -> Result<Vec<String>, TableError> {
    let mut lacking = Vec::new();
    for import in imports {
        if find(db, import)?.is_none() {
            lacking.push(import.clone());
        }
    }
    Ok(lacking)
}

/// Ids after `after`.
pub(super) fn page(
    db: &mut DatabaseHandle<'_>,
    after: &str,
    limit: u32,
) -> Result<Vec<String>, TableError> {
    let read = |connection: &Connection| -> rusqlite::Result<Vec<String>> {
        let sql = "SELECT import_id FROM _forebay_imports WHERE import_id > ?1
                   ORDER BY import_id LIMIT ?2";
        let mut statement = connection.prepare(sql)?;
        statement
            .query_map(params![after, limit], |row| row.get(0))?
            .collect()
    };
    read(db.connection).map_err(error::to_table_error(
        db.context,
        "read the ledger of imports",
    ))
}

/// Takes and releases the write lock.
pub(super) fn check(db: &mut DatabaseHandle<'_>) -> Result<(), TableError> {
    let check = |connection: &mut Connection| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        transaction.rollback()
    };
    check(db.connection).map_err(error::to_table_error(db.context, "write"))
}
