//! `forebay backup`: backs up a whole data directory, also while a server uses it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_model::Clock;
use forebay_model::words::counted;
use serde_json::{Value, json};

use super::common::ServerArgs;
use crate::api_client::{self, ApiClient};
use crate::backup::{self, BackupSource};
use crate::cli_error::CliError;
use crate::clock::SystemClock;
use crate::config::Environment;
use crate::{data_dir, terminal};

/// Poll interval for the state of a running backup.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Locked by a running server.
const LOCK_FILE: &str = "meta.lock";

/// Backs up a whole data directory: metadata, log, embedded tables, token; also while the server runs.
///
/// A backup is a consistent snapshot that has every record acknowledged before the command. A running
/// server writes it, on its own machine, and needs an operator's token. Without a server the command
/// copies the files itself. Tables in PostgreSQL and objects in S3 are not included.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay backup --to /backups/monday --data-dir ./data
  (cd /backups/monday && sha256sum -c SHA256SUMS)
  forebay restore --from /backups/monday --data-dir ./data-of-monday")]
pub(crate) struct BackupArgs {
    /// Directory to create on the server's machine; it must be empty or missing
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: BackupArgs, env: Environment) -> Result<(), CliError> {
    let to = std::path::absolute(&args.to).map_err(CliError::new)?;
    let config = args.server.place.load(env.clone(), Vec::new())?.config;
    let elsewhere = args.server.api.is_some() || env.get("FOREBAY_API").is_some();
    let done = match lock_data_dir(&config.data_dir)? {
        DataDirLock::Ours(_lock) => {
            let origin = BackupSource {
                dir: config.data_dir.clone(),
                tables: config.table.resolve_sqlite(&config.data_dir).path,
            };
            let done = backup::offline(&origin, &to, SystemClock.now()).map_err(CliError::new)?;
            done.json()
        }
        DataDirLock::Missing if !elsewhere => {
            return Err(CliError::new(format_args!(
                "{} is not the data directory of a server",
                config.data_dir.display()
            ))
            .hint("set it with --data-dir, or a server with --api"));
        }
        DataDirLock::Missing | DataDirLock::ByServer => {
            api_client::block_on(back_up_by_server(&args.server, env, &to))?
        }
    };
    if args.json {
        return terminal::line(done);
    }
    terminal::line(format_args!(
        "{}, {} bytes in {}",
        counted(done["files"].as_u64().unwrap_or_default(), "file"),
        done["bytes"],
        to.display()
    ))
}

enum DataDirLock {
    /// Locked until this is dropped.
    Ours(std::fs::File),
    ByServer,
    Missing,
}

fn lock_data_dir(dir: &Path) -> Result<DataDirLock, CliError> {
    use rustix::fs::{FlockOperation, flock};
    let path = dir.join(LOCK_FILE);
    let failed = |e: std::io::Error| CliError::new(format_args!("{}: {e}", path.display()));
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(DataDirLock::Missing),
        Err(e) => return Err(failed(e)),
    };
    data_dir::check_dir(dir, None)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(DataDirLock::Ours(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(DataDirLock::ByServer),
        Err(e) => Err(failed(e.into())),
    }
}

async fn back_up_by_server(
    server: &ServerArgs,
    env: Environment,
    to: &Path,
) -> Result<Value, CliError> {
    let api = ApiClient::new(server, env)?;
    let wanted = json!({ "to": to });
    let _: Value = api.call(reqwest::Method::POST, "/backup", &wanted).await?;
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let state: Value = api.get("/backup").await?;
        if state["to"] != json!(to) {
            return Err(CliError::new("another backup was started in the meantime"));
        }
        match state["state"].as_str() {
            Some("running") => {}
            Some("done") => return Ok(state),
            _ => {
                let cause = state["cause"]
                    .as_str()
                    .unwrap_or("the server was restarted");
                return Err(CliError::new(format_args!("backup failed: {cause}")));
            }
        }
    }
}
