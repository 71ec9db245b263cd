//! A node: builds and runs all tasks of a process.
//!
//! | role | task | needs | on failure |
//! |---|---|---|---|
//! | every | session | store | others think that the node is gone: it stops |
//! | every | keeper of the disk | log, store | it stops, if `health.onLatch` says so |
//! | api | backup | log, store, tables | goes on by itself |
//! | api | listener | store, mapper | goes on by itself |
//! | source | listener | dispatcher | goes on by itself |
//! | source | follower | store, log, dispatcher | it stops: it would write into closed slices |
//! | source | reporter | store, log | goes on by itself |
//! | source | measuring of disk use | log | goes on by itself |
//! | storage | uploader | store, log, staging | goes on by itself |
//! | storage | importer | store, staging, tables | goes on by itself |
//! | storage | garbage collector | store, log, staging, tables | goes on by itself |
//! | storage | topics | store, log, providers | goes on by itself |
//! | every | sink monitor | store, providers | goes on by itself |
//! | coordinator | coordinator | store | goes on by itself |
//!
//! "Stops" means that the whole process stops gracefully: acknowledged records are on disk, and a
//! supervisor restarts the process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forebay_control::api::Api;
use forebay_control::auth::ConfiguredTokens;
use forebay_ingest::memory_limiter::MemoryLimiter;
use forebay_ingest::pipeline::{Appender, LocalLog, PipelineShared};
use forebay_ingest::source::http::{HttpSourceDeps, HttpSourceServer};
use forebay_ingest::template::TemplatePool;
use forebay_listener::{Listener, ReloadableTls};
use forebay_log::Log;
use forebay_meta::{EmbeddedStore, Repo};
use forebay_model::Clock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api_client::ApiClient;
use crate::cli_error::CliError;
use crate::config::{Config, Environment, NodeRole};
use crate::definitions::FollowerState;
use crate::disk_housekeeping::DiskMetrics;
use crate::health::HealthChecks;
use crate::monitoring::ProcessMetrics;

mod api;
mod context;
mod open;
mod restored;
mod tasks;

use api::{ApiServices, ManagementServer};
use context::{NodeContext, TaskExit};
pub(crate) use open::{OpenedData, OpenedStore, open_store};
use tasks::bind_source;
pub(crate) use tasks::source_bind_failure;

/// How long the template processes may take to end.
const TEMPLATES_GRACE: Duration = Duration::from_secs(2);

pub(crate) struct RunningNode {
    /// Address of the management API.
    pub(crate) api: SocketAddr,
    /// Address of the HTTP source.
    pub(crate) source: SocketAddr,
    /// Address of sources for senders.
    pub(crate) source_url: String,
    pub(crate) repo: Repo,
    /// State of the definitions that the server applies itself.
    pub(crate) definitions: FollowerState,
    /// Certificates of its listeners, by configuration section.
    pub(crate) tls: Vec<(&'static str, Arc<ReloadableTls>)>,
    http: Option<HttpSourceServer>,
    listeners: Vec<Listener>,
    management: Option<Api>,
    pipelines: Arc<PipelineShared>,
    templates: Arc<TemplatePool>,
    log: Log,
    store: Arc<EmbeddedStore>,
    /// Stops the tasks.
    stop: CancellationToken,
    tasks: JoinSet<TaskExit>,
}

fn certificates(
    api: Option<Arc<ReloadableTls>>,
    http: Option<&HttpSourceServer>,
) -> Vec<(&'static str, Arc<ReloadableTls>)> {
    let source = http.and_then(HttpSourceServer::tls);
    let all = [("api.tls", api), ("source.http.tls", source)];
    let all = all.into_iter();
    all.filter_map(|(key, tls)| Some((key, tls?))).collect()
}

impl RunningNode {
    /// A client of the node's management API within the process; `None` without the role api.
    pub(crate) fn local_api(&self, token: &str) -> Option<Result<ApiClient, CliError>> {
        let api = self.management.as_ref()?;
        Some(ApiClient::local(api.router(), token))
    }

    /// Opens the data directory and starts the configured roles.
    pub(crate) async fn start(
        config: &Config,
        environment: &Environment,
        clock: Arc<dyn Clock>,
        auth: ConfiguredTokens,
        metrics: Option<&ProcessMetrics>,
    ) -> Result<Self, CliError> {
        let store = open_store(config, false).map_err(|e| e.cli_error(config))?;
        Box::pin(Self::start_on(
            store,
            config,
            environment,
            clock,
            auth,
            metrics,
        ))
        .await
    }

