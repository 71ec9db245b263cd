//! A TCP proxy that can be switched off and on.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Forwards connections to a server while it is on; closes all of them when switched off.
pub(crate) struct Switch {
    pub(crate) address: SocketAddr,
    on: watch::Sender<bool>,
    _task: AbortOnDropHandle<()>,
}

impl Switch {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (on, seen) = watch::channel(true);
        let task = tokio::spawn(async move {
            loop {
                let (mut from, _) = listener.accept().await.unwrap();
                let mut seen = seen.clone();
                tokio::spawn(async move {
                    if !*seen.borrow_and_update() {
                        return;
                    }
                    let Ok(mut to) = TcpStream::connect(server).await else {
                        return;
                    };
                    tokio::select! {
                        copied = tokio::io::copy_bidirectional(&mut from, &mut to) => drop(copied),
                        _ = seen.changed() => {}
                    }
                });
            }
        });
        Self {
            address,
            on,
            _task: AbortOnDropHandle::new(task),
        }
    }

    pub(crate) fn set_on(&self, on: bool) {
        self.on.send_replace(on);
    }
}
