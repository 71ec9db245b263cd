//! How a cluster is reached.

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

/// Statements that are kept prepared.
const STATEMENTS: usize = 64;

/// A Cassandra cluster.
#[derive(Clone, Debug)]
pub struct CassandraConfig {
    /// Nodes to begin with, `host:port`; the others are found.
    pub nodes: Vec<String>,
    /// User and password, where the cluster asks for them.
    pub login: Option<(String, SecretString)>,
    /// Without it, connections are not encrypted.
    pub tls: Option<CassandraTls>,
    /// Copies of each row, when a keyspace has to be made.
    pub replication: u32,
    /// Rows of a batch that are written at once.
    pub in_flight: usize,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long a statement may take.
    pub request_timeout: Duration,
}

/// Encrypted connections.
#[derive(Clone, Debug, Default)]
pub struct CassandraTls {
    /// What of a node's certificate is checked. Nodes are reached by their addresses, so `VolumeFull`
    /// needs certificates that name those.
    pub verify: ServerVerification,
    /// Certificates (PEM) that take the place of the system's.
    pub ca_pem: Option<Vec<u8>>,
}

impl CassandraConfig {
    /// A cluster, with defaults.
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

/// Connects; `place` is the cluster in words.
pub(super) async fn connect(
    config: &CassandraConfig,
    display_name: &str,
) -> Result<Arc<CachingSession>, TableError> {
    let profile = ExecutionProfile::builder()
        .request_timeout(Some(config.request_timeout))
        // A majority of a row's copies has it when a write is confirmed, and is asked for it.
        .consistency(Consistency::LocalQuorum)
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.nodes)
        .connection_timeout(config.connect_timeout)
        // Of two writes of a key the later one stays, whichever nodes take them.
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
        // A login or a certificate that is refused stays so.
        let stays = ["uthentication", "credentials", "certificate"];
        if stays.iter().any(|word| text.contains(word)) {
            TableError::Terminal(text)
        } else {
            TableError::Retryable(text)
        }
    })?;
    Ok(Arc::new(CachingSession::from(made, STATEMENTS)))
}
