//! Jobs and lookups compared with the limit: rows per second into each store compared with a bare loop
//! of its driver and a bare parser of the same files; a second run with a warm cache; memory by file
//! size; use of a rate limit; lookups compared with a bare handler.
//!
//! Services come from the variables of `scripts/services`; missing ones are skipped with a message.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::pull_rows::Product;
use crate::wait::STEP;
use crate::{pull_limit, pull_lookup, pull_rows, pull_source};

/// Keys of the large file: its table stays small.
const LARGE_KEYS: i64 = 100_000;

#[derive(clap::Args, Clone)]
pub struct Options {
    /// The forebay binary, with Cassandra and Redis.
    #[arg(long, default_value = "target/dist/forebay")]
    pub forebay: PathBuf,
    /// Cases, comma-separated
    #[arg(long, value_delimiter = ',', default_values = ["sqlite", "postgres", "cassandra", "memory", "source", "lookup"])]
    pub only: Vec<String>,
    /// Rows of the files
    #[arg(long, default_value_t = 1_000_000)]
    pub rows: i64,
    /// Number of files
    #[arg(long, default_value_t = 4)]
    pub files: i64,
    /// Runs of each; the median counts
    #[arg(long, default_value_t = 3)]
    pub repeat: usize,
    /// Size of the large file in MiB
    #[arg(long, default_value_t = 4096)]
    pub large_mb: u64,
    /// Seconds of load per lookup case
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Directory of files and tables
    #[arg(long, default_value = "/var/tmp")]
    pub directory: PathBuf,
    /// More keys of the destination, JSON
    #[arg(long, default_value = "{}")]
    pub destination: String,
}

/// A store of the tables, with its cache.
pub enum Store {
    Sqlite,
    Postgres(String),
    Cassandra(String, Option<String>),
}

pub async fn run(options: &Options) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(&options.directory)?;
    let wanted = |name: &str| options.only.iter().any(|o| o == name);
    let mut stores = Vec::new();
    if wanted("sqlite") {
        stores.push(Store::Sqlite);
    }
    if let Some(url) = service(wanted("postgres"), "FOREBAY_TEST_POSTGRES_URL") {
        stores.push(Store::Postgres(url));
    }
    if let Some(node) = service(wanted("cassandra"), "FOREBAY_TEST_CASSANDRA_NODE") {
        let redis = service(true, "FOREBAY_TEST_REDIS_URL");
        stores.push(Store::Cassandra(node, redis));
    }
    if !stores.is_empty() {
        rows(options, directory.path(), &stores).await?;
    }
    if wanted("memory") {
        memory(options, directory.path())?;
    }
    if wanted("source") {
        pull_source::run(options, directory.path()).await?;
    }
    if wanted("lookup") {
        let node = service(true, "FOREBAY_TEST_CASSANDRA_NODE");
        pull_lookup::run(options, directory.path(), node).await?;
    }
    Ok(())
}

/// Address of a service.
fn service(is_wanted: bool, variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok().filter(|_| is_wanted);
    if is_wanted && found.is_none() {
        println!("SKIPPED: {variable} is not set (scripts/services/up)");
    }
    found
}

async fn rows(options: &Options, directory: &Path, stores: &[Store]) -> anyhow::Result<()> {
    let files = pull_rows::write_files(&directory.join("rows"), options.rows, options.files)?;
    let products: Arc<Vec<Product>> =
        Arc::new((0..options.rows).map(|n| Product::new(n, n)).collect());
    println!(
        "\n{} rows in {} files; median of {} runs; the limit is the slower of parser and driver",
        options.rows, options.files, options.repeat
    );
    println!(
        "| into | parser rows/s | driver rows/s | job rows/s | of the limit | CPU s | peak MB | with a cold cache | with a warm one | of the first |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for store in stores {
        let mut parser = Vec::new();
        let mut driver = Vec::new();
        let mut runs: [Vec<Ran>; 3] = Default::default();
        for repeat in 0..options.repeat.max(1) {
            parser.push(pull_rows::parse(&files)?);
            let place = directory.join(format!("{}-{repeat}", store.name()));
            std::fs::create_dir(&place)?;
            driver.push(store.bare(&place, &products).await?);
            for (ran, (name, cache)) in runs.iter_mut().zip([
                ("plain", json!({"type": "none"})),
                ("cached", store.cache()),
                ("cached", store.cache()),
            ]) {
                let table = format!("{}_{name}_{repeat}", std::process::id());
                let job = store.job(options, &place, name, &table, &files, &cache)?;
                ran.push(run_job(options, &job, options.rows)?);
            }
            std::fs::remove_dir_all(&place)?;
        }
        let (parser, driver) = (median(parser), median(driver));
        let seconds = |runs: &[Ran]| median(runs.iter().map(|r| r.seconds).collect());
        let rate = |runs: &[Ran]| options.rows as f64 / seconds(runs);
        let [plain, cold, warm] = &runs;
        println!(
            "| {} | {parser:.0} | {driver:.0} | {:.0} | {:.2} | {:.1} | {:.0} | {:.2} s | {:.2} s | {:.2} |",
            store.name(),
            rate(plain),
            rate(plain) / parser.min(driver),
            median(plain.iter().map(|r| r.cpu).collect()),
            median(plain.iter().map(|r| r.peak_mb).collect()),
            seconds(cold),
            seconds(warm),
            seconds(warm) / seconds(cold),
        );
    }
    Ok(())
}

