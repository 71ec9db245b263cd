//! Read-only SQL on the server, for `forebay query`.
//!
//! The server enforces it: one statement in a transaction `READ ONLY` with the configured statement
//! timeout. A user who may do more than read should not be given this connection.

use std::time::Duration;

use futures::{StreamExt, pin_mut};
use tokio::time::timeout;
use tokio_postgres::types::Type;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::PostgresTable;
use super::error::from_postgres;
use crate::table::TableError;
use crate::table::query::{QueryCell, QueryError, QuerySummary, QueryVisitor};

/// Words with which a read begins. The transaction is read-only in any case; others, such as `COMMIT`,
/// would end it.
const READS: [&str; 7] = ["select", "with", "values", "table", "explain", "show", "("];

impl PostgresTable {
    /// Runs one read-only statement and passes its rows to the visitor.
    ///
    /// # Errors
    /// When the statement is no read or invalid, or the server can't be reached.
    pub async fn query(
        &self,
        sql: &str,
        limit: Option<u64>,
        visitor: &mut dyn QueryVisitor,
    ) -> Result<QuerySummary, QueryError> {
        let sql = sql.trim().trim_end_matches(';').trim_end();
        if sql.is_empty() {
            return Err(QueryError::Statement(
                "the query has no statement".to_owned(),
            ));
        }
        if !is_read(sql) {
            return Err(QueryError::Statement(
                "the statement would change the database: only reads are allowed".to_owned(),
            ));
        }
        let unreachable = |e: TableError| QueryError::Database(e.to_string());
        let connection = self.pool.acquire().await.map_err(unreachable)?;
        let client_timeout = connection.statement_timeout + Duration::from_secs(5);
        let server = self.display_name();
        let failed = |e: tokio_postgres::Error| match e.as_db_error() {
            Some(error) => {
                let hint = error.hint().map(|h| format!(" ({h})"));
                QueryError::Statement(format!("{}{}", error.message(), hint.unwrap_or_default()))
            }
            None => QueryError::Database(from_postgres(server, "query", &e).to_string()),
        };
        let slow = |_| {
            let seconds = client_timeout.as_secs();
            QueryError::Database(format!("{server}: no response within {seconds} s"))
        };
        let begin = connection
            .client
            .batch_execute("BEGIN TRANSACTION READ ONLY");
        timeout(client_timeout, begin)
            .await
            .map_err(slow)?
            .map_err(failed)?;
        // Preparing rejects several statements, and has the types of the columns.
        let preparing = connection.client.prepare(sql);
        let prepared = timeout(client_timeout, preparing).await.map_err(slow)?;
        let prepared = prepared.map_err(failed)?;
        let types: Vec<Type> = prepared
            .columns()
            .iter()
            .map(|c| c.type_().clone())
            .collect();
        let names: Vec<&str> = prepared.columns().iter().map(|c| c.name()).collect();
        let mut summary = QuerySummary::default();
        if visitor.columns(&names).is_break() {
            return Ok(summary);
        }
        let running = connection.client.simple_query_raw(sql);
        let rows = timeout(client_timeout, running)
            .await
            .map_err(slow)?
            .map_err(failed)?;
        pin_mut!(rows);
        while let Some(message) = timeout(client_timeout, rows.next()).await.map_err(slow)? {
            let SimpleQueryMessage::Row(row) = message.map_err(failed)? else {
                continue;
            };
            if Some(summary.rows) == limit {
                summary.truncated = true;
                break;
            }
            summary.rows += 1;
            if visitor.row(&cells(&row, &types)).is_break() {
                break;
            }
        }
        // The connection is dropped: the server rolls back, and stops sending.
        Ok(summary)
    }
}

/// Whether a statement begins as a read, after comments.
fn is_read(sql: &str) -> bool {
    let mut rest = sql.trim_start();
    loop {
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment
                .split_once('\n')
                .map_or("", |(_, after)| after)
                .trim_start();
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment
                .split_once("*/")
                .map_or("", |(_, after)| after)
                .trim_start();
        } else {
            break;
        }
    }
    let rest = rest.to_ascii_lowercase();
    READS.iter().any(|word| {
        let after = rest.strip_prefix(word);
        after.is_some_and(|a| {
            *word == "(" || !a.starts_with(|c: char| c.is_alphanumeric() || c == '_')
        })
    })
}

fn cells<'r>(row: &'r SimpleQueryRow, types: &[Type]) -> Vec<QueryCell<'r>> {
    let cell = |(i, of): (usize, &Type)| match row.get(i) {
        None => QueryCell::Null,
        Some(text) if *of == Type::BOOL => QueryCell::Bool(text == "t"),
        Some(text) if matches!(*of, Type::INT2 | Type::INT4 | Type::INT8 | Type::OID) => {
            text.parse().map_or(QueryCell::Text(text), QueryCell::Int)
        }
        Some(text) if matches!(*of, Type::FLOAT4 | Type::FLOAT8) => {
            text.parse().map_or(QueryCell::Text(text), QueryCell::Real)
        }
        Some(text) => QueryCell::Text(text),
    };
    types.iter().enumerate().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reads_are_sent() {
        for sql in [
            "SELECT 1",
            "select*from t",
            "WITH a AS (SELECT 1) SELECT 1",
            "(VALUES (1))",
            "-- x\n/* y */ show all",
        ] {
            assert!(is_read(sql), "{sql}");
        }
        for sql in [
            "COMMIT",
            "DROP TABLE t",
            "selectx",
            "COPY t TO PROGRAM 'x'",
            "SET a = 1",
            "-- select",
            "/* select",
            "",
        ] {
            assert!(!is_read(sql), "{sql}");
        }
    }
}
