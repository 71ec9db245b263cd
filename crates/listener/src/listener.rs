//! The accept loop of a listener, and its shutdown.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::HttpService;
use crate::client_counter::ClientCounter;
use crate::connection::{self, ListenerContext};
use crate::options::{ListenerMetrics, ListenerOptions};
use crate::tls::TlsError;

/// Pause after an accept failed for lack of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// How long a rejected client may take to read the response.
const REJECTION_TIME: Duration = Duration::from_secs(1);

/// Response to a client over the connection limit, in the common error format.
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

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("can't listen on {address}: {cause}")]
    Listen {
        address: SocketAddr,
        cause: std::io::Error,
    },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Maximum number of clients that get a rejection response at a time; further ones are closed
/// without one. Each of them takes a descriptor, like a connection.
pub fn rejections_max(max_connections: usize) -> usize {
    (max_connections / 8).clamp(16, 256)
}

/// Binds a port; connections are accepted once a [`Listener`] is started.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let failed = |cause| BindError::Listen { address, cause };
    let socket = TcpListener::bind(address).await.map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    Ok((socket, bound))
}

/// The task that accepts connections.
#[derive(Debug)]
pub struct Listener {
    stop: CancellationToken,
    abort: CancellationToken,
    task: JoinHandle<()>,
}

impl Listener {
    /// Starts to serve the connections of a port. Requires a tokio runtime.
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

    /// Stops accepting connections, lets requests in progress finish for at most `grace`, and
    /// closes the rest. Returns whether all finished.
    pub async fn stop(mut self, grace: Duration) -> bool {
        self.stop.cancel();
        let in_time = tokio::time::timeout(grace, &mut self.task).await;
        if in_time.is_ok() {
            return true;
        }
        self.abort.cancel();
        // The task ends at the next await of each connection.
        drop((&mut self.task).await);
        false
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.abort.cancel();
    }
}

struct AcceptLoop<S: HttpService> {
    shared: Arc<ListenerContext<S>>,
    max_connections: usize,
    metrics: ListenerMetrics,
    clients: Arc<ClientCounter>,
    connections: JoinSet<usize>,
    rejections: JoinSet<()>,
    /// Shutdown sender of each connection, by index.
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
        // Dropping a sender makes its connection finish.
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
            Err(e) => tracing::error!(error = %e, "connection task failed"),
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

    /// Stores `stop` at a free index.
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
    let is_client_error = matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    );
    if !is_client_error {
        tracing::warn!(%error, "accept failed");
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}

/// Sends a rejection. Input is read and discarded: a reset could lose the response.
async fn reject_connection(mut stream: TcpStream, response: String) {
    let rejection = async {
        tokio::io::AsyncWriteExt::write_all(&mut stream, response.as_bytes()).await?;
        tokio::io::AsyncWriteExt::shutdown(&mut stream).await?;
        let mut sink = [0; 4096];
        while stream.read(&mut sink).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // Disconnected, slow or done: nothing to do in any case.
    drop(tokio::time::timeout(REJECTION_TIME, rejection).await);
}
