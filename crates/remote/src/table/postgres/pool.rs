//! A few connections, kept open between calls.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::table::TableError;
use crate::table::postgres::connect::{Connection, Server};

/// How long a connection that was idle may take to show that it is alive.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections to one server.
#[derive(Debug)]
pub(super) struct Pool {
    server: Arc<Server>,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

/// A connection that nobody else uses. It is closed when it is dropped, as something may be under
/// way on it, unless it is given back.
#[derive(Debug)]
pub(super) struct Pooled {
    connection: Connection,
    idle: Arc<Mutex<Vec<Connection>>>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(server: Arc<Server>, size: usize) -> Self {
        Self {
            server,
            permits: Arc::new(Semaphore::new(size.max(1))),
            idle: Arc::default(),
        }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// One that is alive: an idle one that answers, or a new one.
    pub(super) async fn take(&self) -> Result<Pooled, TableError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| {
            TableError::Retryable(format!("{}: the pool is closed", self.server.place()))
        })?;
        let connection = loop {
            match self.pop() {
                None => break self.server.connect().await?,
                Some(idle) if idle.is_alive(PROBE_TIMEOUT).await => break idle,
                Some(dead) => drop(dead),
            }
        };
        Ok(Pooled {
            connection,
            idle: Arc::clone(&self.idle),
            _permit: permit,
        })
    }

    fn pop(&self) -> Option<Connection> {
        // A panic elsewhere can't leave a list of connections half changed.
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.pop()
    }
}

impl Pooled {
    /// Keeps the connection for the next one; nothing may be under way on it.
    pub(super) fn give_back(self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(self.connection);
    }
}

impl Deref for Pooled {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}
