//! Load: connections that post, wait for the response, and repeat.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Result of a run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub requests: u64,
    pub seconds: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// A complete HTTP/1.1 request.
pub fn request(path: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Posts `request` that many times over one connection.
pub async fn send(address: SocketAddr, request: &[u8], times: usize) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await.context("connect")?;
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..times {
        stream.write_all(request).await?;
        read_answer(&mut stream, &mut buffer).await?;
    }
    Ok(())
}

/// Posts `requests` over `connections` connections for `duration`; each connection starts with a
/// different one. Any response but 200 is an error.
pub async fn run(
    address: SocketAddr,
    requests: Vec<Vec<u8>>,
    connections: usize,
    duration: Duration,
) -> anyhow::Result<Run> {
    let requests: Arc<[Vec<u8>]> = requests.into();
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for number in 0..connections {
        let first = number * requests.len() / connections;
        let requests = Arc::clone(&requests);
        tasks.spawn(connection(address, requests, first, Arc::clone(&stop)));
    }
    tokio::time::sleep(duration).await;
    stop.store(true, Ordering::Relaxed);
    let mut micros = Vec::new();
    while let Some(done) = tasks.join_next().await {
        micros.extend(done??);
    }
    let seconds = start.elapsed().as_secs_f64();
    micros.sort_unstable();
    let at = |part: f64| {
        micros
            .get((micros.len() as f64 * part) as usize)
            .copied()
            .unwrap_or(0)
    };
    Ok(Run {
        requests: micros.len() as u64,
        seconds,
        p50_ms: f64::from(at(0.5)) / 1000.0,
        p99_ms: f64::from(at(0.99)) / 1000.0,
    })
}

async fn connection(
    address: SocketAddr,
    requests: Arc<[Vec<u8>]>,
    first: usize,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Vec<u32>> {
    let mut stream = TcpStream::connect(address).await.context("connect")?;
    stream.set_nodelay(true)?;
    let mut micros = Vec::with_capacity(1 << 16);
    let mut buffer = vec![0; 16 << 10];
    let rotation = requests.iter().cycle().skip(first);
    for request in rotation {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let sent = Instant::now();
        stream.write_all(request).await?;
        read_answer(&mut stream, &mut buffer).await?;
        micros.push(sent.elapsed().as_micros() as u32);
    }
    Ok(micros)
}

/// Reads a response; any but 200 is an error.
pub async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<()> {
    let mut filled = 0;
    loop {
        let n = stream.read(&mut buffer[filled..]).await?;
        if n == 0 {
            bail!(
                "the server closed the connection: {}",
                String::from_utf8_lossy(&buffer[..filled])
            );
        }
        filled += n;
        let text = &buffer[..filled];
        let Some(head) = text.windows(4).position(|w| w == b"\r\n\r\n") else {
            continue;
        };
        if !text.starts_with(b"HTTP/1.1 200") {
            bail!("{}", String::from_utf8_lossy(text));
        }
        let headers = String::from_utf8_lossy(&text[..head]).to_ascii_lowercase();
        let length: usize = headers
            .lines()
            .find_map(|l| l.strip_prefix("content-length:"))
            .map_or(Ok(0), |v| v.trim().parse())?;
        if filled >= head + 4 + length {
            return Ok(());
        }
    }
}
