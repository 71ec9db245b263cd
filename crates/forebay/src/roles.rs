//! A node: everything that a process does, built in one place.
//!
//! | role | task | needs | when it fails |
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
//! | storage | janitor | store, log, staging, tables | goes on by itself |
//! | storage | topics | store, log, providers | goes on by itself |
//! | coordinator | coordinator | store | goes on by itself |
//!
//! "It stops" means that the whole process stops in order; what is acknowledged is on disk, and
//! whoever has started the process starts it again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forebay_control::api::Api;
use forebay_control::auth::ConfiguredTokens;
use forebay_flow::budget::Budget;
use forebay_flow::dispatch::Dispatcher;
use forebay_flow::import::Tables;
use forebay_flow::pipeline::{Appender, LocalLog, PipelineShared};
use forebay_flow::source::http::{Deps, HttpSource};
use forebay_flow::template::TemplatePool;
use forebay_listener::{Listener, Tls};
use forebay_log::Log;
use forebay_meta::{EmbeddedStore, Repo};
use forebay_model::quota::Quotas;
use forebay_model::{Clock, NodeId, VolumeId};
use forebay_remote::staging::Staging;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Environment, Role};
use crate::failure::Failure;
use crate::health::Health;
use crate::random;
use crate::telemetry::Metrics;
use crate::volume::Watched;

mod api;
mod open;
mod restored;
mod work;

use api::Management;
pub(crate) use api::{api_tls, listen, listen_at, serve};
pub(crate) use open::{OpenedData, OpenedStore, open_store};
use work::bind_source;
pub(crate) use work::source_refused;

/// How long the templates' processes may take to end.
const TEMPLATES_GRACE: Duration = Duration::from_secs(2);

/// A running node.
pub(crate) struct Node {
    /// Where the management API listens.
    pub(crate) api: SocketAddr,
    /// Where records come in.
    pub(crate) source: SocketAddr,
    /// Address of sources as senders reach it.
    pub(crate) source_url: String,
    /// The repository, for whoever shows what happens.
    pub(crate) repo: Repo,
    /// Certificates of its listeners, by the section that names them.
    pub(crate) tls: Vec<(&'static str, Arc<Tls>)>,
    http: Option<HttpSource>,
    listeners: Vec<Listener>,
    management: Option<Api>,
    pipelines: Arc<PipelineShared>,
    templates: Arc<TemplatePool>,
    log: Log,
    store: Arc<EmbeddedStore>,
    /// Ends the tasks.
    stop: CancellationToken,
    tasks: JoinSet<Ended>,
}

impl Base {
    fn dispatcher(&self, config: &Config) -> Arc<Dispatcher> {
        Dispatcher::with_workers(
            Some(Arc::clone(&self.templates)),
            random::wide(),
            config.source.http.large_requests,
        )
    }
}

fn certificates(api: Option<Arc<Tls>>, http: Option<&HttpSource>) -> Vec<(&'static str, Arc<Tls>)> {
    let source = http.and_then(HttpSource::tls);
    let all = [("api.tls", api), ("source.http.tls", source)];
    let all = all.into_iter();
    all.filter_map(|(key, tls)| Some((key, tls?))).collect()
}

/// How a task has ended: its name, and why if it should not have.
type Ended = (&'static str, Result<(), String>);

/// What the tasks share.
struct Base {
    repo: Repo,
    store: Arc<EmbeddedStore>,
    node: NodeId,
    volume: VolumeId,
    clock: Arc<dyn Clock>,
    log: Log,
    templates: Arc<TemplatePool>,
    staging: Staging,
    tables: Tables,
    cluster_id: String,
    quotas: Quotas,
    stop: CancellationToken,
}

impl Node {
    /// Opens the data directory and starts what the configuration names.
    pub(crate) async fn start(
        config: &Config,
        environment: &Environment,
        clock: Arc<dyn Clock>,
        auth: ConfiguredTokens,
        metrics: Option<&Metrics>,
    ) -> Result<Self, Failure> {
        let store = open_store(config, false).map_err(|e| e.failure(config))?;
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

    /// The same with a store that is open.
    pub(crate) async fn start_on(
        store: OpenedStore,
        config: &Config,
        environment: &Environment,
        clock: Arc<dyn Clock>,
        auth: ConfiguredTokens,
        metrics: Option<&Metrics>,
    ) -> Result<Self, Failure> {
        let base = Base::open(store.0, config, environment, clock).await?;
        let mut tasks = JoinSet::new();
        let lease = base.register(config, &mut tasks).await?;
        base.close_what_was_open(config).await?;
        base.keep_disk(config, &mut tasks);
        let appender: Arc<dyn Appender> =
            Arc::new(LocalLog::new(base.log.clone(), base.volume.clone()));
        let letters = base.dead_letters(&appender);
        let topics = base.topics(config)?;
        let dispatcher = base.dispatcher(config);
        let budget = Budget::new(config.source.http.max_bytes_in_flight.0);
        let pipelines = PipelineShared::new(Arc::clone(&budget));
        let mut health = Health::new(base.repo.clone(), base.log.clone());
        let mut http = None;
        let mut source = config.source.http.listen;
        if config.has(Role::Source) {
            let shared = (&pipelines, &topics.topics);
            let follower = base.follow(lease, &appender, &dispatcher, shared, &mut tasks);
            health.follows(follower.await?);
            let deps = Deps {
                dispatcher: Arc::clone(&dispatcher),
                budget,
                clock: Arc::clone(&base.clock),
            };
            let bound = bind_source(config, deps).await?;
            source = bound.address();
            http = Some(bound);
        }
        if config.has(Role::Storage) {
            base.deliver(config, &letters, &mut tasks);
            base.deliver_topics(&topics, &mut tasks);
        }
        if config.has(Role::Coordinator) {
            base.coordinate(config, &mut tasks);
        }
        let source_url = config.source_url(source);
        let build = |address| {
            let urls = (address, source_url.clone());
            let api = base.api(config, auth, urls, letters, (topics, dispatcher));
            let backup = base.backup(config, api.clone(), &mut tasks);
            let router = api.router().merge(health.router());
            (api, router.merge(backup.router()))
        };
        let management = Management::start(config, build, metrics).await?;
        Ok(Self {
            api: management.address,
            source,
            source_url,
            repo: base.repo,
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

    /// Log and store, for their figures.
    pub(crate) fn watched(&self) -> Watched {
        Watched {
            log: self.log.clone(),
            store: Arc::clone(&self.store),
        }
    }

    /// Waits until a task has ended that should not have; says which and why.
    pub(crate) async fn failed(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Ok((name, Ok(())))) => format!("{name} has ended"),
            Some(Ok((name, Err(cause)))) => format!("{name} has failed: {cause}"),
            Some(Err(error)) => format!("a task has failed: {error}"),
            None => "nothing is running".to_owned(),
        }
    }

    /// Stops in order: takes no more requests, finishes those under way, brings every acknowledged
    /// row to the disk, then stops the rest. Returns whether all of that was done within `grace`.
    pub(crate) async fn stop(mut self, grace: Duration) -> bool {
        let until = tokio::time::Instant::now() + grace;
        let left = || until.saturating_duration_since(tokio::time::Instant::now());
        let mut in_time = true;
        if let Some(http) = self.http.take() {
            in_time &= http.stop(left()).await;
        }
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
        // Their work is done or given up; not worth the rest of the grace.
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
