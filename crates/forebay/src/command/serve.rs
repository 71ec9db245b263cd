//! `forebay serve`: the server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use forebay_control::auth::{ConfiguredTokens, TokenConfig};

use super::common::{Place, refused};
use crate::banner::{self, Started};
use crate::clock::SystemClock;
use crate::config::{self, Config, Environment, Flags, Loaded, Sources};
use crate::failure::Failure;
use crate::reload::Reloader;
use crate::roles::Node;
use crate::signals::{ReloadSignals, StopSignals, end_at_once};
use crate::telemetry::{self, Metrics};
use crate::token::{self, Token};

/// Project and branch that the server's own token opens.
const PROJECT: u64 = 1;
const BRANCH: u64 = 1;

/// Takes records in and brings them into their tables.
///
/// The first start makes a token for the management API and keeps it in the data directory. SIGTERM
/// and Ctrl-C stop in order: nothing more is taken, what is under way is finished. A second one ends
/// at once; nothing that was acknowledged is lost either way. SIGHUP reads the configuration and the
/// certificates again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay serve --data-dir ./data
  forebay serve --config forebay.yaml --source-listen 0.0.0.0:7000
  FOREBAY_DATA_DIR=/var/lib/forebay forebay serve --set storage.level.target.import.trigger.interval=30s")]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Address and port of the management API [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS")]
    api_listen: Option<SocketAddr>,
    /// Address and port that records come in at [default: 127.0.0.1:7000]
    #[arg(long, value_name = "ADDRESS")]
    source_listen: Option<SocketAddr>,
    /// File that has the token for the management API [default: `token` in the data directory, made
    /// at the first start]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// What this process does, divided by commas [default: api,source,storage,coordinator]
    #[arg(long, value_name = "ROLES")]
    roles: Option<String>,
    /// Sets any other key of the configuration; as often as needed
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.to_owned())),
        None => Err("a setting is KEY=VALUE, like log.sync=cache".to_owned()),
    }
}

impl Args {
    fn flags(&self) -> Flags {
        let mut flags: Flags = Vec::new();
        let mut add = |flag, key: &str, value: Option<String>| {
            flags.extend(value.map(|v| (flag, key.to_owned(), v)));
        };
        add(
            "--api-listen",
            "api.listen",
            self.api_listen.map(|a| a.to_string()),
        );
        add(
            "--source-listen",
            "source.http.listen",
            self.source_listen.map(|a| a.to_string()),
        );
        add(
            "--token-file",
            "tokenFile",
            self.token_file.as_ref().map(|f| f.display().to_string()),
        );
        add("--roles", "roles", self.roles.clone());
        for (key, value) in &self.set {
            add("--set", key, Some(value.clone()));
        }
        flags
    }
}

/// Runs it.
pub(crate) fn run(args: Args, env: Environment) -> Result<(), Failure> {
    let sources = args.place.sources(env, args.flags());
    let loaded = config::load(&sources).map_err(|problems| refused(&problems))?;
    let started = Started::new(args.place.config.as_deref(), args.place.data_dir.as_deref());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|e| Failure::new(format_args!("can't start: {e}")))?;
    runtime.block_on(serve(&sources, loaded, &started))
}

/// Raises the limit of open files as far as the system lets it, so that connections are refused by
/// the setting and not by chance.
fn allow_connections(max: usize) {
    /// Files of the log, the stores and everything else.
    const OTHERS: u64 = 1_000;
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let raised = setrlimit(Resource::Nofile, limit);
    let allowed = getrlimit(Resource::Nofile).current;
    let wanted = (max as u64).saturating_add(OTHERS);
    if raised.is_err() || allowed.is_some_and(|n| n < wanted) {
        let allowed = allowed.unwrap_or(u64::MAX);
        tracing::warn!(
            allowed,
            wanted,
            "the system allows fewer open files than source.http.maxConnections may need"
        );
    }
}

async fn serve(sources: &Sources, loaded: Loaded, started: &Started) -> Result<(), Failure> {
    let config = &loaded.config;
    let mut signals = StopSignals::catch()?;
    let mut hangups = ReloadSignals::catch()?;
    let level = telemetry::start_log(&config.telemetry.log)?;
    allow_connections(config.source.http.max_connections);
    let metrics = Metrics::start(&config.telemetry.metrics)?;
    let token = token::of_server(config)?;
    let auth = authenticate(config, &token)?;
    let mut node = tokio::select! {
        started = Box::pin(Node::start(config, &loaded.env, Arc::new(SystemClock), auth.clone(), Some(&metrics))) => started?,
        // Nothing was taken yet, so there is nothing to bring to an end.
        signal = signals.next() => {
            tracing::info!(signal, "stopped while starting");
            return Ok(());
        }
    };
    metrics.watch(node.log());
    tracing::info!(api = %node.api, source = %node.source, data = %config.data_dir.display(), "ready");
    if token.is_new
        && let Some(file) = &token.file
    {
        tracing::info!(file = %file.display(), "a token for the management API was made");
    }
    banner::show(&node, config.api.tls.is_some(), started, &token);
    let mut reloader = Reloader {
        sources,
        current: loaded.clone(),
        level,
        tls: node.tls.clone(),
        auth,
        metrics: metrics.clone(),
    };
    let failure = loop {
        tokio::select! {
            signal = signals.next() => {
                tracing::info!(signal, "stopping");
                break None;
            }
            () = hangups.next() => reloader.reload(),
            cause = node.failed() => {
                tracing::error!(%cause, "stopping");
                break Some(cause);
            }
            () = metrics.keep_tidy() => break None,
        }
    };
    let grace = config.shutdown.grace.0;
    tokio::select! {
        in_time = node.stop(grace) => {
            if in_time {
                tracing::info!("stopped");
            } else {
                tracing::warn!(?grace, "stopped; not everything was finished in time");
            }
        }
        signal = signals.next() => {
            tracing::warn!(signal, "ended at once");
            end_at_once();
        }
    }
    match failure {
        Some(cause) => Err(Failure::new(cause)),
        None => Ok(()),
    }
}

/// Who may use the management API: the server's own token, and those of the configuration.
pub(crate) fn authenticate(config: &Config, token: &Token) -> Result<ConfiguredTokens, Failure> {
    let own = TokenConfig {
        id: "main".to_owned(),
        project: PROJECT,
        branch: BRANCH,
        description: "Token of the server".to_owned(),
        admin: true,
        operator: true,
        sha256: ConfiguredTokens::hash(token.secret.expose().as_bytes()),
    };
    let mut all = vec![own];
    all.extend(config.api.tokens.iter().cloned());
    tokens(&all)
}

/// The tokens of the configuration alone.
pub(crate) fn configured_tokens(config: &Config) -> Result<ConfiguredTokens, Failure> {
    tokens(&config.api.tokens)
}

fn tokens(all: &[TokenConfig]) -> Result<ConfiguredTokens, Failure> {
    ConfiguredTokens::new(all).map_err(|e| Failure::usage(format_args!("api.tokens: {e}")))
}
