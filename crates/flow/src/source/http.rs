//! The HTTP source: `POST /stream/{projectId}/{sourceId}/{secret}` on its own listener.

mod activity;
mod answer;
mod body;
mod client;
mod clients;
mod config;
mod connection;
mod large;
mod listener;
mod meters;
mod receive;
mod refuse;
mod report;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forebay_model::Clock;

pub use client::{InvalidNetwork, Network};
pub use config::{HttpSourceConfig, TlsConfig};
use listener::Listener;
pub use tls::TlsError;

use crate::budget::Budget;
use crate::dispatch::Dispatcher;

/// What the source needs.
#[derive(Clone, Debug)]
pub struct Deps {
    /// Where records go.
    pub dispatcher: Arc<Dispatcher>,
    /// What bounds the bytes in flight; the pipelines' own.
    pub budget: Arc<Budget>,
    /// Time of receipt.
    pub clock: Arc<dyn Clock>,
}

/// Why the source can't start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address can't be listened on.
    #[error("can't listen on {address}: {cause}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// What the operating system says.
        cause: std::io::Error,
    },
    /// TLS is configured, but can't be offered.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A source that is open for requests.
#[derive(Debug)]
pub struct HttpSource {
    address: SocketAddr,
    listener: Listener,
}

impl HttpSource {
    /// Opens the listener; requests are answered from now on. To be called within a tokio runtime.
    ///
    /// # Errors
    /// When the address is in use or the TLS files are not usable.
    pub async fn bind(config: HttpSourceConfig, deps: Deps) -> Result<Self, BindError> {
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let listen = config.listen;
        let failed = |cause| BindError::Listen {
            address: listen,
            cause,
        };
        let socket = tokio::net::TcpListener::bind(listen)
            .await
            .map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let listener = Listener::start(socket, tls, config, deps);
        Ok(Self { address, listener })
    }

    /// Tries what [`Self::bind`] would need, and takes nothing.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub async fn probe(config: &HttpSourceConfig) -> Result<(), BindError> {
        config.tls.as_ref().map(tls::acceptor).transpose()?;
        let address = config.listen;
        match tokio::net::TcpListener::bind(address).await {
            Ok(_) => Ok(()),
            Err(cause) => Err(BindError::Listen { address, cause }),
        }
    }

    /// The address that is listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets requests under way finish for at most `grace`, and closes
    /// the rest. Returns whether all finished. Afterwards the pipelines can be drained.
    pub async fn stop(self, grace: Duration) -> bool {
        self.listener.stop(grace).await
    }
}
