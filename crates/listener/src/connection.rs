//! One connection: requests one after the other (HTTP/1.1) or side by side (HTTP/2), and an eye on
//! clients that take too long.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;

use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use super::HttpSourceConfig;
use super::activity::{Activity, Patience, Watched};
use super::receive::Receiver;
use crate::quota::Seat;

/// Smallest buffer that the HTTP library takes.
const BUFFER_MIN: u64 = 8 << 10;
/// Requests of one HTTP/2 connection at a time.
const STREAMS_MAX: u32 = 250;

/// What all connections of a listener share.
pub(super) struct Shared {
    pub(super) receiver: Receiver,
    tls: Option<TlsAcceptor>,
    builder: Builder<TokioExecutor>,
    patience: Patience,
}

impl Shared {
    pub(super) fn new(receiver: Receiver, tls: Option<TlsAcceptor>) -> Arc<Self> {
        Arc::new(Self {
            builder: builder(&receiver.config),
            patience: Patience {
                head: receiver.config.header_read_timeout.0,
                idle: receiver.config.idle_timeout.0,
            },
            receiver,
            tls,
        })
    }

    pub(super) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }
}

fn builder(config: &HttpSourceConfig) -> Builder<TokioExecutor> {
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let head_max = config.max_header_size.0;
    // The exact limit of headers is looked at with the request; this bounds what is buffered.
    let read_ahead = config.read_buffer_size.0.max(head_max * 2).max(BUFFER_MIN);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        // Slow clients are looked after for both versions alike, see `activity`.
        .header_read_timeout(None)
        .auto_date_header(false)
        .max_buf_size(size(read_ahead));
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(small(head_max.saturating_mul(2)))
        .max_send_buf_size(size(config.write_buffer_size.0))
        .initial_stream_window_size(small(config.read_buffer_size.0))
        .initial_connection_window_size(small(config.read_buffer_size.0.saturating_mul(4)));
    builder
}

/// Serves a connection until it ends.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    stopped: oneshot::Receiver<()>,
) {
    // Answers are written whole; waiting for more would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no delay can't be switched off");
    }
    let peer = peer.ip().to_canonical();
    match &shared.tls {
        None => talk(&shared, TokioIo::new(stream), peer, stopped).await,
        Some(tls) => match timeout(shared.patience.head, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                Box::pin(talk(&shared, TokioIo::new(stream), peer, stopped)).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, %peer, "TLS was not agreed upon"),
            Err(_) => tracing::debug!(%peer, "TLS was not agreed upon in time"),
        },
    }
}

async fn talk<S>(shared: &Arc<Shared>, io: S, peer: IpAddr, stopped: oneshot::Receiver<()>)
where
    S: Read + Write + Unpin + Send + 'static,
{
    let activity = Activity::new();
    let seat = Arc::new(Seat::default());
    let io = Watched::new(io, Arc::clone(&activity));
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let in_request = activity.request(request.version() == http::Version::HTTP_2);
        let (shared, seat) = (Arc::clone(shared), Arc::clone(&seat));
        async move {
            let answer = shared.receiver.receive(peer, &seat, request).await;
            drop(in_request);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut talk = pin!(shared.builder.serve_connection(io, service));
    let first_look = activity.next_look(shared.patience);
    let mut look = pin!(sleep_until(first_look.unwrap_or_else(Instant::now)));
    let mut stopped = pin!(stopped);
    let (mut finishing, mut given_up) = (false, false);
    loop {
        tokio::select! {
            biased;
            ended = &mut talk => {
                if let Err(error) = ended {
                    tracing::debug!(%error, %peer, "a connection ended");
                }
                return;
            }
            _ = &mut stopped, if !finishing => {
                finishing = true;
                talk.as_mut().graceful_shutdown();
            }
            () = &mut look => match activity.next_look(shared.patience) {
                Some(next) => look.as_mut().reset(next),
                None if given_up => return,
                None => {
                    // Said politely once: HTTP/2 tells the client, an idle HTTP/1.1 closes.
                    (given_up, finishing) = (true, true);
                    talk.as_mut().graceful_shutdown();
                    look.as_mut().reset(Instant::now() + shared.patience.head.min(CLOSE_TIME));
                }
            },
        }
    }
}

/// How long a client that was idle for too long has to close its side.
const CLOSE_TIME: std::time::Duration = std::time::Duration::from_secs(1);
