//! Connections to the server.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use crate::table::TableError;
use crate::table::postgres::{PostgresConfig, SslMode, TextParam, config, error, tls};

/// Within a transaction: its commit is on the server's disk when the server says so, whatever the
/// database, the role or a pooler's session has set. `remote_apply` promises more and stays.
pub(super) const DURABLE: &str = "SELECT pg_catalog.set_config('synchronous_commit', 'on', true)
    WHERE pg_catalog.current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')";

/// A server, and all that it takes to connect to it.
pub(super) struct PostgresServer {
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
    display_name: String,
    connect_timeout: Duration,
    statement_timeout: Duration,
    import_timeout: Duration,
    ledger_schema: String,
    /// It was said that the server does not keep what it confirms.
    warned: AtomicBool,
}

impl fmt::Debug for PostgresServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.display_name).finish()
    }
}

/// One connection. Dropping it closes it, and the server undoes what was not committed.
#[derive(Debug)]
pub(super) struct PostgresConnection {
    pub(super) client: Client,
    // Moves the bytes; without it the client does nothing.
    _driver: AbortOnDropHandle<()>,
    display_name: String,
    statement_timeout: Duration,
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
        // A peer that is gone without a word is noticed within a minute.
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
            // Whoever waits for an answer gets the error too.
            if let Err(e) = driver.await {
                tracing::debug!(error = %e, "a connection to PostgreSQL ended");
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

    /// Says once if the server loses what it has confirmed when its machine crashes: no client can
    /// change that.
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
                "the PostgreSQL server can lose rows that it has confirmed when its machine crashes: turn fsync and full_page_writes on"
            );
        } else if is_safe {
            self.warned.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What a session needs: a server that does not wait for a client that is gone, locks included.
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

    /// The same, where a parameter may be none of its type: nothing then.
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

    /// Runs one statement in a transaction whose commit is on disk when this returns. All of it
    /// travels at once.
    pub(super) async fn query_durably(
        &self,
        action: &str,
        sql: &str,
        parameters: &[TextParam<'_>],
    ) -> Result<(), TableError> {
        let begin = format!("BEGIN; {DURABLE}");
        let all = async {
            // A statement that fails fails the transaction, and `COMMIT` rolls that back.
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

    /// Waits for a step with a limit of our own: a server that does not answer does not obey its
    /// timeouts either.
    pub(super) async fn step<T>(
        &self,
        action: &str,
        limit: Duration,
        step: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, TableError> {
        // The server's own limit should strike first, as its message says more.
        let client_timeout = limit + Duration::from_secs(5);
        timeout(client_timeout, step)
            .await
            .map_err(|_| error::too_slow(&self.display_name, action, client_timeout))?
            .map_err(|e| error::from_postgres(&self.display_name, action, &e))
    }

    /// Whether it still answers.
    pub(super) async fn is_alive(&self, limit: Duration) -> bool {
        !self.client.is_closed()
            && matches!(
                timeout(limit, self.client.simple_query("")).await,
                Ok(Ok(_))
            )
    }
}

/// Host, port and database, for people.
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

/// SQLSTATE class 22: what the server was given is no value of its type.
fn is_data_error(error: &tokio_postgres::Error) -> bool {
    let code = error.code().map(tokio_postgres::error::SqlState::code);
    code.is_some_and(|code| code.starts_with("22"))
}
