//! `forebay lookup`: HTTP lookup of table rows by key.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_jobs::definition::LookupConfig;
use forebay_jobs::lookup::LookupService;

use crate::cli_error::CliError;
use crate::config::{Environment, LogFormat, LogOutput, MetricsSection, substitute};
use crate::monitoring::ProcessMetrics;
use crate::signals::{ReloadSignals, StopSignals, end_at_once};
use crate::telemetry;
use crate::terminal;

/// How long requests in progress may take after the signal to stop.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// Serves table rows by key: `GET /product/42` returns the row as JSON.
///
/// SIGTERM and Ctrl-C stop gracefully: requests in progress are finished.
#[derive(Debug, clap::Args)]
pub(crate) struct LookupArgs {
    /// Configuration file of the service (YAML)
    #[arg(long, value_name = "FILE", required_unless_present = "schema")]
    config: Option<PathBuf>,
    /// Address to listen on [default: from the file, or 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Least important log lines: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// Print the JSON schema of the file
    #[arg(long)]
    schema: bool,
}

pub(crate) fn run(args: &LookupArgs, env: &Environment) -> Result<(), CliError> {
    let Some(file) = args.config.as_ref().filter(|_| !args.schema) else {
        return terminal::line(format_args!("{:#}", LookupConfig::schema()));
    };
    let mut config =
        LookupConfig::read(file, &|text| substitute(text, env)).map_err(|problems| {
            CliError::usage(problems)
                .hint("`forebay lookup --schema` prints the schema of the file")
        })?;
    config.listen = args.listen.unwrap_or(config.listen);
    let _flush = telemetry::start_log(
        &LogOutput {
            level: args.log_level.clone(),
            format: LogFormat::Auto,
        },
        None,
    )?;
    let metrics = ProcessMetrics::start(&MetricsSection::default())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::new(format_args!("can't start a runtime: {e}")))?;
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
            () = hangups.next() => tracing::info!("ignored SIGHUP: nothing to reload"),
            () = metrics.run_upkeep() => {}
        }
    }
    tokio::select! {
        in_time = listener.stop(STOP_GRACE) => {
            if !in_time {
                tracing::warn!(grace = ?STOP_GRACE, "stopped with unfinished requests");
            }
            Ok(())
        }
        _ = signals.next() => end_at_once(),
    }
}