    /// The same with an open store.
    pub(crate) async fn start_on(
        store: OpenedStore,
        config: &Config,
        environment: &Environment,
        clock: Arc<dyn Clock>,
        auth: ConfiguredTokens,
        metrics: Option<&ProcessMetrics>,
    ) -> Result<Self, CliError> {
        let base = NodeContext::open(store.0, config, environment, clock).await?;
        let mut tasks = JoinSet::new();
        let lease = base.register(config, &mut tasks).await?;
        base.close_restored_files(config).await?;
        base.start_disk_housekeeping(config, &mut tasks);
        let appender: Arc<dyn Appender> =
            Arc::new(LocalLog::new(base.log.clone(), base.volume.clone()));
        let dead_letters = base.dead_letters(&appender);
        let topics = base.topics(config)?;
        let dispatcher = base.dispatcher(config);
        let memory_limiter = MemoryLimiter::new(config.source.http.max_bytes_in_flight.0);
        let pipelines =
            PipelineShared::with_taps(Arc::clone(&memory_limiter), Arc::clone(dispatcher.taps()));
        let mut health = HealthChecks::new(&base.repo, &base.log, &base.definitions);
        let (mut http, mut source) = (None, config.source.http.listen);
        if config.has(NodeRole::Source) {
            let shared = (&pipelines, &topics.topics);
            let reconciler =
                base.start_reconciler(lease, &appender, &dispatcher, shared, &mut tasks);
            health.set_route_progress(reconciler.await?);
            let deps = HttpSourceDeps {
                dispatcher: Arc::clone(&dispatcher),
                memory_limiter,
                clock: Arc::clone(&base.clock),
            };
            let bound = bind_source(config, deps).await?;
            source = bound.address();
            http = Some(bound);
        }
        if config.has(NodeRole::Storage) {
            base.start_delivery(config, &dead_letters, &mut tasks);
            base.start_topic_delivery(&topics, &mut tasks);
        }
        if config.has(NodeRole::Coordinator) {
            base.start_coordinator(config, &mut tasks);
        }
        let services = ApiServices {
            monitor: base.start_sink_monitor(config, &topics, metrics, &mut tasks),
            dead_letters,
            topics,
            dispatcher,
        };
        let source_url = config.source_url(source);
        let build = |address| {
            let urls = (address, source_url.clone());
            let api = base.api(config, auth, urls, services);
            let backup = base.backup(config, api.clone(), &mut tasks);
            let router = api.router().merge(health.router());
            (api, router.merge(backup.router()))
        };
        let management = ManagementServer::start(config, build, metrics).await?;
        Ok(Self {
            api: management.address,
            source,
            source_url,
            repo: base.repo,
            definitions: base.definitions,
            tls: certificates(management.tls, http.as_ref()),
            http,
            listeners: management.listeners,
            management: management.api,
            pipelines,
            templates: base.templates,
            log: base.log,
            store: base.store,
            stop: base.stop,
            tasks,
        })
    }

    /// The pool that evaluates templates.
    pub(crate) fn templates(&self) -> Arc<TemplatePool> {
        Arc::clone(&self.templates)
    }

    pub(crate) fn disk_metrics(&self) -> DiskMetrics {
        DiskMetrics {
            log: self.log.clone(),
            store: Arc::clone(&self.store),
        }
    }

    /// Waits until a task ends unexpectedly; returns its name and the reason.
    pub(crate) async fn task_failure(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Ok((name, Ok(())))) => format!("{name} ended"),
            Some(Ok((name, Err(cause)))) => format!("{name} failed: {cause}"),
            Some(Err(error)) => format!("a task failed: {error}"),
            None => "nothing is running".to_owned(),
        }
    }

    /// Stops gracefully: rejects new requests, finishes those in progress, writes every acknowledged
    /// row to disk, then stops the rest. Returns whether this took at most `grace`.
    pub(crate) async fn stop(mut self, grace: Duration) -> bool {
        let until = tokio::time::Instant::now() + grace;
        let left = || until.saturating_duration_since(tokio::time::Instant::now());
        let mut in_time = true;
        if let Some(http) = self.http.take() {
            in_time &= http.stop(left()).await;
        }
        // Their responses would never end.
        self.pipelines.close_taps();
        for listener in std::mem::take(&mut self.listeners) {
            in_time &= listener.stop(left()).await;
        }
        if let Some(api) = self.management.take() {
            in_time &= api.shutdown(left()).await;
        }
        in_time &= tokio::time::timeout(left(), self.pipelines.drained())
            .await
            .is_ok();
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(left(), ended).await.is_err() {
            in_time = false;
            self.tasks.shutdown().await;
        }
        // Their work is finished or abandoned; not worth the rest of the grace period.
        drop(tokio::time::timeout(TEMPLATES_GRACE, self.templates.close()).await);
        let log = self.log.clone();
        in_time
            & tokio::task::spawn_blocking(move || log.shutdown())
                .await
                .is_ok()
    }
}

#[cfg(test)]
mod tests;
