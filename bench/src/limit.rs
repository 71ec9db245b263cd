//! The limit of a server that responds after an fsync: hyper reads the body, one thread appends all
//! waiting bodies to a preallocated file with one write and one fdatasync, then responds to all of
//! them. Nothing is parsed, encoded, compressed or indexed.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Written as a ring, so that a long run needs no more disk.
const FILE_BYTES: u64 = 256 << 20;

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    answers: Vec<oneshot::Sender<()>>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    some: Condvar,
}

impl Queue {
    fn push(&self, body: &[u8]) -> oneshot::Receiver<()> {
        let (answer, answered) = oneshot::channel();
        let mut waiting = self.waiting.lock().expect("no holder panics");
        waiting.bytes.extend_from_slice(body);
        waiting.answers.push(answer);
        self.some.notify_one();
        answered
    }

    fn write_for_ever(&self, file: &std::fs::File) -> anyhow::Result<()> {
        let mut offset = 0;
        loop {
            let batch = {
                let mut waiting = self.waiting.lock().expect("no holder panics");
                while waiting.answers.is_empty() {
                    waiting = self.some.wait(waiting).expect("no holder panics");
                }
                std::mem::take(&mut *waiting)
            };
            if offset + batch.bytes.len() as u64 > FILE_BYTES {
                offset = 0;
            }
            file.write_all_at(&batch.bytes, offset)?;
            offset += batch.bytes.len() as u64;
            file.sync_data()?;
            for answer in batch.answers {
                // The client may have disconnected.
                let _ = answer.send(());
            }
        }
    }
}

/// Serves until the process is killed.
pub async fn serve(address: SocketAddr, directory: &Path) -> anyhow::Result<()> {
    let mut file = std::fs::File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .read(true)
        .open(directory.join("limit"))?;
    let zeroes = vec![0; 1 << 20];
    for _ in 0..FILE_BYTES >> 20 {
        file.write_all(&zeroes)?;
    }
    file.sync_all()?;
    let queue = Arc::new(Queue::default());
    let writer = Arc::clone(&queue);
    std::thread::spawn(move || {
        if let Err(e) = writer.write_for_ever(&file) {
            eprintln!("the limit's writer ended: {e}");
        }
    });
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let queue = Arc::clone(&queue);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let queue = Arc::clone(&queue);
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    // The writer ends only with the process.
                    let _ = queue.push(&body).await;
                    Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from_static(b"OK"))))
                }
            });
            // Disconnects of clients are ignored.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
