//! Use of the allowance of a rate-limited source, and whether it is ever exceeded: a server that
//! records the time of each request.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

use crate::process::Server;
use crate::pull::Options;

/// Requests per period.
const REQUESTS: usize = 120;
const PERIOD: Duration = Duration::from_secs(2);
const PERIODS: u32 = 10;
/// Records per page.
const PAGE: usize = 10;

pub async fn run(options: &Options, directory: &Path) -> anyhow::Result<()> {
    println!("\n{REQUESTS} requests in {PERIOD:?}, {PERIODS} periods, pages of {PAGE} records");
    println!("| response time | requests | of the allowance | most in any {PERIOD:?} |");
    println!("| --- | --- | --- | --- |");
    for delay in [Duration::ZERO, Duration::from_millis(5)] {
        let came = measure(options, directory, delay).await?;
        let first = *came.first().context("no request arrived")?;
        let all = REQUESTS * PERIODS as usize;
        let used = came
            .iter()
            .filter(|t| **t - first < PERIOD * PERIODS)
            .count();
        // Windows ending at a request, so that no maximum is missed.
        let most = came
            .iter()
            .enumerate()
            .map(|(i, begin)| {
                came.iter()
                    .skip(i)
                    .take_while(|t| **t - *begin < PERIOD)
                    .count()
            })
            .max()
            .unwrap_or(0);
        println!(
            "| {delay:?} | {used} | {:.4} | {most} |",
            used as f64 / all as f64
        );
    }
    Ok(())
}

/// Arrival times of the requests, in order.
async fn measure(
    options: &Options,
    directory: &Path,
    delay: Duration,
) -> anyhow::Result<Vec<Instant>> {
    let place = directory.join(format!("source-{}", delay.as_millis()));
    std::fs::create_dir(&place)?;
    let came = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = tokio::spawn(serve(listener, Arc::clone(&came), delay));
    let job = json!({
        "name": "source",
        "source": {
            "type": "http_api", "baseUrl": format!("http://{address}"),
            "rateLimit": {"requests": REQUESTS, "period": format!("{}ms", PERIOD.as_millis())},
        },
        "destination": {
            "type": "table", "store": {"type": "sqlite", "path": "rows.db"}, "table": "records",
            "columns": [{"name": "id", "type": "integer", "key": true}],
        },
    });
    let file = place.join("source.yaml");
    std::fs::write(&file, job.to_string())?;
    let mut command = Command::new(&options.forebay);
    command.env_clear().args(["job", "run"]).arg(&file);
    let running = Server::start(&mut command, &place.join("stderr"))?;
    tokio::time::sleep(PERIOD * (PERIODS + 1)).await;
    drop(running);
    serving.abort();
    let mut came = came.lock().expect("no holder panics").clone();
    came.sort();
    Ok(came)
}

async fn serve(
    listener: TcpListener,
    came: Arc<Mutex<Vec<Instant>>>,
    delay: Duration,
) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let came = Arc::clone(&came);
        tokio::spawn(async move {
            let service = service_fn(move |_: Request<Incoming>| {
                let page = {
                    let mut came = came.lock().expect("no holder panics");
                    came.push(Instant::now());
                    came.len()
                };
                async move {
                    tokio::time::sleep(delay).await;
                    let records: Vec<_> =
                        (0..PAGE).map(|n| json!({"id": page * PAGE + n})).collect();
                    let body = json!({"results": records, "cursor": page}).to_string();
                    Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(body))))
                }
            });
            // Disconnects of clients are ignored.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
