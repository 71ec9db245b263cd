//! Forebay compared with the limit, in one run: `just bench http`, `just bench --help` for the others.
//!
//! Absolute numbers vary by machine and over time; `docs/benchmarks.md` records the ratio in the last
//! column.

mod batch;
mod delivery;
mod forebay;
mod http;
mod large;
mod limit;
mod load;
mod log;
mod log_backlog;
mod log_limit;
mod process;
mod pull;
mod pull_limit;
mod pull_lookup;
mod pull_rows;
mod pull_source;
mod quota;
mod signature;
mod sinks;
mod sync;
mod wait;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Bench,
}

/// Arguments of all cases.
#[derive(Args, Clone)]
struct Common {
    /// The forebay binary.
    #[arg(long, default_value = "target/dist/forebay")]
    forebay: PathBuf,
    /// Seconds of load per case
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// More arguments of `forebay serve`
    #[arg(long, allow_hyphen_values = true)]
    serve_arg: Vec<String>,
    /// Settings of the sinks, NAME=VALUE, without `storage.level.`
    #[arg(long)]
    setting: Vec<String>,
}

impl Common {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

#[derive(Subcommand)]
enum Bench {
    /// One record per request compared with a bare server with group commit.
    Http {
        #[command(flatten)]
        common: Common,
        /// Connections, comma-separated
        #[arg(long, value_delimiter = ',', default_values_t = [64, 512])]
        connections: Vec<usize>,
        /// Only mappings whose name starts with this
        #[arg(long, default_value = "")]
        only: String,
    },
    /// NDJSON batches of 1,000 records compared with the codecs alone.
    Batch {
        #[command(flatten)]
        common: Common,
    },
    /// One sink compared with 1,000 and 10,000, and memory per sink.
    Sinks {
        #[command(flatten)]
        common: Common,
        /// Numbers of sinks, comma-separated, multiples of 100; 1 is always measured
        #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000])]
        sinks: Vec<usize>,
    },
    /// fsync before the response compared with none.
    Sync {
        #[command(flatten)]
        common: Common,
    },
    /// From record to row: delay, memory of an idle node, upload and import compared with plain copies.
    Delivery {
        #[command(flatten)]
        common: Common,
    },
    /// Appending to the log compared with a plain loop of writes and syncs, and reopening a backlog.
    Log(log::Options),
    /// Jobs and lookups compared with bare loops of the same drivers and a bare parser of the same
    /// files.
    Pull(pull::Options),
    /// The limit of a lookup as a separate server (started by the benchmark).
    #[command(hide = true)]
    LookupLimit(pull_lookup::LimitOptions),
    /// A project next to another one at a hundred times its quota.
    Quota(quota::Options),
    /// Signed requests compared with the same ones to a source that needs no signature.
    Signature {
        #[command(flatten)]
        common: Common,
        /// Connections
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// Rounds of all cases
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// A quiet source next to one whose bodies inflate a thousand times.
    Large(large::Options),
    /// Requests without waiting for responses (started by the benchmark).
    #[command(hide = true)]
    Noise {
        #[arg(long)]
        target: SocketAddr,
        #[arg(long)]
        path: String,
        #[arg(long)]
        rate: u32,
        #[arg(long)]
        connections: u32,
    },
    /// A listener that reads and discards (started by the benchmark).
    #[command(hide = true)]
    Forget {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// The limit as a separate server (started by the benchmark).
    #[command(hide = true)]
    Limit {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        directory: PathBuf,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Bench::Limit { listen, directory } => limit::serve(listen, &directory).await,
        Bench::Log(options) => log::run(&options),
        Bench::Pull(options) => pull::run(&options).await,
        Bench::LookupLimit(options) => pull_lookup::serve_limit(options).await,
        Bench::Quota(options) => quota::run(&options).await,
        Bench::Large(options) => large::run(&options).await,
        Bench::Noise {
            target,
            path,
            rate,
            connections,
        } => quota::noise(target, &path, rate, connections).await,
        Bench::Forget { listen } => quota::forget(listen).await,
        Bench::Http {
            common,
            connections,
            only,
        } => http::run(&common, &connections, &only).await,
        Bench::Signature {
            common,
            connections,
            rounds,
        } => signature::run(&common, connections, rounds).await,
        Bench::Batch { common } => batch::run(&common).await,
        Bench::Sinks { common, sinks } => sinks::run(&common, &sinks).await,
        Bench::Sync { common } => sync::run(&common).await,
        Bench::Delivery { common } => delivery::run(&common).await,
    }
}
