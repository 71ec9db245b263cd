//! Takes connections, and lets go of them when the source is stopped.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::clients::Clients;
use super::connection::{self, Shared};
use super::meters::Meters;
use super::receive::Receiver;
use super::{Deps, HttpSourceConfig};

/// Pause after the operating system has no more descriptors or memory for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// Clients that are being told that there are too many; more are let go without a word.
const FAREWELLS_MAX: usize = 256;
/// How long such a client may take to hear it.
const FAREWELL_TIME: Duration = Duration::from_secs(1);

const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Server: Forebay\r\nContent-Type: text/plain\r\nRetry-After: 1\r\nConnection: close\r\n\
    Content-Length: 24\r\n\r\nToo many connections.\r\n\n";

/// The task that takes connections.
#[derive(Debug)]
pub(super) struct Listener {
    stop: CancellationToken,
    abort: CancellationToken,
    task: JoinHandle<()>,
}

impl Listener {
    pub(super) fn start(
        socket: TcpListener,
        tls: Option<TlsAcceptor>,
        config: HttpSourceConfig,
        deps: Deps,
    ) -> Self {
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let max_connections = config.max_connections;
        let clients = Clients::new(&config);
        let receiver = Receiver {
            config,
            deps,
            meters: Meters::new(),
        };
        let accept = Accept {
            shared: Shared::new(receiver, tls),
            max_connections,
            clients,
            connections: JoinSet::new(),
            farewells: JoinSet::new(),
            stops: Vec::new(),
            free: Vec::new(),
        };
        let task = tokio::spawn(accept.run(socket, stop.clone(), abort.clone()));
        Self { stop, abort, task }
    }

    pub(super) async fn stop(mut self, grace: Duration) -> bool {
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
struct Accept {
    shared: Arc<Shared>,
    max_connections: usize,
    clients: Arc<Clients>,
    connections: JoinSet<usize>,
    farewells: JoinSet<()>,
    /// For each connection what tells it to finish, by its place.
    stops: Vec<Option<oneshot::Sender<()>>>,
    free: Vec<usize>,
}

impl Accept {
    async fn run(mut self, socket: TcpListener, stop: CancellationToken, abort: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = abort.cancelled() => return,
                () = stop.cancelled() => break,
                Some(ended) = self.connections.join_next() => self.ended(ended),
                Some(_) = self.farewells.join_next() => {}
                accepted = socket.accept() => match accepted {
                    Ok((stream, peer)) => self.accepted(stream, peer),
                    Err(e) => refused(&e).await,
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

    fn ended(&mut self, ended: Result<usize, tokio::task::JoinError>) {
        self.shared.receiver.meters.connections.decrement(1);
        match ended {
            Ok(place) => {
                self.stops[place] = None;
                self.free.push(place);
            }
            Err(e) => tracing::error!(error = %e, "a connection's task ended unexpectedly"),
        }
    }

    fn accepted(&mut self, stream: TcpStream, peer: SocketAddr) {
        let is_full = self.connections.len() >= self.max_connections;
        let counted = (!is_full).then(|| self.clients.count(peer.ip())).flatten();
        let Some(counted) = counted else {
            self.shared.receiver.meters.connections_refused.increment(1);
            if self.farewells.len() < FAREWELLS_MAX && !self.shared.has_tls() {
                self.farewells.spawn(farewell(stream));
            }
            return;
        };
        let (stop, stopped) = oneshot::channel();
        let place = self.place(stop);
        let shared = Arc::clone(&self.shared);
        self.shared.receiver.meters.connections.increment(1);
        self.connections.spawn(async move {
            connection::serve(shared, stream, peer, stopped).await;
            drop(counted);
            place
        });
    }

    /// Keeps `stop` in a free place.
    fn place(&mut self, stop: oneshot::Sender<()>) -> usize {
        match self.free.pop() {
            Some(place) => {
                self.stops[place] = Some(stop);
                place
            }
            None => {
                self.stops.push(Some(stop));
                self.stops.len() - 1
            }
        }
    }
}

async fn refused(error: &std::io::Error) {
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
async fn farewell(mut stream: TcpStream) {
    let said = async {
        tokio::io::AsyncWriteExt::write_all(&mut stream, TOO_MANY).await?;
        tokio::io::AsyncWriteExt::shutdown(&mut stream).await?;
        let mut sink = [0; 4096];
        while stream.read(&mut sink).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // It is gone, slow or has heard it: nothing is to be done in any case.
    drop(tokio::time::timeout(FAREWELL_TIME, said).await);
}
