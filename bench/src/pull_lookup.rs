//! Lookups by key compared with a bare handler: hyper, the same driver, one prepared statement, the row
//! as JSON. It has no routes, errors, ETags, metrics, timeouts or cache.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rusqlite::OpenFlags;
use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlTimestamp;
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;

use crate::forebay::{free, wait_until_listening};
use crate::load;
use crate::process::Server;
use crate::pull::{Options, Store, median, run_job};
use crate::pull_limit::cassandra_session;
use crate::pull_rows;

const CONNECTIONS: usize = 64;
/// Number of requested keys.
const KEYS: i64 = 50_000;

#[derive(clap::Args, Clone)]
pub struct LimitOptions {
    #[arg(long)]
    listen: SocketAddr,
    /// SQLite file, or Cassandra node
    #[arg(long)]
    store: String,
    #[arg(long)]
    table: String,
}

pub async fn run(options: &Options, directory: &Path, node: Option<String>) -> anyhow::Result<()> {
    println!(
        "\nLookups, {CONNECTIONS} connections, {KEYS} of {} keys; median of {} runs",
        options.rows, options.repeat
    );
    println!(
        "| from | limit/s | lookups/s | of the limit | limit p99 ms | p99 ms | CPU µs, limit / lookup |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let files =
        pull_rows::write_files(&directory.join("lookup-rows"), options.rows, options.files)?;
    let nodes = node.map(|node| Store::Cassandra(node, None));
    for store in std::iter::once(Store::Sqlite).chain(nodes) {
        let none = json!({"type": "none"});
        let table = format!("{}_lookup", std::process::id());
        let job = store.job(options, directory, "lookup", &table, &files, &none)?;
        run_job(options, &job, options.rows)?;
        // A new table is still being compacted.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (mut bare, mut real) = (Vec::new(), Vec::new());
        for _ in 0..options.repeat.max(1) {
            bare.push(measure_bare(options, directory, &store, &table).await?);
            real.push(measure_real(options, directory, &store, &table).await?);
        }
        let of =
            |runs: &[Asked], value: fn(&Asked) -> f64| median(runs.iter().map(value).collect());
        let (limit, rate) = (of(&bare, |a| a.rate), of(&real, |a| a.rate));
        println!(
            "| {} | {limit:.0} | {rate:.0} | {:.2} | {:.2} | {:.2} | {:.1} / {:.1} |",
            store.name(),
            rate / limit,
            of(&bare, |a| a.p99_ms),
            of(&real, |a| a.p99_ms),
            of(&bare, |a| a.cpu_micros),
            of(&real, |a| a.cpu_micros),
        );
    }
    Ok(())
}

struct Asked {
    rate: f64,
    p99_ms: f64,
    cpu_micros: f64,
}

async fn measure_bare(
    options: &Options,
    directory: &Path,
    store: &Store,
    table: &str,
) -> anyhow::Result<Asked> {
    let address = free()?;
    let mut command = Command::new(std::env::current_exe()?);
    let (place, table) = match store {
        Store::Cassandra(node, _) => (node.clone(), format!("forebay_bench.bench_{table}")),
        Store::Sqlite | Store::Postgres(_) => {
            let path = directory.join("lookup.db");
            (
                path.to_string_lossy().into_owned(),
                format!("bench_{table}"),
            )
        }
    };
    command.args([
        "lookup-limit",
        "--listen",
        &address.to_string(),
        "--store",
        &place,
        "--table",
        &table,
    ]);
    measure(options, &mut command, address, directory).await
}

async fn measure_real(
    options: &Options,
    directory: &Path,
    store: &Store,
    table: &str,
) -> anyhow::Result<Asked> {
    let address = free()?;
    let (keeper, table) = match store {
        Store::Cassandra(node, _) => (
            json!({"type": "cassandra", "nodes": [node]}),
            format!("forebay_bench.bench_{table}"),
        ),
        Store::Sqlite | Store::Postgres(_) => (
            json!({"type": "sqlite", "path": "lookup.db"}),
            format!("bench_{table}"),
        ),
    };
    let config = json!({
        "listen": address, "store": keeper, "routes": [{"path": "/product", "table": table}],
    });
    let file = directory.join("lookup-service.yaml");
    std::fs::write(&file, config.to_string())?;
    let mut command = Command::new(&options.forebay);
    command.env_clear().args(["lookup", "--config"]).arg(&file);
    measure(options, &mut command, address, directory).await
}

async fn measure(
    options: &Options,
    command: &mut Command,
    address: SocketAddr,
    directory: &Path,
) -> anyhow::Result<Asked> {
    let server = Server::start(command, &directory.join("lookup-stderr"))?;
    wait_until_listening(address).await?;
    let requests: Vec<Vec<u8>> = (0..KEYS)
        .map(|n| n.wrapping_mul(7_368_787).rem_euclid(options.rows))
        .map(|id| format!("GET /product/{id} HTTP/1.1\r\nHost: bench\r\n\r\n").into_bytes())
        .collect();
    let warm_up = Duration::from_secs(1);
    load::run(address, requests.clone(), CONNECTIONS, warm_up).await?;
    let before = server.cpu_seconds()?;
    let duration = Duration::from_secs(options.seconds);
    let run = load::run(address, requests, CONNECTIONS, duration).await?;
    let cpu = server.cpu_seconds()? - before;
    Ok(Asked {
        rate: run.requests as f64 / run.seconds,
        p99_ms: run.p99_ms,
        cpu_micros: cpu * 1e6 / run.requests as f64,
    })
}

/// Response of a lookup.
#[derive(Serialize)]
struct Answer {
    id: i64,
    name: String,
    price: f64,
    in_stock: bool,
    added: String,
    description: String,
}

/// Data access of the bare handler.
enum Bare {
    /// One connection per thread.
    Sqlite {
        path: PathBuf,
        sql: String,
    },
    Cassandra(Box<Session>, PreparedStatement),
}

thread_local! {
    static CONNECTION: RefCell<Option<rusqlite::Connection>> = const { RefCell::new(None) };
}

impl Bare {
    async fn open(options: &LimitOptions) -> anyhow::Result<Self> {
        let columns = "id, name, price, in_stock, added, description";
        let sql = format!("SELECT {columns} FROM {} WHERE id = ?", options.table);
        if options.table.contains('.') {
            let session = cassandra_session(&options.store).await?;
            let prepared = session.prepare(sql).await?;
            return Ok(Self::Cassandra(Box::new(session), prepared));
        }
        let path = PathBuf::from(&options.store);
        Ok(Self::Sqlite { path, sql })
    }

    async fn get(&self, id: i64) -> anyhow::Result<Answer> {
        match self {
            // A row in the page cache takes a few microseconds: less than another thread.
            Self::Sqlite { path, sql } => CONNECTION.with_borrow_mut(|connection| {
                let connection = match connection {
                    Some(connection) => connection,
                    None => {
                        let flags =
                            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                        connection.insert(rusqlite::Connection::open_with_flags(path, flags)?)
                    }
                };
                let mut select = connection.prepare_cached(sql)?;
                Ok(select.query_row([id], |r| {
                    Ok(Answer {
                        id: r.get(0)?,
                        name: r.get(1)?,
                        price: r.get(2)?,
                        in_stock: r.get(3)?,
                        added: r.get(4)?,
                        description: r.get(5)?,
                    })
                })?)
            }),
            Self::Cassandra(session, prepared) => {
                let rows = session
                    .execute_unpaged(prepared, (id,))
                    .await?
                    .into_rows_result()?;
                let (id, name, price, in_stock, added, description) =
                    rows.first_row::<(i64, String, f64, bool, CqlTimestamp, String)>()?;
                let added = added.0.to_string();
                Ok(Answer {
                    id,
                    name,
                    price,
                    in_stock,
                    added,
                    description,
                })
            }
        }
    }
}

/// Serves until the process is killed.
pub async fn serve_limit(options: LimitOptions) -> anyhow::Result<()> {
    let bare = Arc::new(Bare::open(&options).await?);
    let listener = TcpListener::bind(options.listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let bare = Arc::clone(&bare);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let bare = Arc::clone(&bare);
                async move {
                    let id = request
                        .uri()
                        .path()
                        .rsplit('/')
                        .next()
                        .context("key")?
                        .parse()?;
                    let answer = serde_json::to_vec(&bare.get(id).await?)?;
                    anyhow::Ok(Response::new(Full::new(Bytes::from(answer))))
                }
            });
            // Disconnects of clients are ignored.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
