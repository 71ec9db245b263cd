//! Tables in a PostgreSQL server: rows are imported by binary `COPY`, a ledger in a separate schema
//! records completed imports.

use std::sync::Arc;

use async_trait::async_trait;
use forebay_model::{Mapping, TableBackend, TableId};

use crate::table::{
    Import, ImportSummary, InspectionFinding, RowStream, Table, TableError, TableInspection,
};

mod config;
mod connect;
mod copy;
mod diagnosis;
mod error;
mod import;
mod inspect;
mod keyed;
mod ledger;
mod pool;
mod query;
mod schema;
mod tls;
mod volatile;

pub use config::{PostgresConfig, SslMode};
pub use diagnosis::PostgresDiagnosis;
pub use keyed::PostgresKeyed;

use connect::PostgresServer;
use pool::ConnectionPool;

/// Tables in a PostgreSQL server, in the schema `<stage>.<bucket>` under the last part of the id.
#[derive(Debug)]
pub struct PostgresTable {
    pool: ConnectionPool,
}

impl PostgresTable {
    /// Parses the configuration; connections are opened on demand. Fails when the connection string
    /// or a certificate can't be read.
    pub fn open(config: &PostgresConfig) -> Result<Self, TableError> {
        let server = PostgresServer::new(config)?;
        Ok(Self {
            pool: ConnectionPool::new(Arc::new(server), config.pool_size),
        })
    }

    /// Host, port and database of the server, for logs.
    pub fn display_name(&self) -> &str {
        self.pool.server().display_name()
    }
}

#[async_trait]
impl Table for PostgresTable {
    fn backend(&self) -> TableBackend {
        TableBackend::Postgres
    }

    fn check_names(&self, table: &TableId, mapping: &Mapping) -> Vec<InspectionFinding> {
        schema::check_names(table, mapping, self.pool.server().ledger_schema())
    }

    async fn inspect(
        &self,
        table: &TableId,
        mapping: &Mapping,
    ) -> Result<TableInspection, TableError> {
        let findings = self.check_names(table, mapping);
        if !findings.is_empty() {
            return Ok(TableInspection {
                exists: false,
                findings,
            });
        }
        let connection = self.pool.acquire().await?;
        let inspection = inspect::run(&connection, table, mapping).await?;
        connection.release();
        Ok(inspection)
    }

    async fn prepare(&self, table: &TableId, mapping: &Mapping) -> Result<(), TableError> {
        let mut connection = self.pool.acquire().await?;
        schema::prepare(&mut connection, table, mapping).await?;
        connection.release();
        Ok(())
    }

    async fn import(
        &self,
        import: &Import,
        rows: RowStream<'_>,
    ) -> Result<ImportSummary, TableError> {
        let mut connection = self.pool.acquire().await?;
        let imported = import::run(&mut connection, import, rows).await?;
        connection.release();
        Ok(imported)
    }

    async fn delete(&self, table: &TableId) -> Result<(), TableError> {
        let connection = self.pool.acquire().await?;
        schema::delete(&connection, table).await?;
        connection.release();
        Ok(())
    }

    async fn forget(&self, imports: &[String]) -> Result<(), TableError> {
        let connection = self.pool.acquire().await?;
        ledger::forget(&connection, imports).await?;
        connection.release();
        Ok(())
    }

    async fn imported(&self, import_id: &str) -> Result<Option<u64>, TableError> {
        let connection = self.pool.acquire().await?;
        let imported = ledger::find(&connection, import_id).await?;
        connection.release();
        Ok(imported.map(|i| i.rows))
    }

    async fn resolve_import(&self, import_id: &str) -> Result<Option<u64>, TableError> {
        let connection = self.pool.acquire().await?;
        let imported = ledger::resolve(&connection, import_id).await?;
        connection.release();
        Ok(imported.map(|i| i.rows))
    }

    async fn missing_imports(&self, imports: &[String]) -> Result<Vec<String>, TableError> {
        let connection = self.pool.acquire().await?;
        let lacking = ledger::missing(&connection, imports).await?;
        connection.release();
        Ok(lacking)
    }

    async fn ledger(&self, after: &str, limit: u32) -> Result<Vec<String>, TableError> {
        let connection = self.pool.acquire().await?;
        let page = ledger::page(&connection, after, limit).await?;
        connection.release();
        Ok(page)
    }

    async fn check(&self) -> Result<(), TableError> {
        let connection = self.pool.acquire().await?;
        let sql = "SELECT pg_catalog.pg_is_in_recovery() OR current_setting('transaction_read_only')::bool";
        let row = connection.query("check the server", sql, &[]).await?;
        let is_read_only = row.first().is_some_and(|r| r.get::<_, bool>(0));
        connection.release();
        if is_read_only {
            return Err(TableError::Retryable(format!(
                "{} is read-only (a replica, or configured so)",
                self.display_name()
            )));
        }
        Ok(())
    }
}
