//! Forebay beside the limit, in one run: `just bench http`.
//!
//! Absolute figures drift from machine to machine and from minute to minute; the ratio in the last
//! column is what is kept in `docs/benchmarks.md`.

mod limit;
mod load;
mod log;
mod log_backlog;
mod log_limit;
mod process;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use process::Server;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// One record a request beside a bare server with group commit.
    Http {
        /// The forebay binary.
        #[arg(long, default_value = "target/release/forebay")]
        forebay: PathBuf,
        /// Seconds of load a case.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Connections, comma-separated.
        #[arg(long, value_delimiter = ',', default_values_t = [64, 512])]
        connections: Vec<usize>,
    },
    /// Appending to the log beside a plain loop of writes and syncs, and opening a backlog again.
    Log(log::Options),
    /// The limit as a server of its own (started by the bench).
    #[command(hide = true)]
    Limit {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        directory: PathBuf,
        /// Without fsync.
        #[arg(long)]
        no_sync: bool,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Bench::Limit {
            listen,
            directory,
            no_sync,
        } => limit::serve(listen, &directory, !no_sync).await,
        Bench::Log(options) => log::run(&options),
        Bench::Http {
            forebay,
            seconds,
            connections,
        } => http(&forebay, Duration::from_secs(seconds), &connections).await,
    }
}

/// Mappings that are measured: name, columns.
fn mappings() -> Vec<(&'static str, Value)> {
    let path = |n: usize| json!({"type": "path", "name": format!("p{n}"), "path": format!("field{n}.value")});
    let template = |n: usize| {
        let content = format!("Body('field{n}.value') + '-' + Header('Content-Type')");
        json!({"type": "template", "name": format!("t{n}"), "template": {"language": "jsonnet", "content": content}})
    };
    let fixed = [
        json!({"type": "uuid", "name": "id"}),
        json!({"type": "datetime", "name": "at"}),
    ];
    let with = |more: Vec<Value>| Value::from([fixed.to_vec(), more].concat());
    vec![
        ("body", with(vec![json!({"type": "body", "name": "body"})])),
        ("10 paths", with((0..10).map(path).collect())),
        ("3 templates", with((0..3).map(template).collect())),
    ]
}

/// A JSON body of about 1 KB.
fn body() -> Vec<u8> {
    let mut object = serde_json::Map::new();
    for n in 0..16 {
        object.insert(
            format!("field{n}"),
            json!({"value": format!("value-{n}-{}", "x".repeat(24)), "n": n}),
        );
    }
    Value::Object(object).to_string().into_bytes()
}

fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

async fn http(forebay: &Path, duration: Duration, connections: &[usize]) -> anyhow::Result<()> {
    let body = body();
    println!(
        "body of {} bytes, {} s a case, client on the same cores",
        body.len(),
        duration.as_secs()
    );
    println!(
        "{:<14} {:>6} {:>10} {:>8} {:>8} {:>8} {:>8} {:>7}",
        "what", "conns", "records/s", "p50 ms", "p99 ms", "CPU µs", "peak MB", "ratio"
    );
    for &count in connections {
        let limit = {
            let directory = tempfile::tempdir_in("/var/tmp")?;
            let address = free()?;
            let mut command = Command::new(std::env::current_exe()?);
            command
                .args(["limit", "--listen", &address.to_string(), "--directory"])
                .arg(directory.path());
            let server = Server::start(&mut command, &directory.path().join("stderr"))?;
            wait_for(address).await?;
            measure(
                "limit",
                &server,
                address,
                load::request("/", "application/json", &body),
                count,
                duration,
                None,
            )
            .await?
        };
        for (name, columns) in mappings() {
            let directory = tempfile::tempdir_in("/var/tmp")?;
            let (api, source) = (free()?, free()?);
            let mut command = Command::new(forebay);
            command.arg("serve").arg("--data-dir").arg(directory.path());
            command.args([
                "--api-listen",
                &api.to_string(),
                "--source-listen",
                &source.to_string(),
            ]);
            let server = Server::start(&mut command, &directory.path().join("stderr"))?;
            wait_for(api).await?;
            wait_for(source).await?;
            let path = define(api, directory.path(), &columns).await?;
            let request = load::request(&path, "application/json", &body);
            measure(name, &server, source, request, count, duration, Some(limit)).await?;
        }
    }
    Ok(())
}

/// Runs the load (a short one first, to warm up), prints the row, returns records a second.
async fn measure(
    name: &str,
    server: &Server,
    address: SocketAddr,
    request: Vec<u8>,
    connections: usize,
    duration: Duration,
    limit: Option<f64>,
) -> anyhow::Result<f64> {
    load::run(
        address,
        request.clone(),
        connections,
        Duration::from_secs(1),
    )
    .await?;
    let before = server.cpu_seconds()?;
    let run = load::run(address, request, connections, duration).await?;
    let cpu = (server.cpu_seconds()? - before) * 1e6 / run.requests as f64;
    let rate = run.requests as f64 / run.seconds;
    let ratio = limit.map_or(String::new(), |l| format!("{:.2}", rate / l));
    println!(
        "{name:<14} {connections:>6} {rate:>10.0} {:>8.2} {:>8.2} {cpu:>8.1} {:>8.0} {ratio:>7}",
        run.p50_ms,
        run.p99_ms,
        server.peak_mb()?
    );
    Ok(rate)
}

async fn wait_for(address: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while tokio::net::TcpStream::connect(address).await.is_err() {
        if Instant::now() > deadline {
            bail!("nobody listens on {address}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// A source with one sink; returns the path to post to.
async fn define(api: SocketAddr, data: &Path, columns: &Value) -> anyhow::Result<String> {
    let sources = "/v1/branches/default/sources";
    task(
        api,
        data,
        sources,
        &json!({"type": "http", "name": "bench", "sourceId": "bench"}),
    )
    .await?;
    let sink = json!({"type": "table", "name": "bench", "table": {
        "type": "keboola", "tableId": "in.bench.records", "mapping": {"columns": columns}}});
    task(api, data, &format!("{sources}/bench/sinks"), &sink).await?;
    let source = call(api, data, "GET", &format!("{sources}/bench"), &Value::Null).await?;
    let url = source["http"]["url"].as_str().context("http.url")?;
    let path = url.find("/stream/").context("path")?;
    Ok(url[path..].to_owned())
}

async fn task(api: SocketAddr, data: &Path, path: &str, body: &Value) -> anyhow::Result<()> {
    let started = call(api, data, "POST", path, body).await?;
    let id = started["taskId"]
        .as_str()
        .with_context(|| started.to_string())?;
    loop {
        let task = call(api, data, "GET", &format!("/v1/tasks/{id}"), &Value::Null).await?;
        match task["status"].as_str() {
            Some("success") => return Ok(()),
            Some("processing") => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => bail!("{task}"),
        }
    }
}

async fn call(
    api: SocketAddr,
    data: &Path,
    method: &str,
    path: &str,
    body: &Value,
) -> anyhow::Result<Value> {
    let token = std::fs::read_to_string(data.join("token"))?;
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nX-StorageApi-Token: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        token.trim(),
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(api).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer)?;
    let json = answer.find('{').with_context(|| answer.clone())?;
    let end = answer.rfind('}').with_context(|| answer.clone())?;
    Ok(serde_json::from_str(&answer[json..=end])?)
}
