//! A quiet source next to one that receives bodies of 8,000 bytes which inflate to 8 MB of `[1,1,…`:
//! the effect of the second on the first one's p99.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Common;
use crate::forebay::Forebay;
use crate::http::{body, body_columns};
use crate::load;
use crate::quota::steady;

#[derive(Args, Clone)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Requests per second of the quiet source
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Clients of the other one; each waits for its response and repeats
    #[arg(long, default_value_t = 48)]
    clients: usize,
    /// Rounds of both cases
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

pub async fn run(options: &Options) -> anyhow::Result<()> {
    let common = &options.common;
    let forebay = Forebay::start(common, 2, &[]).await?;
    let (columns, settings) = (body_columns(), common.settings()?);
    let quiet = forebay.define(1, 0, &columns, &settings).await?;
    let paths = serde_json::json!([{"type": "path", "name": "n", "path": "[0]", "defaultValue": ""}]);
    let noisy = forebay.define(2, 0, &paths, &settings).await?;
    let request = load::request(&quiet, "application/json", &body(0));
    let measure = || steady(forebay.source, &request, options.rate, common.duration());
    measure().await?;
    let noise: Arc<[u8]> = bomb(&noisy)?.into();
    println!("{:<44} {:>8} {:>8} {:>10} {:>8}", "beside", "p50 ms", "p99 ms", "answers/s", "peak MB");
    for _ in 0..options.rounds {
        let alone = measure().await?;
        let peak = forebay.server.peak_mb()?;
        println!("{:<44} {:>8.2} {:>8.2} {:>10} {peak:>8.0}", "nothing", alone.p50, alone.p99, "");
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut clients = JoinSet::new();
        for _ in 0..options.clients {
            let (stop, answers, noise) = (Arc::clone(&stop), Arc::clone(&answers), Arc::clone(&noise));
            clients.spawn(send(forebay.source, noise, stop, answers));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = answers.load(Ordering::Relaxed);
        let beside = measure().await?;
        let rate = (answers.load(Ordering::Relaxed) - before) / common.seconds.max(1);
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = clients.join_next().await {
            ended??;
        }
        let peak = forebay.server.peak_mb()?;
        let what = format!("{} clients with bodies that inflate", options.clients);
        println!("{what:<44} {:>8.2} {:>8.2} {rate:>10} {peak:>8.0}", beside.p50, beside.p99);
    }
    Ok(())
}

/// A request whose body inflates a thousand times.
fn bomb(path: &str) -> anyhow::Result<Vec<u8>> {
    let mut ones = b"[1".to_vec();
    ones.extend(b",1".repeat(3_999_990));
    ones.push(b']');
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&ones)?;
    let body = encoder.finish()?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Ok([head.as_bytes(), &body].concat())
}

/// Sends requests, ignoring the responses, until `stop`.
async fn send(
    address: std::net::SocketAddr,
    request: Arc<[u8]>,
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    while !stop.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&request).await?;
        // Responses are small and arrive in one piece.
        if stream.read(&mut buffer).await? > 0 {
            answers.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
