//! Tables and their columns.

use forebay_model::{DataType, Mapping, TableId};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::keyed::sqlite::declared;
use crate::table::TableError;
use crate::table::mapping_fit::{self, ColumnStorage, ExistingColumn, MappingFit, quote, quoted};
use crate::table::sqlite::error::{self, ErrorContext};
use crate::table::sqlite::handle::DatabaseHandle;

/// Creates the table, adds columns, or does nothing, which needs no lock.
pub(super) fn prepare(
    db: &mut DatabaseHandle<'_>,
    table: &TableId,
    mapping: &Mapping,
) -> Result<(), TableError> {
    mapping_fit::check_mapping(table, mapping)?;
    let context = db.context;
    let action = format!("prepare table \"{table}\"");
    let failed = || error::to_table_error(context, &action);
    if let Some(fit) = fit(db.connection, context, table, mapping)?
        && fit.missing.is_empty()
    {
        return Ok(());
    }
    // Another process may prepare the same table: check again under the lock.
    let transaction = db
        .connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed())?;
    match fit(&transaction, context, table, mapping)? {
        None => {
            transaction
                .execute_batch(&create(table, mapping))
                .map_err(failed())?;
            tracing::info!(%table, columns = mapping.columns.len(), "table created");
        }
        Some(fit) => {
            let quoted_table = quote(&table.to_string());
            let missing = fit.missing.iter();
            for column in missing.filter_map(|&i| mapping.columns.get(i)) {
                let (name, data_type) = (&column.name, declared(column.data_type));
                let quoted_name = quote(name);
                let add =
                    format!("ALTER TABLE {quoted_table} ADD COLUMN {quoted_name} {data_type}");
                transaction.execute_batch(&add).map_err(failed())?;
                tracing::info!(%table, column = name, "column added");
            }
        }
    }
    transaction.commit().map_err(failed())
}

/// Deletes a table. A view of that name was not created by Forebay and is kept.
pub(super) fn delete(db: &mut DatabaseHandle<'_>, table: &TableId) -> Result<(), TableError> {
    let action = format!("delete table \"{table}\"");
    db.connection
        .execute_batch(&format!(
            "DROP TABLE IF EXISTS {}",
            quote(&table.to_string())
        ))
        .map_err(error::to_table_error(db.context, &action))
}

/// Fits the mapping to the table; `None` if there is no table.
pub(super) fn fit(
    connection: &Connection,
    context: ErrorContext<'_>,
    table: &TableId,
    mapping: &Mapping,
) -> Result<Option<MappingFit>, TableError> {
    let action = format!("look up table \"{table}\"");
    let Some(existing) =
        find(connection, table).map_err(error::to_table_error(context, &action))?
    else {
        return Ok(None);
    };
    if let Some(problem) = existing.violation(table) {
        return Err(TableError::Terminal(problem));
    }
    let columns = columns(connection, table).map_err(error::to_table_error(context, &action))?;
    mapping_fit::fit(table, mapping, &columns).map(Some)
}

/// Key columns are NOT NULL, which SQLite doesn't imply.
fn create(table: &TableId, mapping: &Mapping) -> String {
    let mut parts: Vec<String> = mapping
        .columns
        .iter()
        .map(|c| {
            let not_null = if c.primary_key { " NOT NULL" } else { "" };
            format!("{} {}{not_null}", quote(&c.name), declared(c.data_type))
        })
        .collect();
    let key = quoted(mapping.primary_key());
    if !key.is_empty() {
        parts.push(format!("PRIMARY KEY ({key})"));
    }
    format!(
        "CREATE TABLE {} ({})",
        quote(&table.to_string()),
        parts.join(", ")
    )
}

/// The object with a table's name.
#[derive(Debug)]
pub(super) struct ExistingObject {
    name: String,
    kind: String,
}

