//! Runs a statement and prints its rows.

use std::io::BufWriter;

use forebay_connect::table::query::QueryError;
use forebay_model::words::counted;

use super::database::QueryDatabase;
use crate::cli_error::CliError;
use crate::query::{QueryFormat, writer};
use crate::terminal;

/// A query without a complete result.
pub(super) enum QueryFailure {
    Query(QueryError),
    /// Standard output failed.
    Output(CliError),
}

/// Runs a statement and prints its rows.
pub(super) async fn print(
    database: &QueryDatabase,
    sql: &str,
    format: QueryFormat,
    limit: Option<u64>,
) -> Result<(), QueryFailure> {
    let mut writer = writer(format, BufWriter::new(terminal::StdoutWriter::stdout()));
    let summary = database.query(sql, limit, &mut *writer).await;
    let summary = summary.map_err(QueryFailure::Query)?;
    writer.finish().map_err(QueryFailure::Output)?;
    if summary.truncated {
        let rows = counted(summary.rows, "row");
        terminal::note(format_args!(
            "only the first {rows} shown; --limit shows more"
        ));
    }
    Ok(())
}
