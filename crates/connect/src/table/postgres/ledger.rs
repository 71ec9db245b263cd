//! The ledger of imports, a table in a separate schema.

use tokio_postgres::types::Type;

use crate::table::mapping_fit::quote;
use crate::table::postgres::connect::PostgresConnection;
use crate::table::postgres::volatile::{VOLATILE, check_volatile};
use crate::table::{Import, ImportSummary, TableError};

use super::connect::text;

/// Qualified name.
fn name(connection: &PostgresConnection) -> String {
    format!("{}.imports", quote(&connection.ledger_schema))
}

pub(super) async fn exists(connection: &PostgresConnection) -> Result<bool, TableError> {
    let sql = format!(
        "SELECT {VOLATILE} FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = 'imports'"
    );
    let schema = connection.ledger_schema.as_str();
    let rows = connection
        .query("look up the ledger of imports", &sql, &[text(&schema)])
        .await?;
    let Some(row) = rows.first() else {
        return Ok(false);
    };
    let ledger = format!("{schema}.imports");
    check_volatile(&ledger, row.get(0))?;
    Ok(true)
}

/// Statements that create it.
pub(super) fn create(connection: &PostgresConnection) -> String {
    format!(
        "CREATE TABLE {} (
            import_id text NOT NULL PRIMARY KEY,
            table_id text NOT NULL,
            rows bigint NOT NULL,
            replaced_cells bigint NOT NULL,
            imported_at timestamptz NOT NULL DEFAULT now()
        )",
        name(connection)
    )
}

pub(super) async fn find(
    connection: &PostgresConnection,
    import_id: &str,
) -> Result<Option<ImportSummary>, TableError> {
    // Before the first `prepare` there is no ledger, so nothing was imported.
    if !exists(connection).await? {
        return Ok(None);
    }
    let sql = format!(
        "SELECT rows, replaced_cells FROM {} WHERE import_id = $1",
        name(connection)
    );
    let rows = connection
        .query("read the ledger of imports", &sql, &[text(&import_id)])
        .await?;
    Ok(rows.first().map(|row| ImportSummary {
        rows: row.get::<_, i64>(0).unsigned_abs(),
        already_done: true,
        replaced_cells: row.get::<_, i64>(1).unsigned_abs(),
    }))
}

/// Inserts the import's entry, without counts, in the open transaction. A concurrent second claim
/// waits for the end of the first transaction: then it finds the entry or inserts its own. Returns
/// whether the entry was inserted.
pub(super) async fn claim(
    connection: &PostgresConnection,
    import: &Import,
) -> Result<bool, TableError> {
    insert(connection, &import.id, &import.table.to_string()).await
}

async fn insert(
    connection: &PostgresConnection,
    import: &str,
    table: &str,
) -> Result<bool, TableError> {
    let sql = format!(
        "INSERT INTO {} (import_id, table_id, rows, replaced_cells) VALUES ($1, $2, 0, 0)
         ON CONFLICT (import_id) DO NOTHING RETURNING 1",
        name(connection)
    );
    let parameters = [text(&import), text(&table)];
    let rows = connection
        .query("write the ledger of imports", &sql, &parameters)
        .await?;
    Ok(!rows.is_empty())
}

/// Result of an import, after waiting for any transaction that is writing its entry.
pub(super) async fn resolve(
    connection: &PostgresConnection,
    import_id: &str,
) -> Result<Option<ImportSummary>, TableError> {
    if !exists(connection).await? {
        return Ok(None);
    }
    let action = "read the ledger of imports";
    connection.execute(action, "BEGIN").await?;
    insert(connection, import_id, "").await?;
    connection.execute(action, "ROLLBACK").await?;
    find(connection, import_id).await
}

/// The ids that are not in the ledger.
pub(super) async fn missing(
    connection: &PostgresConnection,
    imports: &[String],
) -> Result<Vec<String>, TableError> {
    if !exists(connection).await? {
        return Ok(imports.to_vec());
    }
    let sql = format!(
        "SELECT id FROM unnest($1) id
         WHERE NOT EXISTS (SELECT 1 FROM {} WHERE import_id = id)",
        name(connection)
    );
    let parameters = [(&imports as _, Type::TEXT_ARRAY)];
    let action = "read the ledger of imports";
    let rows = connection.query(action, &sql, &parameters).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Ids after `after`, in the order of the database.
pub(super) async fn page(
    connection: &PostgresConnection,
    after: &str,
    limit: u32,
) -> Result<Vec<String>, TableError> {
    if !exists(connection).await? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT import_id FROM {} WHERE import_id > $1 ORDER BY import_id LIMIT $2",
        name(connection)
    );
    let limit = i64::from(limit);
    let parameters = [text(&after), (&limit as _, Type::INT8)];
    let action = "read the ledger of imports";
    let rows = connection.query(action, &sql, &parameters).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

pub(super) async fn record_counts(
    connection: &PostgresConnection,
    import: &Import,
    summary: ImportSummary,
) -> Result<(), TableError> {
    let sql = format!(
        "UPDATE {} SET rows = $2, replaced_cells = $3 WHERE import_id = $1",
        name(connection)
    );
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (rows, replaced) = (count(summary.rows), count(summary.replaced_cells));
    let parameters = [
        text(&import.id),
        (&rows as _, Type::INT8),
        (&replaced as _, Type::INT8),
    ];
    connection
        .query("write the ledger of imports", &sql, &parameters)
        .await?;
    Ok(())
}

pub(super) async fn forget(
    connection: &PostgresConnection,
    imports: &[String],
) -> Result<(), TableError> {
    if imports.is_empty() || !exists(connection).await? {
        return Ok(());
    }
    let sql = format!("DELETE FROM {} WHERE import_id = ANY($1)", name(connection));
    connection
        .query(
            "remove imports from the ledger",
            &sql,
            &[(&imports as _, Type::TEXT_ARRAY)],
        )
        .await?;
    Ok(())
}
