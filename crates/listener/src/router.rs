//! An axum router as the service of a listener.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use forebay_model::ByteSize;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tower_service::Service as _;

use crate::rejection::{ListenerRejection, head_size};
use crate::{HttpService, ListenerLimits};

/// Serves a router; handlers get the peer's address as `ConnectInfo<SocketAddr>`.
#[derive(Clone, Debug)]
pub struct RouterService {
    router: Router,
    max_header_size: ByteSize,
    error_prefix: &'static str,
}

impl RouterService {
    /// Creates the service for a listener with these limits. The listener's own error names start
    /// with `error_prefix`, like those of the router's handlers.
    pub fn new(router: Router, error_prefix: &'static str, limits: &ListenerLimits) -> Self {
        Self {
            router,
            error_prefix,
            max_header_size: limits.max_header_size,
        }
    }
}

impl HttpService for RouterService {
    type Body = axum::body::Body;
    type Connection = ();

    async fn respond(
        &self,
        peer: SocketAddr,
        (): &(),
        request: Request<Incoming>,
    ) -> Response<Self::Body> {
        if head_size(&request) > self.max_header_size.0 {
            return ListenerRejection::HeaderTooLarge(self.max_header_size).response(self);
        }
        let is_http2 = request.version() == Version::HTTP_2;
        let is_read = Arc::new(AtomicBool::new(request.body().is_end_stream()));
        let mut request = request.map(|inner| {
            let is_read = Arc::clone(&is_read);
            axum::body::Body::new(RequestBody { inner, is_read })
        });
        request.extensions_mut().insert(ConnectInfo(peer));
        let responded = self.router.clone().call(request).await;
        let mut response = responded.unwrap_or_else(|never| match never {});
        // Unread bytes of the request would be parsed as the next one.
        if !is_http2 && !is_read.load(Relaxed) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }

    fn error_prefix(&self) -> &'static str {
        self.error_prefix
    }

    fn body(bytes: Bytes) -> Self::Body {
        axum::body::Body::from(bytes)
    }
}

/// A request body that records whether it was read to its end.
#[derive(Debug)]
struct RequestBody {
    inner: Incoming,
    is_read: Arc<AtomicBool>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) || self.inner.is_end_stream() {
            self.is_read.store(true, Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
