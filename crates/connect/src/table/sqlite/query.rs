//! Read-only SQL on the database, for `forebay query`, with or without a server that writes.

use std::path::Path;
use std::time::Duration;

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, ErrorCode, OpenFlags};

use crate::table::query::{QueryCell, QueryError, QuerySummary, QueryVisitor};
use crate::table::sqlite::error::classify;
use crate::table::sqlite::file_uri;

/// Runs one read-only statement and passes its rows to the visitor. Blocks.
pub fn query(
    path: &Path,
    sql: &str,
    limit: Option<u64>,
    visitor: &mut dyn QueryVisitor,
) -> Result<QuerySummary, QueryError> {
    if !path.exists() {
        return Err(QueryError::NoDatabase(path.display().to_string()));
    }
    let connection = connect(path).map_err(|e| failed(path, &e))?;
    let mut statements = Batch::new(&connection, sql);
    let first = statements.next().map_err(|e| failed(path, &e))?;
    let Some(mut statement) = first else {
        return Err(QueryError::Statement(
            "the query has no statement".to_owned(),
        ));
    };
    if !matches!(statements.next(), Ok(None)) {
        return Err(QueryError::Statement(
            "only one statement is allowed".to_owned(),
        ));
    }
    if !statement.readonly() {
        return Err(QueryError::Statement(
            "the statement would change the database: only reads are allowed".to_owned(),
        ));
    }
    let mut summary = QuerySummary::default();
    let names: Vec<&str> = statement.column_names().collect();
    // SQLite stores booleans as numbers. An expression has no declared type.
    let declared = statement.columns();
    let are_booleans: Vec<bool> = declared
        .map(|column| {
            column
                .decl_type()
                .is_some_and(|t| t.eq_ignore_ascii_case("boolean"))
        })
        .collect();
    if visitor.columns(&names).is_break() {
        return Ok(summary);
    }
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().map_err(|e| failed(path, &e))? {
        if Some(summary.rows) == limit {
            summary.truncated = true;
            break;
        }
        let cells = are_booleans.iter().enumerate();
        let cells = cells.map(|(i, is_boolean)| row.get_ref(i).map(|v| cell(v, *is_boolean)));
        let cells: Result<Vec<_>, _> = cells.collect();
        summary.rows += 1;
        if visitor
            .row(&cells.map_err(|e| failed(path, &e))?)
            .is_break()
        {
            break;
        }
    }
    Ok(summary)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let open = |parameters: &str| -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file_uri(path, parameters), flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "query_only", "ON")?;
        // One transaction, so that no column is added between names and rows.
        connection.execute_batch("BEGIN")?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    };
    match open("mode=ro") {
        // Reading a write-ahead log needs its index file, which can't be created in a read-only
        // folder. Without a log there is no writer, and the file can be read as it is.
        Err(e) if is_unopened(&e) && !beside(path, "-wal").exists() => open("mode=ro&immutable=1"),
        result => result,
    }
}

fn is_unopened(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
    )
}

fn beside(path: &Path, ending: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn cell(value: ValueRef<'_>, is_boolean: bool) -> QueryCell<'_> {
    match value {
        ValueRef::Integer(n @ 0..=1) if is_boolean => QueryCell::Bool(n == 1),
        ValueRef::Null => QueryCell::Null,
        ValueRef::Integer(i) => QueryCell::Int(i),
        ValueRef::Real(r) => QueryCell::Real(r),
        ValueRef::Text(bytes) => {
            std::str::from_utf8(bytes).map_or(QueryCell::Blob(bytes), QueryCell::Text)
        }
        ValueRef::Blob(bytes) => QueryCell::Blob(bytes),
    }
}

fn failed(path: &Path, error: &rusqlite::Error) -> QueryError {
    match error {
        rusqlite::Error::SqlInputError { msg, offset, .. } => match usize::try_from(*offset) {
            Ok(at) => QueryError::Statement(format!("{msg} (at byte {})", at + 1)),
            Err(_) => QueryError::Statement(msg.clone()),
        },
        _ if matches!(error.sqlite_error_code(), Some(ErrorCode::Unknown) | None) => {
            QueryError::Statement(error.to_string())
        }
        _ => QueryError::Database(format!("{}: {}", path.display(), classify(error).1)),
    }
}
