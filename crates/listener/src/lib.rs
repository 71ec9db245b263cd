//! HTTP listeners: every port of the process is served here, with the same limits.
//!
//! A listener handles connections, TLS and HTTP framing; requests go to an [`HttpService`].
//! [`ListenerLimits`] bounds connections, the time for a request's headers, idle time, bytes read
//! ahead, streams of an HTTP/2 connection, and unread bytes of responses. The behavior at each
//! limit is described in `docs/reference/limits.md`.

mod activity;
mod client_counter;
mod connection;
mod limits;
mod listener;
mod options;
mod rejection;
#[cfg(feature = "router")]
mod router;
mod tls;
mod unread_limiter;

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Incoming};

pub use client_counter::ExemptClients;
pub use limits::ListenerLimits;
pub use listener::{BindError, Listener, bind, rejections_max};
pub use options::ListenerMetrics;
pub use options::ListenerOptions;
pub use rejection::{ListenerRejection, head_size};
#[cfg(feature = "router")]
pub use router::RouterService;
pub use tls::{LoadedTls, ReloadableTls, TlsConfig, TlsError};

pub type ResponseBodyError = Box<dyn std::error::Error + Send + Sync>;

/// The service behind a listener.
pub trait HttpService: Send + Sync + 'static {
    type Body: Body<Data = Bytes, Error: Into<ResponseBodyError>> + Send + Unpin + 'static;
    /// State shared by the requests of one connection.
    type Connection: Default + Send + Sync + 'static;
    /// Handles a request. Infallible: errors are responses.
    fn respond(
        &self,
        peer: SocketAddr,
        connection: &Self::Connection,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Prefix of error names, like `stream.api.`; may be empty.
    fn error_prefix(&self) -> &'static str;

    /// Creates a response body.
    fn body(bytes: Bytes) -> Self::Body;

    /// Called after the listener itself has rejected a request with this status.
    fn rejected(&self, _status: StatusCode) {}
}
