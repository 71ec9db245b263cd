//! TCP proxy that cuts connections at given bytes, to simulate a network failure during a request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// When to cut a connection, in both directions at once.
#[derive(Clone, Debug)]
pub enum Cut {
    /// When the client sends these bytes; they are not forwarded.
    Before(Vec<u8>),
    /// When the server responds to these bytes; the response is not forwarded.
    AfterAnswerTo(Vec<u8>),
    /// When the server has sent this many bytes on one connection; they are forwarded.
    AfterBytes(usize),
}

/// The proxy; dropping it closes all its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    armed: Arc<Mutex<Option<Cut>>>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Listens on a free port of an address and forwards to `target`.
    pub async fn start(ip: &str, target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((ip, 0)).await?;
        let address = listener.local_addr()?;
        let armed = Arc::new(Mutex::new(None));
        let task = tokio::spawn(accept(listener, target, Arc::clone(&armed)));
        Ok(Self {
            address,
            armed,
            _task: AbortOnDropHandle::new(task),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts one connection, the first that meets the condition.
    pub fn arm(&self, cut: Cut) {
        *self.armed.lock() = Some(cut);
    }

    /// Whether a cut is pending.
    pub fn is_armed(&self) -> bool {
        self.armed.lock().is_some()
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, armed: Arc<Mutex<Option<Cut>>>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if let Ok(server) = TcpStream::connect(target).await {
            connections.spawn(carry(client, server, Arc::clone(&armed)));
        }
    }
}

/// Forwards until either side closes or a cut is due; then both sockets close.
async fn carry(mut client: TcpStream, mut server: TcpStream, armed: Arc<Mutex<Option<Cut>>>) {
    let (mut from_client, mut from_server) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let (mut received, mut cuts_answer) = (0, false);
    loop {
        let passed = tokio::select! {
            read = client.read(&mut from_client) => {
                let sent = read.ok().and_then(|n| from_client.get(..n)).unwrap_or_default();
                match take_due(&armed, sent, received) {
                    Some(Cut::Before(_)) => return,
                    // The server may need more data before it responds.
                    Some(_) => cuts_answer = true,
                    None => {}
                }
                pass(sent, &mut server).await
            }
            read = server.read(&mut from_server) => {
                let sent = read.ok().and_then(|n| from_server.get(..n)).unwrap_or_default();
                if cuts_answer {
                    return;
                }
                received += sent.len();
                pass(sent, &mut client).await && take_due(&armed, b"", received).is_none()
            }
        };
        if !passed {
            return;
        }
    }
}

async fn pass(bytes: &[u8], to: &mut TcpStream) -> bool {
    !bytes.is_empty() && to.write_all(bytes).await.is_ok()
}

/// Takes the cut if it is due: `sent` is what the client just sent, `received` the bytes it got so
/// far.
fn take_due(armed: &Mutex<Option<Cut>>, sent: &[u8], received: usize) -> Option<Cut> {
    let mut armed = armed.lock();
    let is_due = match armed.as_ref()? {
        Cut::Before(bytes) | Cut::AfterAnswerTo(bytes) => sent
            .windows(bytes.len().max(1))
            .any(|window| window == bytes),
        Cut::AfterBytes(bytes) => received >= *bytes,
    };
    if is_due { armed.take() } else { None }
}
