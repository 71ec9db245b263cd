//! A project within its quota next to one at a hundred times its own: the effect of the second on the
//! first one's p99.
//!
//! The noise comes from a separate process, which uses CPU on the same cores. So three cases alternate
//! in one run: no noise, the same noise against a listener that discards it, and the noise against
//! Forebay. The difference of the last two is Forebay's share.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Common;
use crate::forebay::{Forebay, free, wait_until_listening};
use crate::http::{body, body_columns};
use crate::load;
use crate::process::Server;

#[derive(Args, Clone)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Requests per second of the project within its quota
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Quota of the other one in requests per second; it sends a hundred times as many
    #[arg(long, default_value_t = 100)]
    quota: u32,
    /// Connections of the other one
    #[arg(long, default_value_t = 64)]
    noise_connections: usize,
    /// Rounds of the three cases
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Connections of the measured project.
const CONNECTIONS: u32 = 8;

pub async fn run(options: &Options) -> anyhow::Result<()> {
    let common = &options.common;
    let forebay = Forebay::start(common, 2, &[]).await?;
    let (columns, settings) = (body_columns(), common.settings()?);
    let quiet = forebay.define(1, 0, &columns, &settings).await?;
    let noisy = forebay.define(2, 0, &columns, &settings).await?;
    let quota = json!({ "requestsPerSecond": options.quota });
    forebay.set_quota(2, &quota).await?;
    let forgets = free()?;
    let log = |name: &str| forebay.directory.path().join(name);
    let exe = std::env::current_exe()?;
    let mut command = Command::new(&exe);
    command.args(["forget", "--listen", &forgets.to_string()]);
    let _forgetting = Server::start(&mut command, &log("forget"))?;
    wait_until_listening(forgets).await?;
    let request = load::request(&quiet, "application/json", &body(0));
    let noise = async |target: SocketAddr| {
        let mut command = Command::new(&exe);
        command.args(["noise", "--target", &target.to_string(), "--path", &noisy]);
        command.args(["--rate", &(options.quota * 100).to_string()]);
        command.args(["--connections", &options.noise_connections.to_string()]);
        Server::start(&mut command, &log("noise"))
    };
    let measure = async || steady(forebay.source, &request, options.rate, common.duration()).await;
    // Warm-up, past the first files.
    measure().await?;
    let mut found: [Vec<Seen>; 3] = Default::default();
    for _ in 0..options.rounds {
        found[0].push(measure().await?);
        for (case, target) in [(1, forgets), (2, forebay.source)] {
            let noise = noise(target).await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
            let before = (forebay.server.cpu_seconds()?, noise.cpu_seconds()?);
            found[case].push(measure().await?);
            let after = (forebay.server.cpu_seconds()?, noise.cpu_seconds()?);
            println!(
                "    case {case}: CPU of the server {:.2} s, of the noise {:.2} s",
                after.0 - before.0,
                after.1 - before.1
            );
        }
    }
    let noise_rate = options.quota * 100;
    println!(
        "{} requests per second of one project; {noise_rate} per second of another, whose quota is {}",
        options.rate, options.quota
    );
    println!(
        "{:<34} {:>8} {:>8} {:>8} {:>8}",
        "beside", "p50 ms", "p99 ms", "of none", "of noise"
    );
    let names = [
        "nothing",
        "the noise, elsewhere on the machine",
        "the noise, at Forebay",
    ];
    let medians = found.map(median);
    for (name, seen) in names.into_iter().zip(medians) {
        println!(
            "{name:<34} {:>8.2} {:>8.2} {:>8.2} {:>8.2}",
            seen.p50,
            seen.p99,
            seen.p99 / medians[0].p99,
            seen.p99 / medians[1].p99
        );
    }
    println!("noise rejected: {}", forebay.refused().await?);
    Ok(())
}

/// Latencies of a run in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub p50: f64,
    pub p99: f64,
}

fn median(mut all: Vec<Seen>) -> Seen {
    let mut middle = |of: fn(&Seen) -> f64| {
        all.sort_by(|a, b| of(a).total_cmp(&of(b)));
        of(&all[all.len() / 2])
    };
    Seen {
        p50: middle(|s| s.p50),
        p99: middle(|s| s.p99),
    }
}

/// Posts at a steady rate. The latency of a request delayed by a slow predecessor counts from its due
/// time.
pub async fn steady(
    address: SocketAddr,
    request: &[u8],
    rate: u32,
    duration: Duration,
) -> anyhow::Result<Seen> {
    let every = Duration::from_secs(1) * CONNECTIONS / rate;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for n in 0..CONNECTIONS {
        let request = request.to_vec();
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (mut micros, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
            let mut due = begun + every * n / CONNECTIONS;
            while begun.elapsed() < duration {
                let wait = due.saturating_duration_since(Instant::now());
                tokio::time::sleep(wait).await;
                let from = if wait.is_zero() { due } else { Instant::now() };
                stream.write_all(&request).await?;
                load::read_answer(&mut stream, &mut buffer).await?;
                micros.push(from.elapsed().as_micros());
                due += every;
            }
            anyhow::Ok(micros)
        });
    }
    let mut micros = Vec::new();
    while let Some(done) = tasks.join_next().await {
        micros.extend(done??);
    }
    micros.sort_unstable();
    let at = |part: f64| micros.get((micros.len() as f64 * part) as usize).copied();
    let ms = |part: f64| Some(at(part)? as f64 / 1000.0);
    Ok(Seen {
        p50: ms(0.5).context("no responses")?,
        p99: ms(0.99).context("no responses")?,
    })
}

/// Sends at a rate without waiting for responses.
pub async fn noise(
    target: SocketAddr,
    path: &str,
    rate: u32,
    connections: u32,
) -> anyhow::Result<()> {
    let request = load::request(path, "application/json", &body(1));
    let every = Duration::from_secs(1) * connections / rate;
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let request = request.clone();
        tasks.spawn(async move {
            let (mut read, mut write) = TcpStream::connect(target).await?.into_split();
            let forget = tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while read.read(&mut buffer).await? > 0 {}
                anyhow::Ok(())
            });
            let mut tick = tokio::time::interval(every);
            loop {
                tick.tick().await;
                if write.write_all(&request).await.is_err() {
                    break;
                }
            }
            forget.await?
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    bail!("all connections ended");
}

/// Reads and discards.
pub async fn forget(listen: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
        });
    }
}
