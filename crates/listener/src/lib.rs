//! Connections of an HTTP listener: each port of the process is served here, with the same limits.
//!
//! A listener knows connections, TLS and the framing of HTTP, and nothing of what is served: that is
//! a [`HttpService`]. What bounds it is in [`ListenerLimits`]: connections, time for a request's headers, time
//! without a request, bytes read ahead, streams of an HTTP/2 connection, and bytes of responses that
//! clients have not read. What a client sees at each limit is in `docs/reference/limits.md`.

mod activity;
mod client_counter;
mod connection;
mod limits;
mod listener;
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
pub use listener::{BindError, Listener, ListenerMetrics, ListenerOptions, bind, rejections_max};
pub use rejection::ListenerRejection;
#[cfg(feature = "router")]
pub use router::RouterService;
pub use tls::{LoadedTls, ReloadableTls, TlsConfig, TlsError};

/// An error of a body.
pub type ResponseBodyError = Box<dyn std::error::Error + Send + Sync>;

/// What a listener serves.
pub trait HttpService: Send + Sync + 'static {
    /// Body of a response.
    type Body: Body<Data = Bytes, Error: Into<ResponseBodyError>> + Send + Unpin + 'static;
    /// What the requests of one connection share.
    type Connection: Default + Send + Sync + 'static;
    /// Answers a request. Never fails: whatever is wrong is in the response.
    fn respond(
        &self,
        peer: SocketAddr,
        connection: &Self::Connection,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// What the names of errors begin with, like `stream.api.`; may be empty.
    fn error_prefix(&self) -> &'static str;

    /// A body of these bytes.
    fn body(bytes: Bytes) -> Self::Body;

    /// The listener has rejected a request by itself, with this status.
    fn rejected(&self, _status: StatusCode) {}
}
