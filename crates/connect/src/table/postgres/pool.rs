//! Pool of connections.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::table::TableError;
use crate::table::postgres::connect::{PostgresConnection, PostgresServer};

/// Limit of the liveness check of an idle connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections to one server.
#[derive(Debug)]
pub(super) struct ConnectionPool {
    server: Arc<PostgresServer>,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<PostgresConnection>>>,
}

/// A connection in exclusive use. Dropping it closes it, as a statement may be in progress, unless
/// it is released.
#[derive(Debug)]
pub(super) struct PooledConnection {
    connection: PostgresConnection,
    idle: Arc<Mutex<Vec<PostgresConnection>>>,
    _permit: OwnedSemaphorePermit,
}

impl ConnectionPool {
    pub(super) fn new(server: Arc<PostgresServer>, size: usize) -> Self {
        Self {
            server,
            permits: Arc::new(Semaphore::new(size.max(1))),
            idle: Arc::default(),
        }
    }

    pub(super) fn server(&self) -> &PostgresServer {
        &self.server
    }

    /// A live connection: an idle one that responds, or a new one.
    pub(super) async fn acquire(&self) -> Result<PooledConnection, TableError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| {
            TableError::Retryable(format!(
                "{}: the pool is closed",
                self.server.display_name()
            ))
        })?;
        let connection = loop {
            match self.pop() {
                None => break self.server.connect().await?,
                Some(idle) if idle.is_alive(PROBE_TIMEOUT).await => break idle,
                Some(dead) => drop(dead),
            }
        };
        Ok(PooledConnection {
            connection,
            idle: Arc::clone(&self.idle),
            _permit: permit,
        })
    }

    fn pop(&self) -> Option<PostgresConnection> {
        // A panic elsewhere can't leave the list inconsistent.
        let mut idle = self.idle.lock();
        idle.pop()
    }
}

impl PooledConnection {
    /// Returns the connection to the pool; no statement may be in progress.
    pub(super) fn release(self) {
        let mut idle = self.idle.lock();
        idle.push(self.connection);
    }
}

impl Deref for PooledConnection {
    type Target = PostgresConnection;

    fn deref(&self) -> &PostgresConnection {
        &self.connection
    }
}

impl DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut PostgresConnection {
        &mut self.connection
    }
}
