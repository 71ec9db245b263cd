//! Import of a file: ledger entry and rows in one transaction.

use std::pin::Pin;

use bytes::Bytes;
use forebay_model::failpoint::{self, FailPoint};
use futures::{SinkExt, StreamExt};
use tokio_postgres::CopyInSink;

use crate::table::mapping_fit::{self, CellForm, MappingFit, quote, quoted};
use crate::table::postgres::connect::{DURABLE, PostgresConnection};
use crate::table::postgres::copy::CopyEncoder;
use crate::table::postgres::keyed::declared;
use crate::table::postgres::ledger;
use crate::table::postgres::schema::{self, qualified};
use crate::table::{Import, ImportSummary, RowStream, TableError};

/// Temporary table of an upsert's rows. In the session's own schema, so its name can't conflict.
const STAGE: &str = "pg_temp._forebay_import";

/// An error, or dropping the future, leaves the transaction open: the caller must then drop the
/// connection, and the server rolls back.
pub(super) async fn run(
    connection: &mut PostgresConnection,
    import: &Import,
    rows: RowStream<'_>,
) -> Result<ImportSummary, TableError> {
    let action = format!("import into table \"{}\"", import.table);
    // After the commit the import's data is deleted: the commit must be durable.
    let begin = format!("BEGIN; {DURABLE}");
    connection.execute(&action, &begin).await?;
    if !ledger::claim(connection, import).await? {
        connection.execute(&action, "ROLLBACK").await?;
        return ledger::find(connection, &import.id).await?.ok_or_else(|| {
            TableError::Retryable(format!(
                "import {} was removed from the ledger meanwhile",
                import.id
            ))
        });
    }
    let fit = match schema::fit(connection, &import.table, &import.mapping).await? {
        Some(fit) if fit.missing.is_empty() => fit,
        // Dropped or replaced since it was prepared; the retry prepares it again.
        _ => {
            return Err(TableError::Retryable(format!(
                "table \"{}\" is not prepared",
                import.table
            )));
        }
    };
    let limit = connection.import_timeout.as_millis();
    let long = format!("SET LOCAL statement_timeout = {limit}");
    connection.execute(&action, &long).await?;
    let summary = if import.mapping.primary_key().next().is_none() {
        insert(connection, import, &fit, rows, &action).await?
    } else {
        upsert(connection, import, &fit, rows, &action).await?
    };
    failpoint::at(FailPoint::RowsWritten);
    ledger::record_counts(connection, import, summary).await?;
    failpoint::at(FailPoint::LedgerWritten);
    connection.execute(&action, "COMMIT").await?;
    failpoint::at(FailPoint::RowsCommitted);
    Ok(summary)
}

async fn insert(
    connection: &PostgresConnection,
    import: &Import,
    fit: &MappingFit,
    rows: RowStream<'_>,
    action: &str,
) -> Result<ImportSummary, TableError> {
    let target = format!("{} ({})", qualified(&import.table), quoted(&fit.names));
    copy(
        connection,
        import,
        rows,
        &target,
        CopyEncoder::new(false, fit.forms.clone()),
        action,
    )
    .await
}

/// Uses a temporary table, as `COPY` has no conflict handling. The last row of each key wins, and
/// rows are written in key order, so that concurrent imports don't deadlock.
async fn upsert(
    connection: &PostgresConnection,
    import: &Import,
    fit: &MappingFit,
    rows: RowStream<'_>,
    action: &str,
) -> Result<ImportSummary, TableError> {
    let columns = fit.names.iter().zip(&fit.forms);
    let columns: Vec<String> = columns
        .map(|(name, form)| format!("{} {}", quote(name), staged_type(*form)))
        .collect();
    let position = position_name(fit);
    let create = format!(
        "CREATE TEMPORARY TABLE {STAGE} ({position} bigint, {}) ON COMMIT DROP",
        columns.join(", ")
    );
    // `CREATE TEMPORARY` doesn't accept a schema.
    connection
        .execute(action, &create.replacen("pg_temp.", "", 1))
        .await?;
    let names = quoted(&fit.names);
    let target = format!("{STAGE} ({position}, {names})");
    let summary = copy(
        connection,
        import,
        rows,
        &target,
        CopyEncoder::new(true, fit.forms.clone()),
        action,
    )
    .await?;
    let keys = quoted(mapping_fit::key_names(&import.mapping, fit));
    let merge = format!(
        "INSERT INTO {} ({names})
         SELECT {names} FROM (
             SELECT DISTINCT ON ({keys}) * FROM {STAGE} ORDER BY {keys}, {position} DESC
         ) last {}",
        qualified(&import.table),
        mapping_fit::on_conflict(&import.mapping, fit)
    );
    let run = connection.client.batch_execute(&merge);
    connection
        .step(action, connection.import_timeout, run)
        .await?;
    Ok(summary)
}

fn staged_type(form: CellForm) -> &'static str {
    match form {
        CellForm::Text | CellForm::Canonical => "text",
        CellForm::Numeric => "numeric",
        CellForm::Typed(data_type) => declared(data_type),
    }
}

/// A name for the position that no column has.
fn position_name(fit: &MappingFit) -> String {
    let mut name = "_position".to_owned();
    while fit.names.contains(&name) {
        name.push('_');
    }
    quote(&name)
}

async fn copy(
    connection: &PostgresConnection,
    import: &Import,
    mut rows: RowStream<'_>,
    target: &str,
    mut encoder: CopyEncoder,
    action: &str,
) -> Result<ImportSummary, TableError> {
    let limit = connection.import_timeout;
    let sql = format!("COPY {target} FROM STDIN (FORMAT binary)");
    let begin = connection.client.copy_in::<_, Bytes>(&sql);
    let mut sink = std::pin::pin!(connection.step(action, limit, begin).await?);
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        mapping_fit::check_batch(&import.table, &import.mapping, &batch)?;
        let mut cells = batch.cells();
        while let Some(message) = encoder
            .encode(&mut cells)
            .map_err(|cell| cell.error(&import.table, &import.mapping))?
        {
            send(connection, sink.as_mut(), message, action).await?;
        }
    }
    send(connection, sink.as_mut(), encoder.finish(), action).await?;
    connection
        .step(action, limit, sink.as_mut().finish())
        .await?;
    Ok(ImportSummary {
        rows: encoder.rows,
        already_done: false,
        replaced_cells: encoder.replaced_cells,
    })
}

async fn send(
    connection: &PostgresConnection,
    mut sink: Pin<&mut CopyInSink<Bytes>>,
    message: Bytes,
    action: &str,
) -> Result<(), TableError> {
    let limit = connection.import_timeout;
    connection.step(action, limit, sink.send(message)).await
}
