//! `forebay lookup`: rows of tables by key, over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_pull::definition::LookupConfig;
use forebay_pull::lookup::LookupService;

use crate::cli_error::CliError;
use crate::config::{Environment, LogFormat, LogOutput, MetricsSection, substitute};
use crate::signals::{ReloadSignals, StopSignals, end_at_once};
use crate::telemetry::{self, ProcessMetrics};
use crate::terminal;

/// How long requests that were begun may take after the signal to stop.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// Serves rows of tables by key: `GET /product/42` answers the row as JSON.
///
/// SIGTERM and Ctrl-C stop in order: requests that were begun are answered.
#[derive(Debug, clap::Args)]
pub(crate) struct LookupArgs {
    /// The service's file (YAML)
    #[arg(long, value_name = "FILE", required_unless_present = "schema")]
    config: Option<PathBuf>,
    /// Address to listen on [default: what the file says, or 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Least important log lines: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// Prints the JSON schema of the file
    #[arg(long)]
    schema: bool,
}

pub(crate) fn run(args: &LookupArgs, env: &Environment) -> Result<(), CliError> {
    let Some(file) = args.config.as_ref().filter(|_| !args.schema) else {
        return terminal::line(format_args!("{:#}", LookupConfig::schema()));
    };
    let mut config =
        LookupConfig::read(file, &|text| substitute(text, env)).map_err(|problems| {
            CliError::usage(problems).hint("`forebay lookup --schema` prints what the file may say")
        })?;
    config.listen = args.listen.unwrap_or(config.listen);
    let _flush = telemetry::start_log(&LogOutput {
        level: args.log_level.clone(),
        format: LogFormat::Auto,
    })?;
    let metrics = ProcessMetrics::start(&MetricsSection::default())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::new(format_args!("can't start: {e}")))?;
    runtime.block_on(serve(&config, metrics))
}

async fn serve(config: &LookupConfig, metrics: ProcessMetrics) -> Result<(), CliError> {
    let shown = metrics.clone();
    let service = LookupService::new(config, Arc::new(move || shown.render())).await;
    let service = service.map_err(|e| CliError::new(e).with_code(4))?;
    let bound = forebay_listener::bind(config.listen).await;
    let (socket, address) = bound.map_err(CliError::new)?;
    let mut signals = StopSignals::catch()?;
    let mut hangups = ReloadSignals::catch()?;
    let listener = service.serve(socket);
    tracing::info!(address = %address, "ready");
    loop {
        tokio::select! {
            signal = signals.next() => {
                tracing::info!(signal, "stopping");
                break;
            }
            () = hangups.next() => tracing::info!("SIGHUP: there is nothing to read again"),
            () = metrics.run_upkeep() => {}
        }
    }
    tokio::select! {
        in_time = listener.stop(STOP_GRACE) => {
            if !in_time {
                tracing::warn!(grace = ?STOP_GRACE, "stopped; not every request was finished in time");
            }
            Ok(())
        }
        _ = signals.next() => end_at_once(),
    }
}
