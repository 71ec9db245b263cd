//! Tables in a PostgreSQL server: rows go in by binary `COPY`, a ledger in a schema of its own
//! says which imports are done.

use std::sync::Arc;

use async_trait::async_trait;
use forebay_model::{Mapping, TableBackend, TableId};
use tokio_postgres::types::{ToSql, Type};

use crate::table::{Finding, Import, Imported, Inspection, RowStream, Table, TableError};

mod config;
mod connect;
mod copy;
mod error;
mod import;
mod inspect;
mod keyed;
mod ledger;
mod pool;
mod schema;
mod tls;

pub use config::{PostgresConfig, SslMode};
pub use keyed::PostgresKeyed;

use connect::Server;
use pool::Pool;

/// Tables in a PostgreSQL server: schema `<stage>.<bucket>`, and the last part of the id in it.
#[derive(Debug)]
pub struct PostgresTable {
    pool: Pool,
}

impl PostgresTable {
    /// Reads the configuration; connections are made when they are needed.
    ///
    /// # Errors
    /// When the connection string or a certificate can't be read.
    pub fn open(config: &PostgresConfig) -> Result<Self, TableError> {
        let server = Server::new(config)?;
        Ok(Self {
            pool: Pool::new(Arc::new(server), config.pool_size),
        })
    }

    /// Where the server is, for logs: host, port and database.
    #[must_use]
    pub fn place(&self) -> &str {
        self.pool.server().place()
    }
}

#[async_trait]
impl Table for PostgresTable {
    fn backend(&self) -> TableBackend {
        TableBackend::Postgres
    }

    fn check_names(&self, table: &TableId, mapping: &Mapping) -> Vec<Finding> {
        schema::check_names(table, mapping, self.pool.server().ledger_schema())
    }

    async fn inspect(&self, table: &TableId, mapping: &Mapping) -> Result<Inspection, TableError> {
        let findings = self.check_names(table, mapping);
        if !findings.is_empty() {
            return Ok(Inspection {
                exists: false,
                findings,
            });
        }
        let connection = self.pool.take().await?;
        let inspection = inspect::run(&connection, table, mapping).await?;
        connection.give_back();
        Ok(inspection)
    }

    async fn prepare(&self, table: &TableId, mapping: &Mapping) -> Result<(), TableError> {
        let mut connection = self.pool.take().await?;
        schema::prepare(&mut connection, table, mapping).await?;
        connection.give_back();
        Ok(())
    }

    async fn import(&self, import: &Import, rows: RowStream<'_>) -> Result<Imported, TableError> {
        let mut connection = self.pool.take().await?;
        let imported = import::run(&mut connection, import, rows).await?;
        connection.give_back();
        Ok(imported)
    }

    async fn delete(&self, table: &TableId) -> Result<(), TableError> {
        let connection = self.pool.take().await?;
        schema::delete(&connection, table).await?;
        connection.give_back();
        Ok(())
    }

    async fn forget(&self, imports: &[String]) -> Result<(), TableError> {
        let connection = self.pool.take().await?;
        ledger::forget(&connection, imports).await?;
        connection.give_back();
        Ok(())
    }

    async fn imported(&self, import_id: &str) -> Result<Option<u64>, TableError> {
        let connection = self.pool.take().await?;
        let imported = ledger::find(&connection, import_id).await?;
        connection.give_back();
        Ok(imported.map(|i| i.rows))
    }

    async fn settled(&self, import_id: &str) -> Result<Option<u64>, TableError> {
        let connection = self.pool.take().await?;
        let imported = ledger::settled(&connection, import_id).await?;
        connection.give_back();
        Ok(imported.map(|i| i.rows))
    }

    async fn lacking(&self, imports: &[String]) -> Result<Vec<String>, TableError> {
        let connection = self.pool.take().await?;
        let lacking = ledger::lacking(&connection, imports).await?;
        connection.give_back();
        Ok(lacking)
    }

    async fn ledger(&self, after: &str, limit: u32) -> Result<Vec<String>, TableError> {
        let connection = self.pool.take().await?;
        let page = ledger::page(&connection, after, limit).await?;
        connection.give_back();
        Ok(page)
    }

    async fn check(&self) -> Result<(), TableError> {
        let connection = self.pool.take().await?;
        let sql = "SELECT pg_catalog.pg_is_in_recovery() OR current_setting('transaction_read_only')::bool";
        let row = connection.query("check the server", sql, &[]).await?;
        let is_read_only = row.first().is_some_and(|r| r.get::<_, bool>(0));
        connection.give_back();
        if is_read_only {
            return Err(TableError::Retryable(format!(
                "{} can only be read (a replica, or set so): it can't take rows",
                self.place()
            )));
        }
        Ok(())
    }
}

/// A text parameter.
type Text<'a> = (&'a (dyn ToSql + Sync), Type);

fn text<T: ToSql + Sync>(value: &T) -> Text<'_> {
    (value, Type::TEXT)
}
