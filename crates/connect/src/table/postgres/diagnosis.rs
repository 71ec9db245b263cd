//! What a server permits this user: for diagnosis, not for decisions.

use super::PostgresTable;
use crate::table::TableError;

/// Properties of a server and of the configured user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresDiagnosis {
    pub version: String,
    pub user: String,
    pub can_create_schema: bool,
    /// Read-only, or a standby.
    pub is_read_only: bool,
    /// Whether committed rows survive a crash of its machine.
    pub is_durable: bool,
}

impl PostgresTable {
    /// Connects and asks the server.
    ///
    /// # Errors
    /// When the server can't be reached or rejects the user.
    pub async fn diagnose(&self) -> Result<PostgresDiagnosis, TableError> {
        let connection = self.pool.acquire().await?;
        let sql = "SELECT pg_catalog.current_setting('server_version'), current_user::text,
            pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
            pg_catalog.pg_is_in_recovery() OR pg_catalog.current_setting('transaction_read_only') = 'on',
            coalesce(pg_catalog.current_setting('fsync', true), 'on') <> 'off'
                AND coalesce(pg_catalog.current_setting('full_page_writes', true), 'on') <> 'off'";
        let rows = connection
            .query("read the server's properties", sql, &[])
            .await?;
        connection.release();
        let Some(row) = rows.first() else {
            return Err(TableError::Terminal(
                "the server returned no row".to_owned(),
            ));
        };
        Ok(PostgresDiagnosis {
            version: row.get(0),
            user: row.get(1),
            can_create_schema: row.get(2),
            is_read_only: row.get(3),
            is_durable: row.get(4),
        })
    }
}
