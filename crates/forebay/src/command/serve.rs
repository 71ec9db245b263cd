//! `forebay serve`: the server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay_control::auth::ConfiguredTokens;
use tokio::sync::watch;

use super::common::{ConfigArgs, violations_error};
use crate::banner::{self, ProcessInvocation};
use crate::cli_error::CliError;
use crate::clock::SystemClock;
use crate::config::{
    self, Config, ConfigSources, DefinitionsSection, Environment, FlagSettings, LoadedConfig,
    NodeRole, listener_url,
};
use crate::data_dir;
use crate::definitions::DefinitionFollower;
use crate::descriptors;
use crate::endpoints::{Endpoints, PublishedEndpoints};
use crate::monitoring::ProcessMetrics;
use crate::otlp::TelemetryExport;
use crate::preflight;
use crate::reload::ConfigReloader;
use crate::roles::RunningNode;
use crate::service_manager::ServiceManager;
use crate::signals::{ReloadSignals, StopSignals, end_at_once};
use crate::standby;
use crate::telemetry;
use crate::token::{self, ApiToken};

/// Accepts records and loads them into tables.
///
/// The first start creates a token for the management API in the data directory. On SIGTERM or Ctrl-C
/// Forebay stops accepting records and finishes work in progress. A second signal exits immediately;
/// acknowledged records are never lost. SIGHUP reloads the configuration and the certificates.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay serve --data-dir ./data
  forebay serve --config forebay.yaml --source-listen 0.0.0.0:7000
  forebay serve --data-dir ./data --definitions ./definitions
  FOREBAY_DATA_DIR=/var/lib/forebay forebay serve --set storage.level.target.import.trigger.interval=30s")]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    place: ConfigArgs,
    /// Address and port of the management API [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS")]
    api_listen: Option<String>,
    /// Address and port for records [default: 127.0.0.1:7000]
    #[arg(long, value_name = "ADDRESS")]
    source_listen: Option<String>,
    /// File with the token for the management API [default: `token` in the data directory, created at
    /// the first start]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Folder with definition files, applied at the start and after each change [default: no folder]
    #[arg(long, value_name = "DIR")]
    definitions: Option<PathBuf>,
    /// Comma-separated roles of this process [default: api,source,storage,coordinator]
    #[arg(long, value_name = "ROLES")]
    roles: Option<String>,
    /// Start although the metadata store has lost committed transactions, with the data that is left
    #[arg(long)]
    accept_metadata_loss: bool,
    /// Set any other key of the configuration; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.to_owned())),
        None => Err("a setting is KEY=VALUE, like log.sync=cache".to_owned()),
    }
}

impl ServeArgs {
    fn flags(&self) -> FlagSettings {
        let mut flags: FlagSettings = Vec::new();
        let mut add = |flag, key: &str, value: Option<String>| {
            flags.extend(value.map(|v| (flag, key.to_owned(), v)));
        };
        add("--api-listen", "api.listen", self.api_listen.clone());
        let source = self.source_listen.clone();
        add("--source-listen", "source.http.listen", source);
        add(
            "--token-file",
            "tokenFile",
            self.token_file.as_ref().map(|f| f.display().to_string()),
        );
        add(
            "--definitions",
            "definitions.dir",
            self.definitions.as_ref().map(|d| d.display().to_string()),
        );
        add("--roles", "roles", self.roles.clone());
        for (key, value) in &self.set {
            add("--set", key, Some(value.clone()));
        }
        flags
    }
}

pub(crate) fn run(args: ServeArgs, env: Environment) -> Result<(), CliError> {
    let sources = args.place.sources(env, args.flags());
    let loaded = config::load(&sources).map_err(|problems| violations_error(&problems))?;
    let started =
        ProcessInvocation::new(args.place.config.as_deref(), args.place.data_dir.as_deref());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|e| CliError::new(format_args!("can't start a runtime: {e}")))?;
    runtime.block_on(serve(&sources, loaded, &started, args.accept_metadata_loss))
}

/// Opens the data directory and starts the node. All checks that don't need the directory run before
/// the first write to it.
async fn start(
    config: &Config,
    environment: &Environment,
    metrics: &ProcessMetrics,
    manager: &ServiceManager,
    accept_loss: bool,
) -> Result<(RunningNode, ApiToken, ConfiguredTokens), CliError> {
    preflight::check(config, environment).await?;
    if config.token.is_some() || config.token_file.is_some() {
        token::authenticate(config, &token::for_server(config)?)?;
    }
    data_dir::create(&config.data_dir)?;
    let token = token::for_server(config)?;
    let auth = token::authenticate(config, &token)?;
    let store = standby::open(config, manager, accept_loss).await?;
    let clock = Arc::new(SystemClock);
    let node = RunningNode::start_on(
        store,
        config,
        environment,
        clock,
        auth.clone(),
        Some(metrics),
    );
    Ok((Box::pin(node).await?, token, auth))
}

