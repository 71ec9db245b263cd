//! Connections to the server.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use crate::table::TableError;
use crate::table::postgres::{PostgresConfig, SslMode, config, error, tls};

/// Makes the current transaction's commit durable on the server, whatever the settings of the
/// database, the role or a pooler's session. `remote_apply` is stronger and kept.
pub(super) const DURABLE: &str = "SELECT pg_catalog.set_config('synchronous_commit', 'on', true)
    WHERE pg_catalog.current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')";

/// A server and everything needed to connect to it.
pub(super) struct PostgresServer {
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
    display_name: String,
    connect_timeout: Duration,
    statement_timeout: Duration,
    import_timeout: Duration,
    ledger_schema: String,
    /// The warning about non-durable commits was logged.
    warned: AtomicBool,
}

impl fmt::Debug for PostgresServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.display_name).finish()
    }
}

/// A connection. Dropping it closes it, and the server rolls back.
#[derive(Debug)]
pub(super) struct PostgresConnection {
    pub(super) client: Client,
    // Transfers the data; the client needs it.
    _driver: AbortOnDropHandle<()>,
    display_name: String,
    pub(super) statement_timeout: Duration,
    pub(super) import_timeout: Duration,
    pub(super) ledger_schema: String,
}

impl PostgresServer {
    pub(super) fn new(config: &PostgresConfig) -> Result<Self, TableError> {
        let mut parsed = config::parse(config)?;
        let root_cert = match (&config.ca_pem, &parsed.root_cert) {
            (Some(pem), _) => Some(pem.clone()),
            (None, Some(path)) => Some(std::fs::read(path).map_err(|e| {
                TableError::Terminal(format!("the CA certificates {path} can't be read: {e}"))
            })?),
            (None, None) => None,
        };
        let tls = tls::connector(parsed.ssl_mode, root_cert.as_deref())?;
        parsed.config.ssl_mode(match parsed.ssl_mode {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
        });
        parsed.config.connect_timeout(config.connect_timeout);
        if parsed.config.get_application_name().is_none() {
            parsed.config.application_name("forebay");
        }
        // Detects a dead peer within a minute.
        parsed
            .config
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3);
        Ok(Self {
            display_name: display_name(&parsed.config),
            config: parsed.config,
            tls,
            connect_timeout: config.connect_timeout,
            statement_timeout: config.statement_timeout,
            import_timeout: config.import_timeout,
            ledger_schema: config.ledger_schema.clone(),
            warned: AtomicBool::new(false),
        })
    }

    pub(super) fn display_name(&self) -> &str {
        &self.display_name
    }

    pub(super) fn ledger_schema(&self) -> &str {
        &self.ledger_schema
    }

    pub(super) async fn connect(&self) -> Result<PostgresConnection, TableError> {
        let connecting = self.config.connect(self.tls.clone());
        let (client, driver) = timeout(self.connect_timeout, connecting)
            .await
            .map_err(|_| error::too_slow(&self.display_name, "connect", self.connect_timeout))?
            .map_err(|e| error::from_postgres(&self.display_name, "connect", &e))?;
        if let Some(encoding) = driver.parameter("server_encoding")
            && encoding != "UTF8"
        {
            return Err(TableError::Terminal(format!(
                "{}: the database's encoding is {encoding}, Forebay needs UTF8",
                self.display_name
            )));
        }
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            // Waiting callers receive the error too.
            if let Err(e) = driver.await {
                tracing::debug!(error = %e, "PostgreSQL connection ended");
            }
        }));
        let connection = PostgresConnection {
            client,
            _driver: driver,
            display_name: self.display_name.clone(),
            statement_timeout: self.statement_timeout,
            import_timeout: self.import_timeout,
            ledger_schema: self.ledger_schema.clone(),
        };
        connection.execute("connect", &self.session()).await?;
        self.warn_of_volatile(&connection).await?;
        Ok(connection)
    }

    /// Warns once if the server can lose committed data in a crash of its machine, which no client
    /// can prevent.
    async fn warn_of_volatile(&self, connection: &PostgresConnection) -> Result<(), TableError> {
        let sql = "SELECT coalesce(pg_catalog.current_setting('fsync', true), 'on'),
            coalesce(pg_catalog.current_setting('full_page_writes', true), 'on')";
        let rows = connection
            .query("read the server's settings", sql, &[])
            .await?;
        let Some(row) = rows.first() else {
            return Ok(());
        };
        let (fsync, full_page_writes): (&str, &str) = (row.get(0), row.get(1));
        let is_safe = fsync != "off" && full_page_writes != "off";
        if !is_safe && !self.warned.swap(true, Ordering::Relaxed) {
            let server = self.display_name.as_str();
            tracing::warn!(
                server,
                fsync,
                full_page_writes,
                "PostgreSQL can lose committed rows if its machine crashes: turn on fsync and full_page_writes"
            );
        } else if is_safe {
            self.warned.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Session settings: the server must not wait for a dead client, nor keep its locks.
    fn session(&self) -> String {
        let limit = self.statement_timeout.as_millis();
        format!(
            "SET statement_timeout = {limit}; SET lock_timeout = {limit};
             SET idle_in_transaction_session_timeout = {limit};
             SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3;
             SET client_min_messages = warning;
             SELECT pg_catalog.set_config('synchronous_commit', 'on', false)
             WHERE pg_catalog.current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')"
        )
    }
}

impl PostgresConnection {
    /// Runs one statement with text parameters; `action` is for errors, as in "can't …".
    pub(super) async fn query(
        &self,
        action: &str,
        sql: &str,
        parameters: &[TextParam<'_>],
    ) -> Result<Vec<Row>, TableError> {
        let query = self.client.query_typed(sql, parameters);
        self.step(action, self.statement_timeout, query).await
    }

    /// Like [`Self::query`], but `None` when a parameter is not a value of its type.
    pub(super) async fn query_unless_invalid(
        &self,
        action: &str,
        sql: &str,
        parameters: &[TextParam<'_>],
    ) -> Result<Option<Vec<Row>>, TableError> {
        let query = async {
            match self.client.query_typed(sql, parameters).await {
                Err(e) if is_data_error(&e) => Ok(None),
                other => other.map(Some),
            }
        };
        self.step(action, self.statement_timeout, query).await
    }

    /// Runs one statement in a transaction whose commit is durable when this returns, in one round
    /// trip.
    pub(super) async fn query_durably(
        &self,
        action: &str,
        sql: &str,
        parameters: &[TextParam<'_>],
    ) -> Result<(), TableError> {
        let begin = format!("BEGIN; {DURABLE}");
        let all = async {
            // A failed statement fails the transaction, and `COMMIT` rolls it back.
            let (begun, done, committed) = tokio::join!(
                biased;
                self.client.batch_execute(&begin),
                self.client.query_typed(sql, parameters),
                self.client.batch_execute("COMMIT"),
            );
            begun?;
            done?;
            committed
        };
        self.step(action, self.statement_timeout, all).await
    }

    /// Runs statements without parameters.
    pub(super) async fn execute(&self, action: &str, sql: &str) -> Result<(), TableError> {
        let run = self.client.batch_execute(sql);
        self.step(action, self.statement_timeout, run).await
    }

    /// Limits a step on the client side: an unresponsive server doesn't enforce its timeouts
    /// either.
    pub(super) async fn step<T>(
        &self,
        action: &str,
        limit: Duration,
        step: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, TableError> {
        // The server's own limit should apply first, as its message is more specific.
        let client_timeout = limit + Duration::from_secs(5);
        timeout(client_timeout, step)
            .await
            .map_err(|_| error::too_slow(&self.display_name, action, client_timeout))?
            .map_err(|e| error::from_postgres(&self.display_name, action, &e))
    }

    /// Whether the server responds.
    pub(super) async fn is_alive(&self, limit: Duration) -> bool {
        !self.client.is_closed()
            && matches!(
                timeout(limit, self.client.simple_query("")).await,
                Ok(Ok(_))
            )
    }
}

/// Host, port and database, for messages.
fn display_name(config: &tokio_postgres::Config) -> String {
    let ports = config.get_ports();
    let port = |i: usize| ports.get(i).or(ports.first()).copied().unwrap_or(5432);
    let mut hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(i, host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port(i)),
            Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    if hosts.is_empty() {
        hosts = config
            .get_hostaddrs()
            .iter()
            .map(ToString::to_string)
            .collect();
    }
    let database = config
        .get_dbname()
        .or(config.get_user())
        .unwrap_or_default();
    format!("PostgreSQL {}/{database}", hosts.join(","))
}

/// SQLSTATE class 22: a value is invalid for its type.
fn is_data_error(error: &tokio_postgres::Error) -> bool {
    let code = error.code().map(tokio_postgres::error::SqlState::code);
    code.is_some_and(|code| code.starts_with("22"))
}

type TextParam<'a> = (&'a (dyn ToSql + Sync), Type);

pub(super) fn text<T: ToSql + Sync>(value: &T) -> TextParam<'_> {
    (value, Type::TEXT)
}
