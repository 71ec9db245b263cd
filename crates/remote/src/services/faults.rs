//! A TCP proxy that reads the protocol it carries, and cuts a connection at a named moment of the
//! conversation: after the rows of a `COPY` and before its `COMMIT`, within an upload, after a
//! server has done what it was asked and before the client knows. [`super::proxy`] cuts at bytes
//! that a test chooses; this one knows where it is, however the bytes are divided into packets.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

mod http;
mod postgres;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// PostgreSQL's, version 3, without TLS.
    Postgres,
    /// HTTP/1.1 without TLS and without chunked requests, as S3 clients speak it.
    Http,
}

/// A moment of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Some rows of a `COPY` have got through, its end has not.
    InCopy,
    /// All of a transaction has got through but its `COMMIT`.
    BeforeCommit,
    /// The server has committed, the client does not get to know.
    AfterCommit,
    /// Half of an object has got through.
    InPut,
    /// The server has the object, the client does not get to know.
    AfterPut,
    /// Part of an object that is read has got through.
    InGet,
    /// The server has deleted an object, the client does not get to know.
    AfterDelete,
}

impl Moment {
    /// All of a protocol.
    pub fn of(protocol: Protocol) -> &'static [Self] {
        match protocol {
            Protocol::Postgres => &[Self::InCopy, Self::BeforeCommit, Self::AfterCommit],
            Protocol::Http => &[Self::InPut, Self::AfterPut, Self::InGet, Self::AfterDelete],
        }
    }
}

#[derive(Debug, Default)]
struct Plan {
    armed: Option<Moment>,
    cuts: BTreeMap<Moment, u64>,
}

/// When to cut, and what was cut. Shared by all connections of a proxy.
#[derive(Debug, Default)]
struct Shared(Mutex<Plan>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the connection that has come to this moment is the one to cut.
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

/// What follows a conversation. Both say how many of the bytes get through; when those are not all,
/// the connection is cut after them.
trait Conversation: Send {
    fn client_sent(&mut self, bytes: &[u8], take: &dyn Fn(Moment) -> bool) -> usize;
    fn server_sent(&mut self, bytes: &[u8], take: &dyn Fn(Moment) -> bool) -> usize;
}

/// A proxy. Ends with all its connections when it is dropped.
#[derive(Debug)]
pub struct FaultyProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

impl FaultyProxy {
    /// Listens on a free port of loopback and hands everything on to `target`.
    ///
    /// # Errors
    /// When it can't listen.
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts one connection, the first that comes to this moment.
    pub fn arm(&self, moment: Moment) {
        self.shared.lock().armed = Some(moment);
    }

    /// How many connections were cut at each moment.
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

/// Until either side ends or a cut is due: both sockets close when this returns.
async fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    mut conversation: Box<dyn Conversation>,
    shared: Arc<Shared>,
) {
    let (mut from_client, mut from_server) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let take = |moment| shared.take(moment);
    // Small packets at once: a delay of ours would be part of what is tested.
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

/// Hands the first `passed` bytes on; says whether those were all, and there were some.
async fn pass(bytes: &[u8], passed: usize, to: &mut TcpStream) -> bool {
    let part = bytes.get(..passed).unwrap_or(bytes);
    to.write_all(part).await.is_ok() && passed == bytes.len() && !bytes.is_empty()
}
