//! The HTTP source: `POST /stream/{projectId}/{sourceId}/{secret}` on its own listener.

mod body;
mod body_declaration;
mod client;
mod config;
mod cors;
mod handshake;
mod large_request;
mod meters;
mod query;
mod receive;
mod received_body;
mod receiver;
mod reject;
mod report;
mod response;
mod signature;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
pub use forebay_listener::{BindError, ReloadableTls, TlsConfig, TlsError};
use forebay_listener::{HttpService, Listener, ListenerOptions, LoadedTls};
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

pub use client::{ForwardedHeader, InvalidNetwork, IpNetwork};
pub use config::HttpSourceConfig;
use meters::HttpSourceMeters;
pub use receiver::HttpSourceDeps;
use receiver::RequestReceiver;
use response::SourceResponse;

use crate::quota::ConnectionPermit;

impl HttpService for RequestReceiver {
    type Body = Full<Bytes>;
    type Connection = ConnectionPermit;

    async fn respond(
        &self,
        peer: SocketAddr,
        connection_permit: &ConnectionPermit,
        request: Request<Incoming>,
    ) -> SourceResponse {
        self.receive(peer.ip(), connection_permit, request).await
    }

    fn error_prefix(&self) -> &'static str {
        "stream.in."
    }

    fn body(bytes: Bytes) -> Full<Bytes> {
        Full::new(bytes)
    }

    fn rejected(&self, status: StatusCode) {
        self.meters.request(status.as_u16());
    }
}

/// A running HTTP source.
#[derive(Debug)]
pub struct HttpSourceServer {
    address: SocketAddr,
    tls: Option<Arc<ReloadableTls>>,
    listener: Listener,
}

impl HttpSourceServer {
    /// Opens the listener; requests are served from now on. To be called within a tokio runtime.
    ///
    /// # Errors
    /// When the address is in use or the TLS files are not usable.
    pub async fn bind(config: HttpSourceConfig, deps: HttpSourceDeps) -> Result<Self, BindError> {
        let tls = config.tls.as_ref().map(LoadedTls::read).transpose()?;
        let tls = tls.map(ReloadableTls::new);
        let (socket, address) = forebay_listener::bind(config.listen).await?;
        let proxies = config.trusted_proxies.clone();
        let is_proxy = move |client: IpAddr| proxies.iter().any(|n| n.contains(client));
        let meters = HttpSourceMeters::new();
        let options = ListenerOptions {
            limits: config.limits(),
            tls: tls.clone(),
            exempt: Some(Arc::new(is_proxy)),
            has_date: false,
            metrics: meters.listener(),
        };
        let receiver = RequestReceiver {
            config,
            deps,
            meters,
        };
        let listener = Listener::start(socket, options, receiver);
        Ok(Self {
            address,
            tls,
            listener,
        })
    }

    /// TLS of the listener, if it has any; the certificate can be replaced.
    pub fn tls(&self) -> Option<Arc<ReloadableTls>> {
        self.tls.clone()
    }

    /// Checks whether [`Self::bind`] would succeed, without accepting connections.
    pub async fn probe(config: &HttpSourceConfig) -> Result<(), BindError> {
        config.tls.as_ref().map(LoadedTls::read).transpose()?;
        forebay_listener::bind(config.listen).await?;
        Ok(())
    }

    /// Address of the listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more connections, lets requests in progress finish for at most `grace`, and
    /// closes the rest. Returns whether all finished. Afterwards the pipelines can be drained.
    pub async fn stop(self, grace: Duration) -> bool {
        self.listener.stop(grace).await
    }
}
