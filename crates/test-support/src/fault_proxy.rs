//! TCP proxy that parses the protocol it forwards and cuts a connection at a given point: after the
//! rows of a `COPY` and before its `COMMIT`, within an upload, after the server completed a request
//! and before the client receives the response. [`crate::cut_proxy`] cuts at given bytes; this one
//! works for any packet boundaries.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use conversation::Conversation;
pub use conversation::{Moment, Protocol};

mod conversation;
mod http;
mod postgres;

#[derive(Debug, Default)]
struct Plan {
    armed: Option<Moment>,
    cuts: BTreeMap<Moment, u64>,
}

/// The armed cut and the counts of cuts, shared by all connections of a proxy.
#[derive(Debug, Default)]
struct Shared(Mutex<Plan>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.0.lock()
    }

    /// Whether to cut the connection that reached this point.
    fn take(&self, moment: Moment) -> bool {
        let mut plan = self.lock();
        let is_due = plan.armed == Some(moment);
        if is_due {
            plan.armed = None;
            *plan.cuts.entry(moment).or_default() += 1;
        }
        is_due
    }
}

/// The proxy; dropping it closes all its connections.
#[derive(Debug)]
pub struct FaultyProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

impl FaultyProxy {
    /// Listens on a free loopback port and forwards to `target`.
    pub async fn start(protocol: Protocol, target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(accept(listener, protocol, target, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _task: AbortOnDropHandle::new(task),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts one connection, the first that reaches this point.
    pub fn arm(&self, moment: Moment) {
        self.shared.lock().armed = Some(moment);
    }

    /// Number of cut connections by point.
    pub fn cuts(&self) -> BTreeMap<Moment, u64> {
        self.shared.lock().cuts.clone()
    }
}

async fn accept(
    listener: TcpListener,
    protocol: Protocol,
    target: SocketAddr,
    shared: Arc<Shared>,
) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if let Ok(server) = TcpStream::connect(target).await {
            let conversation: Box<dyn Conversation> = match protocol {
                Protocol::Postgres => Box::new(postgres::Postgres::default()),
                Protocol::Http => Box::new(http::Http::default()),
            };
            connections.spawn(carry(client, server, conversation, Arc::clone(&shared)));
        }
    }
}

/// Forwards until either side closes or a cut is due; then both sockets close.
async fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    mut conversation: Box<dyn Conversation>,
    shared: Arc<Shared>,
) {
    let (mut from_client, mut from_server) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let take = |moment| shared.take(moment);
    // No delay of small packets: it would affect the test.
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    loop {
        let goes_on = tokio::select! {
            read = client.read(&mut from_client) => {
                let sent = read.ok().and_then(|n| from_client.get(..n)).unwrap_or_default();
                let passed = conversation.client_sent(sent, &take);
                pass(sent, passed, &mut server).await
            }
            read = server.read(&mut from_server) => {
                let sent = read.ok().and_then(|n| from_server.get(..n)).unwrap_or_default();
                let passed = conversation.server_sent(sent, &take);
                pass(sent, passed, &mut client).await
            }
        };
        if !goes_on {
            return;
        }
    }
}

/// Forwards the first `passed` bytes; returns whether those were all, and there were some.
async fn pass(bytes: &[u8], passed: usize, to: &mut TcpStream) -> bool {
    let part = bytes.get(..passed).unwrap_or(bytes);
    to.write_all(part).await.is_ok() && passed == bytes.len() && !bytes.is_empty()
}
