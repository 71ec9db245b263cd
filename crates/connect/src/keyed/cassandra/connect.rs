//! Connection to a cluster.

use std::sync::Arc;
use std::time::Duration;

use scylla::client::caching_session::CachingSession;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::timestamp_generator::MonotonicTimestampGenerator;
use scylla::statement::Consistency;
use secrecy::{ExposeSecret, SecretString};

use crate::table::TableError;
use crate::tls::{ServerVerification, client_config};

/// Cached prepared statements.
const STATEMENTS: usize = 64;

#[derive(Clone, Debug)]
pub struct CassandraConfig {
    /// Contact points, `host:port`; other nodes are discovered.
    pub nodes: Vec<String>,
    /// User and password, if the cluster requires them.
    pub login: Option<(String, SecretString)>,
    /// `None`: connections are not encrypted.
    pub tls: Option<CassandraTls>,
    /// Replicas of each row, when the keyspace is created.
    pub replication: u32,
    /// Rows of a batch written concurrently.
    pub in_flight: usize,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct CassandraTls {
    /// Checks of a node's certificate. Nodes are reached by IP address, so
    /// [`ServerVerification::Full`] needs certificates with those addresses.
    pub verify: ServerVerification,
    /// CA certificates (PEM) that replace the system's.
    pub ca_pem: Option<Vec<u8>>,
}

impl CassandraConfig {
    /// A cluster with default settings.
    pub fn new(nodes: Vec<String>) -> Self {
        Self {
            nodes,
            login: None,
            tls: None,
            replication: 1,
            in_flight: 64,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
        }
    }
}

/// Connects; `display_name` is the cluster in error texts.
pub(super) async fn connect(
    config: &CassandraConfig,
    display_name: &str,
) -> Result<Arc<CachingSession>, TableError> {
    let profile = ExecutionProfile::builder()
        .request_timeout(Some(config.request_timeout))
        // Writes and reads need a majority of a row's replicas.
        .consistency(Consistency::LocalQuorum)
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.nodes)
        .connection_timeout(config.connect_timeout)
        // Of two writes of a key the later one wins, whichever nodes they reach.
        .timestamp_generator(Arc::new(MonotonicTimestampGenerator::new()))
        .default_execution_profile_handle(profile.into_handle());
    if let Some((user, password)) = &config.login {
        builder = builder.user(user, password.expose_secret());
    }
    if let Some(tls) = &config.tls {
        let tls = client_config(tls.verify, tls.ca_pem.as_deref())
            .map_err(|e| TableError::Terminal(format!("{display_name}: {e}")))?;
        builder = builder.tls_context(Some(Arc::new(tls)));
    }
    let made = builder.build().await.map_err(|e| {
        let text = format!("{display_name}: can't connect: {e}");
        // A rejected login or certificate fails again.
        let permanent = ["uthentication", "credentials", "certificate"];
        if permanent.iter().any(|word| text.contains(word)) {
            TableError::Terminal(text)
        } else {
            TableError::Retryable(text)
        }
    })?;
    Ok(Arc::new(CachingSession::from(made, STATEMENTS)))
}
