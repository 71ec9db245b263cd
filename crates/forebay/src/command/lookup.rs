//! `forebay lookup`: rows of tables by key, over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use forebay_pull::definition::Lookup;
use forebay_pull::lookup::Service;

use crate::config::{Environment, LogFormat, LogOutput, substitute};
use crate::failure::Failure;
use crate::signals::{StopSignals, end_at_once};
use crate::telemetry::{self, Metrics};
use crate::terminal;

/// Serves rows of tables by key: `GET /product/42` answers the row as JSON.
///
/// SIGTERM and Ctrl-C stop in order: requests that were begun are answered.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
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

/// Runs it.
pub(crate) fn run(args: &Args, env: &Environment) -> Result<(), Failure> {
    let Some(file) = args.config.as_ref().filter(|_| !args.schema) else {
        return terminal::line(format_args!("{:#}", Lookup::schema()));
    };
    let mut config = Lookup::read(file, &|text| substitute(text, env)).map_err(|problems| {
        Failure::usage(problems).hint("`forebay lookup --schema` prints what the file may say")
    })?;
    config.listen = args.listen.unwrap_or(config.listen);
    let _flush = telemetry::start_log(&LogOutput {
        level: args.log_level.clone(),
        format: LogFormat::Auto,
    })?;
    let metrics = Metrics::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format_args!("can't start: {e}")))?;
    runtime.block_on(serve(&config, metrics))
}

async fn serve(config: &Lookup, metrics: Metrics) -> Result<(), Failure> {
    let shown = metrics.clone();
    let service = Service::new(config, Arc::new(move || shown.render())).await;
    let service = service.map_err(|e| Failure::new(e).with_code(4))?;
    let listener = tokio::net::TcpListener::bind(config.listen).await;
    let failed = |e| Failure::new(format_args!("can't listen on {}: {e}", config.listen));
    let listener = listener.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let mut signals = StopSignals::catch()?;
    tracing::info!(address = %address, "ready");
    let stop = async move {
        let name = signals.next().await;
        tracing::info!(signal = name, "stopping");
        tokio::spawn(async move {
            signals.next().await;
            end_at_once();
        });
    };
    tokio::select! {
        served = service.serve(listener, stop) => served.map_err(failed),
        () = metrics.keep_tidy() => Ok(()),
    }
}
