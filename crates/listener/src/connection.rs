//! One connection: requests in sequence (HTTP/1.1) or concurrently (HTTP/2), with timeouts for slow
//! clients.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderMap, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use crate::activity::{ConnectionActivity, ConnectionTimeouts, WatchedStream};
use crate::rejection::{ListenerRejection, check_request};
use crate::tls::ReloadableTls;
use crate::unread_limiter::{LimitedBody, PRESSURE_AGE, UnreadLimiter};
use crate::{HttpService, ListenerLimits, ListenerOptions};

/// How long an idle client has to close its side after a graceful shutdown.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// Shared by all connections of a listener.
pub(super) struct ListenerContext<S> {
    service: S,
    tls: Option<Arc<ReloadableTls>>,
    builder: Builder<TokioExecutor>,
    timeouts: ConnectionTimeouts,
    unread: UnreadLimiter,
}

impl<S: HttpService> ListenerContext<S> {
    pub(super) fn error_prefix(&self) -> &'static str {
        self.service.error_prefix()
    }

    pub(super) fn new(service: S, options: ListenerOptions) -> Arc<Self> {
        let limits = &options.limits;
        Arc::new(Self {
            builder: builder(limits, options.has_date),
            timeouts: ConnectionTimeouts {
                head: limits.header_read_timeout.0,
                idle: limits.idle_timeout.0,
                write: limits.write_timeout.0,
            },
            unread: UnreadLimiter::new(limits.max_unread_bytes.0),
            tls: options.tls,
            service,
        })
    }

    pub(super) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Handles a request; the response counts towards the listener's unread limit.
    async fn respond(
        &self,
        peer: SocketAddr,
        connection: &S::Connection,
        activity: &Arc<ConnectionActivity>,
        request: Request<Incoming>,
    ) -> Response<LimitedBody<S::Body>> {
        let is_http2 = request.version() == Version::HTTP_2;
        let response = match check_request(&request) {
            None => self.service.respond(peer, connection, request).await,
            Some(rejection) => self.reject(&rejection),
        };
        let mut response = self.track_unread(activity, response);
        let headers = response.headers_mut();
        if !headers.contains_key(X_CONTENT_TYPE_OPTIONS) {
            let nosniff = HeaderValue::from_static("nosniff");
            headers.insert(X_CONTENT_TYPE_OPTIONS, nosniff);
        }
        if !is_http2 && closes(headers) {
            activity.set_lingering();
        }
        response
    }

    fn reject(&self, rejection: &ListenerRejection) -> Response<S::Body> {
        self.service.rejected(rejection.status());
        rejection.response(&self.service)
    }

    fn track_unread(
        &self,
        activity: &Arc<ConnectionActivity>,
        response: Response<S::Body>,
    ) -> Response<LimitedBody<S::Body>> {
        let (parts, body) = response.into_parts();
        if let Ok(body) = self.unread.limit_body(activity, body) {
            return Response::from_parts(parts, body);
        }
        let response = self.reject(&ListenerRejection::TooManyUnread);
        response.map(LimitedBody::unlimited)
    }
}

fn closes(headers: &HeaderMap) -> bool {
    headers
        .get(CONNECTION)
        .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"close"))
}

fn builder(limits: &ListenerLimits, has_date: bool) -> Builder<TokioExecutor> {
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let window = limits.read_buffer_size.0;
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        // `activity` handles slow clients for both versions.
        .header_read_timeout(None)
        .auto_date_header(has_date)
        .max_buf_size(size(limits.read_ahead()));
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(has_date)
        .max_concurrent_streams(small(limits.max_streams_per_connection as u64))
        .max_header_list_size(small(limits.max_header_size.0.saturating_mul(2)))
        .max_send_buf_size(size(limits.write_buffer_size.0))
        .initial_stream_window_size(small(window))
        .initial_connection_window_size(small(window.saturating_mul(4)));
    builder
}

pub(super) async fn serve<S: HttpService>(
    shared: Arc<ListenerContext<S>>,
    stream: TcpStream,
    peer: SocketAddr,
    stopped: oneshot::Receiver<()>,
) {
    // Responses are written whole; waiting for more would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "can't set TCP_NODELAY");
    }
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    match &shared.tls {
        None => serve_stream(&shared, TokioIo::new(stream), peer, stopped).await,
        Some(tls) => match timeout(shared.timeouts.head, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => {
                Box::pin(serve_stream(&shared, TokioIo::new(stream), peer, stopped)).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, %peer, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
        },
    }
}

async fn serve_stream<S, T>(
    shared: &Arc<ListenerContext<S>>,
    io: T,
    peer: SocketAddr,
    stopped: oneshot::Receiver<()>,
) where
    S: HttpService,
    T: Read + Write + Unpin + Send + 'static,
{
    let activity = ConnectionActivity::new();
    let connection = Arc::new(S::Connection::default());
    let io = WatchedStream::new(io, Arc::clone(&activity));
    let service = service_fn(|request: Request<Incoming>| {
        let guard = activity.begin_request(request.version() == Version::HTTP_2);
        let (shared, connection) = (Arc::clone(shared), Arc::clone(&connection));
        async move {
            let activity = guard.activity();
            let response = shared.respond(peer, &connection, activity, request).await;
            drop(guard);
            Ok::<_, Infallible>(response)
        }
    });
    let mut serving = pin!(shared.builder.serve_connection(io, service));
    let first_check = activity.next_check(shared.timeouts);
    let mut check = pin!(sleep_until(first_check.unwrap_or_else(Instant::now)));
    let mut stopped = pin!(stopped);
    let (mut finishing, mut timed_out) = (false, false);
    loop {
        tokio::select! {
            biased;
            ended = &mut serving => {
                if let Err(error) = ended {
                    tracing::debug!(%error, %peer, "connection failed");
                }
                return;
            }
            _ = &mut stopped, if !finishing => {
                finishing = true;
                serving.as_mut().graceful_shutdown();
            }
            () = shared.unread.pressed() => {
                if activity.has_waited_for(PRESSURE_AGE) {
                    tracing::debug!(%peer, "connection closed: client does not read its responses and the unread limit is reached");
                    return;
                }
            }
            () = &mut check => match activity.next_check(shared.timeouts) {
                Some(next) => check.as_mut().reset(next),
                None if timed_out => return,
                None if activity.has_waited_for(shared.timeouts.write) => {
                    tracing::debug!(%peer, "connection closed: client does not read its responses");
                    return;
                }
                None => {
                    // One graceful attempt: HTTP/2 notifies the client, an idle HTTP/1.1 connection
                    // closes.
                    (timed_out, finishing) = (true, true);
                    serving.as_mut().graceful_shutdown();
                    check.as_mut().reset(Instant::now() + shared.timeouts.head.min(CLOSE_TIME));
                }
            },
        }
    }
}
