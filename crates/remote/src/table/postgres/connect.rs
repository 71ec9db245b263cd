//! Connections to the server.

use std::fmt;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use crate::table::TableError;
use crate::table::postgres::{PostgresConfig, SslMode, Text, config, error, tls};

/// A server, and all that it takes to connect to it.
pub(super) struct Server {
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
    place: String,
    connect_timeout: Duration,
    statement_timeout: Duration,
    import_timeout: Duration,
    ledger_schema: String,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.place).finish()
    }
}

/// One connection. Dropping it closes it, and the server undoes what was not committed.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    // Moves the bytes; without it the client does nothing.
    _driver: AbortOnDropHandle<()>,
    place: String,
    statement_timeout: Duration,
    pub(super) import_timeout: Duration,
    pub(super) ledger_schema: String,
}

impl Server {
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
            place: place(&parsed.config),
            config: parsed.config,
            tls,
            connect_timeout: config.connect_timeout,
            statement_timeout: config.statement_timeout,
            import_timeout: config.import_timeout,
            ledger_schema: config.ledger_schema.clone(),
        })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn ledger_schema(&self) -> &str {
        &self.ledger_schema
    }

    pub(super) async fn connect(&self) -> Result<Connection, TableError> {
        let connecting = self.config.connect(self.tls.clone());
        let (client, driver) = timeout(self.connect_timeout, connecting)
            .await
            .map_err(|_| error::too_slow(&self.place, "connect", self.connect_timeout))?
            .map_err(|e| error::from_postgres(&self.place, "connect", &e))?;
        if let Some(encoding) = driver.parameter("server_encoding")
            && encoding != "UTF8"
        {
            return Err(TableError::Terminal(format!(
                "{}: the database's encoding is {encoding}, Forebay needs UTF8",
                self.place
            )));
        }
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            // Whoever waits for an answer gets the error too.
            if let Err(e) = driver.await {
                tracing::debug!(error = %e, "a connection to PostgreSQL ended");
            }
        }));
        let connection = Connection {
            client,
            _driver: driver,
            place: self.place.clone(),
            statement_timeout: self.statement_timeout,
            import_timeout: self.import_timeout,
            ledger_schema: self.ledger_schema.clone(),
        };
        connection.execute("connect", &self.session()).await?;
        Ok(connection)
    }

    /// What a session needs: a server that does not wait for a client that is gone, locks included.
    fn session(&self) -> String {
        let limit = self.statement_timeout.as_millis();
        format!(
            "SET statement_timeout = {limit}; SET lock_timeout = {limit};
             SET idle_in_transaction_session_timeout = {limit};
             SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3;
             SET client_min_messages = warning"
        )
    }
}

impl Connection {
    /// Runs one statement with text parameters; `action` is for errors, as in "can't …".
    pub(super) async fn query(
        &self,
        action: &str,
        sql: &str,
        parameters: &[Text<'_>],
    ) -> Result<Vec<Row>, TableError> {
        let query = self.client.query_typed(sql, parameters);
        self.step(action, self.statement_timeout, query).await
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
        let patience = limit + Duration::from_secs(5);
        timeout(patience, step)
            .await
            .map_err(|_| error::too_slow(&self.place, action, patience))?
            .map_err(|e| error::from_postgres(&self.place, action, &e))
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
fn place(config: &tokio_postgres::Config) -> String {
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
