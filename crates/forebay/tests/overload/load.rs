//! Thousands of clients: a closed loop of requests, or an open loop at a fixed rate.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

/// Longer than any response takes.
const PATIENCE: Duration = Duration::from_secs(40);
/// Concurrent requests; limited by the sockets of the clients.
const AT_ONCE: usize = 4000;

/// Responses to the clients.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Duration of each accepted request, sorted once complete.
    latencies: Vec<Duration>,
    /// Responses 429 and 503.
    pub(crate) rejected: u64,
    pub(crate) without_retry_after: u64,
    /// Unexpected statuses.
    pub(crate) other: Vec<u16>,
    /// Connections closed without a response.
    pub(crate) broken: u64,
}

impl Answers {
    pub(crate) fn accepted(&self) -> u64 {
        self.latencies.len() as u64
    }

    pub(crate) fn p99(&self) -> Duration {
        let place = self.latencies.len().saturating_sub(1) * 99 / 100;
        self.latencies.get(place).copied().unwrap_or_default()
    }

    fn count(&mut self, answer: &Answer, took: Duration) {
        match answer.status {
            200 => self.latencies.push(took),
            429 | 503 => {
                self.rejected += 1;
                self.without_retry_after += u64::from(!answer.retry_after);
            }
            status => self.other.push(status),
        }
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p99 = self.p99().as_millis();
        write!(
            f,
            "{} accepted (p99 {p99} ms), {} rejected, {} broken",
            self.accepted(),
            self.rejected,
            self.broken
        )
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    retry_after: bool,
    pub(crate) closes: bool,
}

fn request(source: SocketAddr, path: &str, size: usize) -> Vec<u8> {
    let body = format!("{{\"n\": 1, \"pad\": \"{}\"}}", "x".repeat(size));
    request_with(source, path, &body)
}

/// A request with a JSON body.
pub(crate) fn request_with(source: SocketAddr, path: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {source}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [&head, body].concat().into_bytes()
}

pub(crate) async fn send(stream: &mut TcpStream, request: &[u8]) -> std::io::Result<Answer> {
    let (mut read, mut write) = stream.split();
    // A rejection may arrive before the whole request was sent, followed by a close.
    let sent = write.write_all(request);
    let received = async {
        let mut bytes = Vec::with_capacity(1024);
        loop {
            if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
                let value = |name: &str| {
                    let mut lines = head.lines();
                    lines.find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
                };
                let length = value("content-length").and_then(|n| n.parse().ok());
                if bytes.len() >= end + 4 + length.unwrap_or(0) {
                    return Ok(Answer {
                        status: head
                            .split(' ')
                            .nth(1)
                            .and_then(|s| s.parse().ok())
                            .unwrap_or(0),
                        retry_after: value("retry-after").is_some(),
                        closes: value("connection") == Some("close"),
                    });
                }
            }
            if read.read_buf(&mut bytes).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    };
    tokio::pin!(received, sent);
    tokio::select! {
        biased;
        answer = &mut received => answer,
        _ = &mut sent => received.await,
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Closed loop: each client waits for its response. Returns the accepted requests per second.
pub(crate) fn closed_loop(source: SocketAddr, path: &str, size: usize, time: Duration) -> f64 {
    let request: Arc<[u8]> = request(source, path, size).into();
    let accepted = runtime().block_on(async {
        let end = Instant::now() + time;
        let mut clients = JoinSet::new();
        for _ in 0..64 {
            let request = Arc::clone(&request);
            clients.spawn(async move {
                let mut stream = TcpStream::connect(source).await.unwrap();
                let mut accepted = 0_u32;
                while Instant::now() < end {
                    let answer = send(&mut stream, &request).await.unwrap();
                    accepted += u32::from(answer.status == 200);
                    if answer.closes {
                        stream = TcpStream::connect(source).await.unwrap();
                    }
                }
                accepted
            });
        }
        clients.join_all().await.into_iter().sum::<u32>()
    });
    f64::from(accepted) / time.as_secs_f64()
}

/// Open loop: a fixed number of requests per second, independent of responses.
pub(crate) fn open_loop(
    source: SocketAddr,
    path: &str,
    size: usize,
    rate: f64,
    time: Duration,
) -> Answers {
    let request: Arc<[u8]> = request(source, path, size).into();
    let idle: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let answers: Arc<Mutex<Answers>> = Arc::default();
    runtime().block_on(async {
        let begin = Instant::now();
        let mut tick = interval(Duration::from_millis(5));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut clients, mut begun) = (JoinSet::new(), 0.0);
        while begin.elapsed() < time {
            tick.tick().await;
            while clients.try_join_next().is_some() {}
            while begun < begin.elapsed().as_secs_f64() * rate {
                begun += 1.0;
                if clients.len() >= AT_ONCE {
                    continue;
                }
                let (request, idle, answers) = (
                    Arc::clone(&request),
                    Arc::clone(&idle),
                    Arc::clone(&answers),
                );
                clients.spawn(async move {
                    let exchange = exchange(source, &request, &idle);
                    let answer = timeout(PATIENCE, exchange).await;
                    let mut answers = answers.lock().unwrap();
                    match answer {
                        Ok(Ok((answer, took))) => answers.count(&answer, took),
                        Ok(Err(_)) | Err(_) => answers.broken += 1,
                    }
                });
            }
        }
        sleep_until(begin + time).await;
        clients.join_all().await;
    });
    let mut answers = Arc::try_unwrap(answers).unwrap().into_inner().unwrap();
    answers.latencies.sort_unstable();
    answers
}

async fn exchange(
    source: SocketAddr,
    request: &[u8],
    idle: &Mutex<Vec<TcpStream>>,
) -> std::io::Result<(Answer, Duration)> {
    let open = idle.lock().unwrap().pop();
    let mut stream = match open {
        Some(open) => open,
        None => TcpStream::connect(source).await?,
    };
    // Excludes the time the system needs to connect thousands of clients.
    let begun = Instant::now();
    let answer = send(&mut stream, request).await?;
    if !answer.closes && answer.status == 200 {
        idle.lock().unwrap().push(stream);
    }
    Ok((answer, begun.elapsed()))
}
