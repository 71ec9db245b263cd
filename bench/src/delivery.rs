//! From a record to its row: delay with the shortest triggers, resources of an idle node, and
//! throughput of upload and import compared with plain copies of the same bytes.

use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use crate::Common;
use crate::forebay::Forebay;
use crate::http::{body, body_columns};
use crate::load;
use crate::wait::wait_for;

const DELAYS: usize = 10;
const BACKLOG: u64 = 300_000;
const RECORDS: usize = 1_000;
/// Time after the last import until the node counts as idle.
const SETTLING: Duration = Duration::from_secs(2);
/// Measured time of the idle node.
const IDLE: Duration = Duration::from_secs(5);

pub async fn run(common: &Common) -> anyhow::Result<()> {
    delay(common).await?;
    backlog(common).await
}

/// Settings for the shortest delay.
fn shortest() -> Vec<(String, Value)> {
    let one = json!("1s");
    vec![
        ("staging.upload.trigger.interval".to_owned(), one.clone()),
        ("target.import.trigger.interval".to_owned(), one),
        ("staging.upload.trigger.count".to_owned(), json!(1)),
        ("target.import.trigger.count".to_owned(), json!(1)),
    ]
}

async fn imported(forebay: &Forebay) -> anyhow::Result<u64> {
    let balance = forebay.balance(0).await?;
    balance["imported"].as_u64().context("imported")
}

async fn wait_imported(forebay: &Forebay, count: u64) -> anyhow::Result<()> {
    wait_for("imported rows", async || {
        let is_there = imported(forebay).await? >= count;
        Ok(is_there.then_some(()))
    })
    .await
}

async fn post(forebay: &Forebay, request: &[u8], times: usize) -> anyhow::Result<()> {
    load::send(forebay.source, request, times).await
}

async fn delay(common: &Common) -> anyhow::Result<()> {
    let forebay = Forebay::start(common, 1, &[]).await?;
    let path = forebay.define(1, 0, &body_columns(), &shortest()).await?;
    let request = load::request(&path, "application/json", &body(0));
    let mut delays = Vec::new();
    for n in 1..=DELAYS {
        let sent = Instant::now();
        post(&forebay, &request, 1).await?;
        wait_imported(&forebay, n as u64).await?;
        delays.push(sent.elapsed().as_secs_f64());
    }
    delays.sort_by(f64::total_cmp);
    println!(
        "record to row, shortest triggers: median {:.2} s, longest {:.2} s of {DELAYS}",
        delays[DELAYS / 2],
        delays[DELAYS - 1]
    );
    tokio::time::sleep(SETTLING).await;
    let (mb, before) = (forebay.server.memory_mb()?, forebay.server.cpu_seconds()?);
    tokio::time::sleep(IDLE).await;
    let cpu = (forebay.server.cpu_seconds()? - before) / IDLE.as_secs_f64() * 100.0;
    println!("idle: {mb:.0} MB resident, {cpu:.1} % of a core");
    Ok(())
}

/// Uploads and imports a backlog from the log.
async fn backlog(common: &Common) -> anyhow::Result<()> {
    let forebay = Forebay::start(common, 1, &[]).await?;
    let never = |name: &str, value: Value| (name.to_owned(), value);
    let settings = vec![
        never("staging.upload.trigger.interval", json!("30m")),
        never("staging.upload.trigger.count", json!(10_000_000)),
        never("staging.upload.trigger.size", json!("50MB")),
        never("target.import.trigger.interval", json!("10s")),
        never("target.import.trigger.count", json!(10_000_000)),
        never("target.import.trigger.size", json!("500MB")),
    ];
    let path = forebay.define(1, 0, &body_columns(), &settings).await?;
    let batch: Vec<u8> = (0..RECORDS)
        .flat_map(|n| [body(n), b"\n".to_vec()].concat())
        .collect();
    let request = load::request(&path, "application/x-ndjson", &batch);
    post(&forebay, &request, (BACKLOG as usize) / RECORDS).await?;
    let total = batch.len() as f64 * BACKLOG as f64 / RECORDS as f64 / 1e6;
    let before = forebay.server.cpu_seconds()?;
    // The file is closed by its age; then upload and import run at full speed.
    wait_for("begin of the upload", async || {
        let has_begun = forebay.server.cpu_seconds()? - before >= 0.05;
        Ok(has_begun.then_some(()))
    })
    .await?;
    let begun = Instant::now();
    wait_imported(&forebay, BACKLOG).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = forebay.server.cpu_seconds()? - before;
    println!(
        "upload and import of {total:.0} MB, {BACKLOG} rows: {:.0} MB/s, {:.0} rows/s, {:.1} CPU µs a row, peak {:.0} MB",
        total / seconds,
        BACKLOG as f64 / seconds,
        cpu * 1e6 / BACKLOG as f64,
        forebay.server.peak_mb()?
    );
    let tables = forebay.directory.path().join("data/tables.db");
    let bytes = std::fs::metadata(&tables)?.len() as f64 / 1e6;
    let copy = copy(&tables, forebay.directory.path())?;
    println!(
        "plain copy of its table's {bytes:.0} MB, synced: {:.0} MB/s; ratio {:.2}",
        bytes / copy,
        (bytes / seconds) / (bytes / copy)
    );
    let inserts = bare_inserts(forebay.directory.path(), &batch)?;
    println!(
        "bare SQLite inserts of the same rows: {inserts:.0} rows/s; ratio {:.2}",
        BACKLOG as f64 / seconds / inserts
    );
    Ok(())
}

/// Seconds of a synced copy of a file.
fn copy(from: &Path, directory: &Path) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut reader = std::fs::File::open(from)?;
    let mut writer = std::fs::File::create(directory.join("copy"))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = reader.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        writer.write_all(&buffer[..n])?;
    }
    writer.sync_all()?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Rows per second of a loop over one prepared statement in one transaction, on one thread.
fn bare_inserts(directory: &Path, batch: &[u8]) -> anyhow::Result<f64> {
    let mut db = rusqlite::Connection::open(directory.join("bare.db"))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute("CREATE TABLE t (id TEXT, at TEXT, body TEXT)", [])?;
    let text = std::str::from_utf8(batch)?;
    let begun = Instant::now();
    let transaction = db.transaction()?;
    {
        let mut insert = transaction.prepare("INSERT INTO t VALUES (?, ?, ?)")?;
        for _ in 0..BACKLOG as usize / RECORDS {
            for line in text.lines() {
                let (id, at) = (
                    "01932f1c-7c3a-7000-8000-0123456789ab",
                    "2026-11-21T05:01:49.120Z",
                );
                insert.execute((id, at, line))?;
            }
        }
    }
    transaction.commit()?;
    Ok(BACKLOG as f64 / begun.elapsed().as_secs_f64())
}