async fn serve(
    sources: &ConfigSources,
    loaded: LoadedConfig,
    started: &ProcessInvocation,
    accept_loss: bool,
) -> Result<(), CliError> {
    let mut signals = StopSignals::catch()?;
    let mut hangups = ReloadSignals::catch()?;
    let export = TelemetryExport::start(&loaded.config, Arc::new(SystemClock))?;
    let log_lines = telemetry::start_log(&loaded.config.telemetry.log, export.layer())?;
    let mut config = loaded.config.clone();
    descriptors::limit_connections(&mut config);
    let config = &config;
    let manager = ServiceManager::start(&loaded.env);
    let metrics = ProcessMetrics::start(&config.telemetry.metrics)?;
    let (mut node, token, auth) = tokio::select! {
        started = Box::pin(start(config, &loaded.env, &metrics, &manager, accept_loss)) => started?,
        // Nothing was accepted yet, so there is nothing to drain.
        signal = signals.next() => {
            tracing::info!(signal, "stopped while starting");
            return Ok(());
        }
    };
    metrics.attach_node(node.disk_metrics(), node.tls.clone(), node.templates());
    let (_published, status) = announce(config, &node, &manager, started, &token);
    let (definitions, settings) = watch::channel(config.definitions.clone());
    let following = follow_definitions(loaded.env.clone(), settings, &node, &token)?;
    tokio::pin!(following);
    let mut reloader = ConfigReloader {
        sources,
        current: loaded,
        level: log_lines.level.clone(),
        tls: node.tls.clone(),
        auth,
        metrics: metrics.clone(),
        definitions,
    };
    let failure = loop {
        tokio::select! {
            signal = signals.next() => {
                tracing::info!(signal, "stopping");
                break None;
            }
            () = hangups.next() => manager.during_reload(&status, || reloader.reload()),
            cause = node.task_failure() => {
                tracing::error!(%cause, "stopping");
                break Some(cause);
            }
            () = metrics.run_upkeep() => break None,
            () = export.run(&metrics) => break None,
            () = &mut following => break None,
        }
    };
    let grace = config.shutdown.grace.0;
    manager.stopping(grace);
    tokio::select! {
        in_time = node.stop(grace) => {
            if in_time {
                tracing::info!("stopped");
            } else {
                tracing::warn!(?grace, "stopped with unfinished work");
            }
        }
        signal = signals.next() => {
            tracing::warn!(signal, "stopped immediately");
            log_lines.flush.flush();
            end_at_once();
        }
    }
    export.stop(&metrics).await;
    match failure {
        Some(cause) => Err(CliError::new(cause)),
        None => Ok(()),
    }
}

/// Applies the configured folder with definitions, and follows its changes. Never ends.
fn follow_definitions(
    env: Environment,
    settings: watch::Receiver<DefinitionsSection>,
    node: &RunningNode,
    token: &ApiToken,
) -> Result<impl Future<Output = ()> + use<>, CliError> {
    let api = node.local_api(token.secret.expose()).transpose()?;
    let follower = api.map(|api| DefinitionFollower {
        api,
        env,
        state: node.definitions.clone(),
        settings,
    });
    Ok(async move {
        match follower {
            Some(follower) => follower.run().await,
            None => std::future::pending().await,
        }
    })
}

/// Tells logs, clients, the service manager and the user that the server is ready. Returns its published
/// addresses, and its status line.
fn announce(
    config: &Config,
    node: &RunningNode,
    manager: &ServiceManager,
    started: &ProcessInvocation,
    token: &ApiToken,
) -> (Option<PublishedEndpoints>, String) {
    tracing::info!(api = %node.api, source = %node.source, data = %config.data_dir.display(), "ready");
    if token.is_new
        && let Some(file) = &token.file
    {
        tracing::info!(file = %file.display(), "created a token for the management API");
    }
    let published = publish(config, node);
    warn_of_readers(&config.data_dir);
    let status = report_ready(manager, config, node);
    banner::show(node, config.api.tls.is_some(), started, token);
    (published, status)
}

/// Reports the end of the start to the service manager; returns its status line.
fn report_ready(manager: &ServiceManager, config: &Config, node: &RunningNode) -> String {
    let status = if config.has(NodeRole::Source) {
        format!("accepting records at {}", node.source_url)
    } else {
        format!("ready at {}", node.api)
    };
    manager.ready(&status);
    status
}

/// Publishes the server's addresses in the data directory until the result is dropped.
fn publish(config: &Config, node: &RunningNode) -> Option<PublishedEndpoints> {
    let api = || listener_url(node.api, config.api.tls.is_some());
    let endpoints = Endpoints {
        api: config.has(NodeRole::Api).then(api),
        source: config
            .has(NodeRole::Source)
            .then(|| node.source_url.clone()),
    };
    match endpoints.publish(&config.data_dir) {
        Ok(published) => Some(published),
        Err(error) => {
            tracing::warn!(%error, "can't publish the addresses in the data directory; clients need --api");
            None
        }
    }
}

/// Warns if other users of this host may read the data directory. Forebay creates files for their owner
/// only, and does not change an existing directory.
fn warn_of_readers(data_dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(data_dir).map(|m| m.permissions().mode() & 0o777);
    if let Ok(mode) = mode
        && mode & 0o077 != 0
    {
        tracing::warn!(
            dir = %data_dir.display(),
            mode = format_args!("{mode:04o}"),
            "other users of this host may read the data directory; chmod 700 prevents it"
        );
    }
}
