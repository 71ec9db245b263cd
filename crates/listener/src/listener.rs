//! Takes connections, and lets go of them when the listener is stopped.

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::client_counter::{ClientCounter, ExemptClients};
use crate::connection::{self, ListenerContext};
use crate::tls::{ReloadableTls, TlsError};
use crate::{HttpService, ListenerLimits};

/// Pause after the operating system has no more descriptors or memory for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// How long such a client may take to read it.
const REJECTION_TIME: Duration = Duration::from_secs(1);

/// The answer to a client that finds no room, in the form that errors have everywhere.
fn too_many_connections(error_prefix: &str) -> String {
    let body = format!(
        "{{\n  \"statusCode\": 503,\n  \"error\": \"{error_prefix}tooManyConnections\",\n  \
         \"message\": \"Too many connections; connect again later.\"\n}}\n"
    );
    let length = body.len();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nServer: Forebay\r\nContent-Type: application/json\r\n\
         Retry-After: 1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// An address that can't be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address can't be listened on.
    #[error("can't listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        cause: std::io::Error,
    },
    /// TLS is configured, but can't be offered.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// How many clients are told at a time that there are too many; further ones are closed without a
/// response. Each of them takes a descriptor, as a connection does.
#[must_use]
pub fn rejections_max(max_connections: usize) -> usize {
    (max_connections / 8).clamp(16, 256)
}

/// Opens a port; connections are taken once there is a [`Listener`].
///
/// # Errors
/// When the address can't be listened on.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let failed = |cause| BindError::Listen { address, cause };
    let socket = TcpListener::bind(address).await.map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    Ok((socket, bound))
}

/// What a listener counts.
#[derive(Clone)]
pub struct ListenerMetrics {
    /// Open connections.
    pub connections: metrics::Gauge,
    /// Connections refused because there were too many.
    pub rejected: metrics::Counter,
}

impl fmt::Debug for ListenerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meters")
    }
}

/// How a listener serves.
pub struct ListenerOptions {
    /// What bounds it.
    pub limits: ListenerLimits,
    /// The certificate; without one it speaks plain HTTP.
    pub tls: Option<Arc<ReloadableTls>>,
    /// Clients whose connections `max_connections_per_client` does not count.
    pub exempt: Option<ExemptClients>,
    /// Responses have a `Date`.
    pub has_date: bool,
    /// What it counts.
    pub metrics: ListenerMetrics,
}

impl fmt::Debug for ListenerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("limits", &self.limits)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// The task that takes connections.
#[derive(Debug)]
pub struct Listener {
    stop: CancellationToken,
    abort: CancellationToken,
    task: JoinHandle<()>,
}

impl Listener {
    /// Serves the connections of a port from now on. To be called within a tokio runtime.
    #[must_use]
    pub fn start<S: HttpService>(
        socket: TcpListener,
        options: ListenerOptions,
        service: S,
    ) -> Self {
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let limits = options.limits;
        let accept = AcceptLoop {
            max_connections: limits.max_connections,
            clients: ClientCounter::new(limits.max_connections_per_client, options.exempt.clone()),
            metrics: options.metrics.clone(),
            shared: ListenerContext::new(service, options),
            connections: JoinSet::new(),
            rejections: JoinSet::new(),
            stops: Vec::new(),
            free: Vec::new(),
        };
        let task = tokio::spawn(accept.run(socket, stop.clone(), abort.clone()));
        Self { stop, abort, task }
    }

    /// Takes no more connections, lets requests under way finish for at most `grace`, and closes
    /// the rest. Returns whether all finished.
    pub async fn stop(mut self, grace: Duration) -> bool {
        self.stop.cancel();
        let in_time = tokio::time::timeout(grace, &mut self.task).await;
        if in_time.is_ok() {
            return true;
        }
        self.abort.cancel();
        // It ends at the next await of each connection.
        drop((&mut self.task).await);
        false
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.abort.cancel();
    }
}

/// What the task has.
struct AcceptLoop<S: HttpService> {
    shared: Arc<ListenerContext<S>>,
    max_connections: usize,
    metrics: ListenerMetrics,
    clients: Arc<ClientCounter>,
    connections: JoinSet<usize>,
    rejections: JoinSet<()>,
    /// For each connection what tells it to finish, by its place.
    stops: Vec<Option<oneshot::Sender<()>>>,
    free: Vec<usize>,
}

impl<S: HttpService> AcceptLoop<S> {
    async fn run(mut self, socket: TcpListener, stop: CancellationToken, abort: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = abort.cancelled() => return,
                () = stop.cancelled() => break,
                Some(ended) = self.connections.join_next() => self.on_connection_ended(ended),
                Some(_) = self.rejections.join_next() => {}
                accepted = socket.accept() => match accepted {
                    Ok((stream, peer)) => self.on_accepted(stream, peer),
                    Err(e) => on_accept_error(&e).await,
                },
            }
        }
        drop(socket);
        // Dropped, each sender tells its connection to finish.
        self.stops.clear();
        tokio::select! {
            () = abort.cancelled() => {}
            () = async { while self.connections.join_next().await.is_some() {} } => {}
        }
    }

    fn on_connection_ended(&mut self, ended: Result<usize, tokio::task::JoinError>) {
        self.metrics.connections.decrement(1);
        match ended {
            Ok(index) => {
                self.stops[index] = None;
                self.free.push(index);
            }
            Err(e) => tracing::error!(error = %e, "a connection's task ended unexpectedly"),
        }
    }

    fn on_accepted(&mut self, stream: TcpStream, peer: SocketAddr) {
        let is_full = self.connections.len() >= self.max_connections;
        let permit = (!is_full)
            .then(|| self.clients.try_acquire(peer.ip()))
            .flatten();
        let Some(permit) = permit else {
            self.metrics.rejected.increment(1);
            let most = rejections_max(self.max_connections);
            if self.rejections.len() < most && !self.shared.has_tls() {
                let response = too_many_connections(self.shared.error_prefix());
                self.rejections.spawn(reject_connection(stream, response));
            }
            return;
        };
        let (stop, stopped) = oneshot::channel();
        let index = self.store_stop(stop);
        let shared = Arc::clone(&self.shared);
        self.metrics.connections.increment(1);
        self.connections.spawn(async move {
            connection::serve(shared, stream, peer, stopped).await;
            drop(permit);
            index
        });
    }

    /// Keeps `stop` in a free place.
    fn store_stop(&mut self, stop: oneshot::Sender<()>) -> usize {
        match self.free.pop() {
            Some(index) => {
                self.stops[index] = Some(stop);
                index
            }
            None => {
                self.stops.push(Some(stop));
                self.stops.len() - 1
            }
        }
    }
}

async fn on_accept_error(error: &std::io::Error) {
    let of_one_client = matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    );
    if !of_one_client {
        tracing::warn!(%error, "no connection can be taken");
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}

/// Tells a client that there are too many. What it sends is read, so that it is not met by a reset
/// before it can read the answer.
async fn reject_connection(mut stream: TcpStream, response: String) {
    let rejection = async {
        tokio::io::AsyncWriteExt::write_all(&mut stream, response.as_bytes()).await?;
        tokio::io::AsyncWriteExt::shutdown(&mut stream).await?;
        let mut sink = [0; 4096];
        while stream.read(&mut sink).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // It is gone, slow or has heard it: nothing is to be done in any case.
    drop(tokio::time::timeout(REJECTION_TIME, rejection).await);
}