/// Peak memory of a job by the size of its one file.
fn memory(options: &Options, directory: &Path) -> anyhow::Result<()> {
    println!("\nOne file into SQLite, {LARGE_KEYS} keys");
    println!("| MiB | rows | rows/s | peak MB |");
    println!("| --- | --- | --- | --- |");
    for mb in [
        options.large_mb / 16,
        options.large_mb / 4,
        options.large_mb,
    ] {
        let place = directory.join(format!("large-{mb}"));
        std::fs::create_dir(&place)?;
        let file = place.join("large.jsonl");
        let rows = pull_rows::write_large(&file, mb << 20, LARGE_KEYS)?;
        let cache = json!({"type": "none"});
        let job = Store::Sqlite.job(options, &place, "large", "large", &[file], &cache)?;
        let ran = run_job(options, &job, rows)?;
        println!(
            "| {mb} | {rows} | {:.0} | {:.0} |",
            rows as f64 / ran.seconds,
            ran.peak_mb
        );
        std::fs::remove_dir_all(&place)?;
    }
    Ok(())
}

impl Store {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
            Self::Cassandra(..) => "Cassandra",
        }
    }

    fn cache(&self) -> Value {
        match self {
            Self::Cassandra(_, Some(redis)) => json!({"type": "redis", "url": redis}),
            Self::Sqlite | Self::Postgres(_) | Self::Cassandra(..) => json!({"type": "embedded"}),
        }
    }

    async fn bare(&self, place: &Path, rows: &Arc<Vec<Product>>) -> anyhow::Result<f64> {
        match self {
            Self::Sqlite => {
                let (path, rows) = (place.join("bare.db"), Arc::clone(rows));
                tokio::task::spawn_blocking(move || pull_limit::sqlite(&path, &rows)).await?
            }
            Self::Postgres(url) => pull_limit::postgres(url, "bench_bare", rows).await,
            Self::Cassandra(node, _) => {
                pull_limit::cassandra(node, "forebay_bench.bare", rows).await
            }
        }
    }

    /// Job file for a table of this store, named `bench_<table>`.
    pub fn job(
        &self,
        options: &Options,
        place: &Path,
        name: &str,
        table: &str,
        files: &[PathBuf],
        cache: &Value,
    ) -> anyhow::Result<PathBuf> {
        let (store, table) = match self {
            Self::Sqlite => (
                json!({"type": "sqlite", "path": format!("{name}.db")}),
                format!("bench_{table}"),
            ),
            Self::Postgres(url) => (
                json!({"type": "postgres", "url": url}),
                format!("bench_{table}"),
            ),
            Self::Cassandra(node, _) => (
                json!({"type": "cassandra", "nodes": [node]}),
                format!("forebay_bench.bench_{table}"),
            ),
        };
        let mut destination = json!({
            "type": "table", "store": store, "table": table,
            "columns": pull_rows::columns(), "cache": cache,
        });
        let more: Value = serde_json::from_str(&options.destination)?;
        let more = more.as_object().context("--destination is no object")?;
        for (key, value) in more {
            destination[key] = value.clone();
        }
        let job = json!({
            "name": name,
            "source": {"type": "files", "paths": files},
            "destination": destination,
        });
        let path = place.join(format!("{name}.yaml"));
        // JSON is YAML.
        std::fs::write(&path, job.to_string())?;
        Ok(path)
    }
}

/// Result of a job.
pub struct Ran {
    pub seconds: f64,
    pub cpu: f64,
    pub peak_mb: f64,
}

/// Runs a job to its end; it must resolve that many rows.
pub fn run_job(options: &Options, job: &Path, rows: i64) -> anyhow::Result<Ran> {
    let begin = Instant::now();
    let mut command = Command::new(&options.forebay);
    command.env_clear().args(["job", "run", "--json"]).arg(job);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = child.spawn().with_context(|| format!("{command:?}"))?;
    let (mut peak_mb, mut cpu): (f64, f64) = (0.0, 0.0);
    // Its output fits into a pipe, so it can't block.
    while child.try_wait()?.is_none() {
        if let Some((peak, seconds)) = crate::process::usage(child.id()) {
            (peak_mb, cpu) = (peak_mb.max(peak), seconds.max(cpu));
        }
        std::thread::sleep(STEP);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let output = child.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{command:?}: {stderr}");
    }
    let summary: Value =
        serde_json::from_slice(&output.stdout).with_context(|| stderr.into_owned())?;
    let count = |name: &str| summary[name].as_i64().unwrap_or(0);
    let settled = count("written") + count("unchanged") + count("superseded");
    if settled != rows {
        bail!("{settled} rows of {rows} were resolved: {summary}");
    }
    Ok(Ran {
        seconds,
        cpu,
        peak_mb,
    })
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