impl ExistingObject {
    /// Reason for rejecting imports into it, whatever its columns.
    pub(super) fn violation(&self, table: &TableId) -> Option<String> {
        let (name, kind) = (&self.name, &self.kind);
        if *name != table.to_string() {
            return Some(format!(
                "table \"{table}\": \"{name}\" exists and SQLite does not distinguish upper and lower case: use another name"
            ));
        }
        (kind != "table").then(|| format!("\"{table}\" is a {kind} and can't be imported into"))
    }
}

pub(super) fn find(
    connection: &Connection,
    table: &TableId,
) -> rusqlite::Result<Option<ExistingObject>> {
    // A virtual table has no pages.
    connection
        .query_row(
            "SELECT name, CASE WHEN type = 'table' AND rootpage = 0 THEN 'virtual table' ELSE type END
             FROM sqlite_schema
             WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE",
            [table.to_string()],
            |row| {
                Ok(ExistingObject {
                    name: row.get(0)?,
                    kind: row.get(1)?,
                })
            },
        )
        .optional()
}

pub(super) fn columns(
    connection: &Connection,
    table: &TableId,
) -> rusqlite::Result<Vec<ExistingColumn>> {
    let mut statement = connection.prepare(
        "SELECT name, type, \"notnull\", dflt_value IS NOT NULL, pk, hidden
         FROM pragma_table_xinfo(?1)",
    )?;
    let rows = statement.query_map([table.to_string()], |row| {
        let type_name: String = row.get(1)?;
        let (not_null, has_default): (bool, bool) = (row.get(2)?, row.get(3)?);
        let in_key = row.get::<_, i64>(4)? > 0;
        let is_generated = row.get::<_, i64>(5)? > 1;
        Ok(ExistingColumn {
            name: row.get(0)?,
            storage: storage(&type_name),
            type_name,
            is_not_null: not_null,
            is_required: not_null && !has_default && !is_generated,
            is_generated,
            in_key,
        })
    })?;
    rows.collect()
}

/// Values that a column of a declared type stores unchanged. Names are Forebay's own, or tell the
/// affinity: a column of another one would turn the text `007` into a number.
fn storage(type_name: &str) -> ColumnStorage {
    let name = type_name.to_ascii_uppercase();
    let own = DataType::ALL.into_iter().find(|t| declared(*t) == name);
    if let Some(typed) = own.filter(|t| !t.is_text()) {
        return ColumnStorage::Typed(typed);
    }
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if has(&["BOOL"]) {
        ColumnStorage::Foreign
    } else if has(&["INT"]) {
        ColumnStorage::Typed(DataType::Integer)
    } else if name.is_empty() || has(&["CHAR", "CLOB", "TEXT", "BLOB"]) {
        ColumnStorage::Text
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        ColumnStorage::Typed(DataType::Double)
    } else if has(&["NUMERIC", "DECIMAL"]) {
        ColumnStorage::Numeric
    } else {
        ColumnStorage::Foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinities_that_change_values_are_detected() {
        for text in ["TEXT", "varchar(3)", "", "blob", "Clob"] {
            assert_eq!(storage(text), ColumnStorage::Text, "{text}");
        }
        for (name, data_type) in [
            ("INTEGER", DataType::Integer),
            ("bigint", DataType::Integer),
            ("charint", DataType::Integer),
            ("REAL", DataType::Double),
            ("double precision", DataType::Double),
            ("boolean", DataType::Boolean),
            ("TIMESTAMP_TEXT", DataType::Timestamp),
            ("JSON_TEXT", DataType::Json),
        ] {
            assert_eq!(storage(name), ColumnStorage::Typed(data_type), "{name}");
        }
        for name in ["NUMERIC", "decimal(10,2)"] {
            assert_eq!(storage(name), ColumnStorage::Numeric, "{name}");
        }
        for name in ["DATE", "ANY", "JSON", "JSONB", "TIMESTAMP", "BOOL_INT"] {
            assert_eq!(storage(name), ColumnStorage::Foreign, "{name}");
        }
    }
}
