//! One record per request.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use crate::Common;
use crate::forebay::{Forebay, free, wait_until_listening};
use crate::load::{self, Run};
use crate::process::Server;

/// Measured mappings: name, columns.
fn mappings() -> Vec<(&'static str, Value)> {
    let path = |n: usize| json!({"type": "path", "name": format!("p{n}"), "path": format!("field{n}.value")});
    let template = |n: usize| {
        let content = format!("Body('field{n}.value') + '-' + Header('Content-Type')");
        json!({"type": "template", "name": format!("t{n}"), "template": {"language": "jsonnet", "content": content}})
    };
    vec![
        (
            "body",
            columns(vec![json!({"type": "body", "name": "body"})]),
        ),
        ("10 paths", columns((0..10).map(path).collect())),
        ("3 templates", columns((0..3).map(template).collect())),
    ]
}

/// Columns `uuid`, `datetime` and more.
pub fn columns(more: Vec<Value>) -> Value {
    let fixed = vec![
        json!({"type": "uuid", "name": "id"}),
        json!({"type": "datetime", "name": "at"}),
    ];
    Value::from([fixed, more].concat())
}

/// Columns `uuid`, `datetime` and `body`.
pub fn body_columns() -> Value {
    columns(vec![json!({"type": "body", "name": "body"})])
}

/// A JSON body of about 1 KB; `seed` makes it unique.
pub fn body(seed: usize) -> Vec<u8> {
    let mut object = serde_json::Map::new();
    for n in 0..16 {
        object.insert(
            format!("field{n}"),
            json!({"value": format!("value-{seed}-{n}-{}", "x".repeat(24)), "n": n}),
        );
    }
    Value::Object(object).to_string().into_bytes()
}

/// A measured server.
pub struct Case<'a> {
    pub name: &'a str,
    pub server: &'a Server,
    pub address: SocketAddr,
    pub requests: Vec<Vec<u8>>,
    pub connections: usize,
    /// Records per request.
    pub records: u64,
}

/// Measurements.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Records per second.
    pub rate: f64,
    /// CPU µs per record, of the server and its children.
    pub cpu: f64,
    /// Milliseconds.
    pub p50: f64,
    /// Milliseconds.
    pub p99: f64,
    /// Peak resident memory.
    pub peak_mb: f64,
}

pub fn print_header() {
    println!(
        "{:<22} {:>6} {:>10} {:>8} {:>8} {:>8} {:>8} {:>7}",
        "what", "conns", "records/s", "p50 ms", "p99 ms", "CPU µs", "peak MB", "ratio"
    );
}

impl Case<'_> {
    /// Runs the load after a short warm-up and prints the row, with the ratio to the rate of `beside`.
    pub async fn measure(
        self,
        common: &Common,
        beside: Option<Measured>,
    ) -> anyhow::Result<Measured> {
        let warm = std::time::Duration::from_secs(1);
        let (address, connections) = (self.address, self.connections);
        load::run(address, self.requests.clone(), connections, warm).await?;
        let before = self.server.cpu_seconds()?;
        let run: Run = load::run(address, self.requests, connections, common.duration()).await?;
        let records = (run.requests * self.records) as f64;
        let measured = Measured {
            rate: records / run.seconds,
            cpu: (self.server.cpu_seconds()? - before) * 1e6 / records,
            p50: run.p50_ms,
            p99: run.p99_ms,
            peak_mb: self.server.peak_mb()?,
        };
        let ratio = beside.map_or(String::new(), |b| format!("{:.2}", measured.rate / b.rate));
        let (
            name,
            Measured {
                rate,
                cpu,
                p50,
                p99,
                peak_mb,
            },
        ) = (self.name, measured);
        println!(
            "{name:<22} {connections:>6} {rate:>10.0} {p50:>8.2} {p99:>8.2} {cpu:>8.1} {peak_mb:>8.0} {ratio:>7}"
        );
        Ok(measured)
    }
}

pub async fn run(common: &Common, connections: &[usize], only: &str) -> anyhow::Result<()> {
    let body = body(0);
    println!(
        "body of {} bytes, {} s per case, client on the same cores",
        body.len(),
        common.seconds
    );
    print_header();
    for &connections in connections {
        let directory = tempfile::tempdir_in("/var/tmp")?;
        let address = free()?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["limit", "--listen", &address.to_string(), "--directory"])
            .arg(directory.path());
        let server = Server::start(&mut command, &directory.path().join("stderr"))?;
        wait_until_listening(address).await?;
        let limit = Case {
            name: "limit",
            server: &server,
            address,
            requests: vec![load::request("/", "application/json", &body)],
            connections,
            records: 1,
        };
        let limit = limit.measure(common, None).await?;
        drop(server);
        for (name, columns) in mappings() {
            if !name.starts_with(only) {
                continue;
            }
            let forebay = Forebay::start(common, 1, &[]).await?;
            let path = forebay.define(1, 0, &columns, &common.settings()?).await?;
            let case = Case {
                name,
                server: &forebay.server,
                address: forebay.source,
                requests: vec![load::request(&path, "application/json", &body)],
                connections,
                records: 1,
            };
            case.measure(common, Some(limit)).await?;
        }
    }
    Ok(())
}
