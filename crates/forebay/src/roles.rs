//! A node: everything that a process does, built in one place.
//!
//! | role | task | needs | when it fails |
//! |---|---|---|---|
//! | every | session | store | others think that the node is gone: it stops |
//! | api | listener | store, mapper | it stops |
//! | source | listener | dispatcher | it stops |
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

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use forebay_control::api::{Api, ApiDeps, DropTables};
use forebay_control::auth::{ConfiguredTokens, StoredTokens};
use forebay_control::coordinator::Coordinator;
use forebay_flow::budget::Budget;
use forebay_flow::dead_letter::DeadLetters;
use forebay_flow::deliver::Delivery;
use forebay_flow::dispatch::Dispatcher;
use forebay_flow::follow::{FollowDeps, Follower};
use forebay_flow::import::{Importer, Tables};
use forebay_flow::janitor::Janitor;
use forebay_flow::pipeline::{Appender, LocalLog, PipelineShared};
use forebay_flow::quota::{DiskUse, Gates};
use forebay_flow::report::Reporter;
use forebay_flow::source::http::{Deps, HttpSource};
use forebay_flow::template::{TemplatePool, WorkerCommand};
use forebay_flow::topic::{TopicDeps, Topics};
use forebay_flow::upload::Uploader;
use forebay_log::{Log, StdEnv};
use forebay_meta::repo::runtime::{Node as NodeEntry, Volume};
use forebay_meta::repo::tasks::TaskRetention;
use forebay_meta::session::Session;
use forebay_meta::{EmbeddedOptions, EmbeddedStore, Repo, Store};
use forebay_model::quota::Quotas;
use forebay_model::{Clock, NodeId, TableBackend, TableId, VolumeId};
use forebay_record::Limits;
use forebay_remote::staging::Staging;
use forebay_remote::table::postgres::PostgresTable;
use forebay_remote::table::sqlite::SqliteTable;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Environment, Role, TableDefault};
use crate::failure::Failure;
use crate::health::Health;
use crate::letters::NodeLetters;
use crate::mapper::RecordMapper;
use crate::random;
use crate::topics::{NodeTopics, Providers};

/// How long a node may be silent before others take it for gone.
const LEASE: Duration = Duration::from_secs(15);
/// How often open slices are reported.
const STATISTICS: Duration = Duration::from_millis(500);
/// How often it is measured what projects hold on disk.
const DISK_USE: Duration = Duration::from_secs(1);
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
    http: Option<HttpSource>,
    management: Option<Api>,
    pipelines: Arc<PipelineShared>,
    templates: Arc<TemplatePool>,
    log: Log,
    /// Ends what brings new work in.
    stop_intake: CancellationToken,
    /// Ends the rest.
    stop: CancellationToken,
    tasks: JoinSet<Ended>,
}

/// How a task has ended: its name, and why if it should not have.
type Ended = (&'static str, Result<(), String>);

/// What the tasks share.
struct Base {
    repo: Repo,
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
    /// Opens the data directory and starts what the configuration names. `more` is served beside
    /// the management API.
    pub(crate) async fn start(
        config: &Config,
        environment: &Environment,
        clock: Arc<dyn Clock>,
        auth: ConfiguredTokens,
        metrics: Router,
    ) -> Result<Self, Failure> {
        let base = Base::open(config, environment, clock).await?;
        let mut tasks = JoinSet::new();
        let lease = base.register(config, &mut tasks).await?;
        let appender: Arc<dyn Appender> =
            Arc::new(LocalLog::new(base.log.clone(), base.volume.clone()));
        let topics = base.topics(config)?;
        let dispatcher = Dispatcher::new(Some(Arc::clone(&base.templates)), random::wide());
        let budget = Budget::new(config.source.http.max_bytes_in_flight.0);
        let pipelines = PipelineShared::new(Arc::clone(&budget));
        let mut health = Health::new(base.repo.clone(), base.log.clone());
        let mut http = None;
        let mut source = config.source.http.listen;
        if config.has(Role::Source) {
            health.follows(
                base.follow(
                    lease,
                    &appender,
                    &dispatcher,
                    (&pipelines, &topics.topics),
                    &mut tasks,
                )
                .await?,
            );
            let deps = Deps {
                dispatcher,
                budget,
                clock: Arc::clone(&base.clock),
            };
            let bound = bind_source(config, deps).await?;
            source = bound.address();
            http = Some(bound);
        }
        if config.has(Role::Storage) {
            base.deliver(config, &mut tasks);
            base.deliver_topics(&topics, &mut tasks);
        }
        if config.has(Role::Coordinator) {
            base.coordinate(config, &mut tasks);
        }
        let source_url = config.source_url(source);
        let stop_intake = CancellationToken::new();
        let mut api = config.api.listen;
        let mut management = None;
        if config.has(Role::Api) {
            let listener = listen(api).await?;
            api = listener.local_addr().map_err(Failure::new)?;
            let built = base.api(config, auth, (api, source_url.clone()), &appender, topics);
            let router = built.router().merge(health.router()).merge(metrics);
            tasks.spawn(serve(listener, router, stop_intake.clone()));
            management = Some(built);
        }
        Ok(Self {
            api,
            source,
            source_url,
            repo: base.repo,
            http,
            management,
            pipelines,
            templates: base.templates,
            log: base.log,
            stop_intake,
            stop: base.stop,
            tasks,
        })
    }

    /// The log, for its figures.
    pub(crate) fn log(&self) -> Log {
        self.log.clone()
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
        self.stop_intake.cancel();
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

async fn bind_source(config: &Config, deps: Deps) -> Result<HttpSource, Failure> {
    let bound = HttpSource::bind(config.source.http.clone(), deps).await;
    bound.map_err(|e| {
        Failure::new(e).hint("choose another address with --source-listen or source.http.listen")
    })
}

impl Base {
    async fn open(
        config: &Config,
        environment: &Environment,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let dir = config.data_dir.as_path();
        let store = EmbeddedStore::open(dir, EmbeddedOptions::default()).map_err(Failure::new)?;
        let store: Arc<dyn Store> = Arc::new(store);
        let mut defaults = config.storage.level.0.clone();
        defaults.quota = config.quota.source;
        let repo = Repo::new(store, defaults);
        let (log, volume) = open_log(config, dir)?;
        let staging = config
            .staging
            .resolve(dir, environment)
            .map_err(Failure::usage)?;
        let staging = Staging::open(&staging).map_err(Failure::new)?;
        let tables = open_tables(config, dir)?;
        let cluster_id = repo
            .cluster_id(random::wide()())
            .await
            .map_err(Failure::new)?;
        let command = WorkerCommand::this_binary().map_err(Failure::new)?;
        Ok(Self {
            repo,
            node: NodeId(config.node_id.clone()),
            volume,
            clock,
            log,
            templates: Arc::new(TemplatePool::new(config.templates.resolve(), command)),
            staging,
            tables,
            cluster_id,
            quotas: config.quota.resolve(),
            stop: CancellationToken::new(),
        })
    }

    /// The sinks whose messages go to providers.
    fn topics(&self, config: &Config) -> Result<NodeTopics, Failure> {
        let providers = Providers::of(config)?;
        let topics = Topics::new(TopicDeps {
            log: self.log.clone(),
            env: Arc::new(StdEnv::new()),
            clock: Arc::clone(&self.clock),
            config: config.topics.clone(),
            connect: providers.connect(),
        });
        Ok(NodeTopics { topics, providers })
    }

    fn deliver_topics(&self, topics: &NodeTopics, tasks: &mut JoinSet<Ended>) {
        let run = Arc::clone(&topics.topics).run(self.repo.clone(), self.stop.clone());
        tasks.spawn(async move {
            run.await;
            ("the topics", Ok(()))
        });
    }

    /// Says in the store that the node and its volume are there, for as long as it is.
    async fn register(
        &self,
        config: &Config,
        tasks: &mut JoinSet<Ended>,
    ) -> Result<forebay_meta::store::LeaseId, Failure> {
        let session = Session::open(Arc::clone(self.repo.store()), LEASE)
            .await
            .map_err(Failure::new)?;
        let lease = session.lease();
        let node = NodeEntry {
            id: self.node.clone(),
            started_at: self.clock.now(),
            roles: config
                .roles
                .iter()
                .map(|r| format!("{r:?}").to_lowercase())
                .collect(),
        };
        self.repo
            .register_node(&node, lease)
            .await
            .map_err(Failure::new)?;
        let volume = Volume {
            id: self.volume.clone(),
            node: self.node.clone(),
        };
        self.repo
            .register_volume(&volume, lease)
            .await
            .map_err(Failure::new)?;
        let stop = self.stop.clone();
        tasks.spawn(async move {
            (
                "the session",
                session.keep(stop).await.map_err(|e| e.to_string()),
            )
        });
        Ok(lease)
    }

    /// Role source: what keeps the routes and pipelines as the store says.
    async fn follow(
        &self,
        lease: forebay_meta::store::LeaseId,
        appender: &Arc<dyn Appender>,
        dispatcher: &Arc<Dispatcher>,
        (pipelines, topics): (&Arc<PipelineShared>, &Arc<Topics>),
        tasks: &mut JoinSet<Ended>,
    ) -> Result<crate::health::Progress, Failure> {
        self.repo
            .register_source_node(&self.node, lease)
            .await
            .map_err(Failure::new)?;
        let reporter = Reporter::new(self.repo.clone(), self.node.clone(), Arc::clone(appender));
        let gates = Gates::new(self.quotas);
        let disk = DiskUse::new(Arc::clone(&gates), self.log.clone());
        let (follower, progress) = Follower::new(FollowDeps {
            repo: self.repo.clone(),
            node: self.node.clone(),
            lease,
            volume: self.volume.clone(),
            appender: Arc::clone(appender),
            dispatcher: Arc::clone(dispatcher),
            gates,
            pipelines: Arc::clone(pipelines),
            reporter: Arc::clone(&reporter),
            limits: Limits::default(),
            topics: Some(Arc::clone(topics)),
        });
        let (stop_follower, stop_reporter) = (self.stop.clone(), self.stop.clone());
        let stop_disk = self.stop.clone();
        tasks.spawn(async move {
            (
                "the follower",
                follower.run(stop_follower).await.map_err(|e| e.to_string()),
            )
        });
        tasks.spawn(async move {
            reporter.run(STATISTICS, stop_reporter).await;
            ("the reporter", Ok(()))
        });
        tasks.spawn(async move {
            disk.run(DISK_USE, stop_disk).await;
            ("the measuring of disk use", Ok(()))
        });
        Ok(progress)
    }

    /// Role storage: slices to staging, files into tables, what is done away.
    fn deliver(&self, config: &Config, tasks: &mut JoinSet<Ended>) {
        let delivery = Delivery {
            repo: self.repo.clone(),
            clock: Arc::clone(&self.clock),
            random: random::narrow(),
            backoff: config.coordinator.backoff(),
        };
        let (log, volume) = (self.log.clone(), self.volume.clone());
        let uploader = Uploader::new(
            delivery.clone(),
            log.clone(),
            volume.clone(),
            self.staging.clone(),
            config.upload.clone(),
        );
        let importer = Importer::new(
            delivery.clone(),
            self.staging.clone(),
            self.tables.clone(),
            uploader.clone(),
            &self.cluster_id,
            config.import.clone(),
        );
        let janitor = Janitor::new(
            delivery,
            log,
            volume,
            self.staging.clone(),
            self.tables.clone(),
            &self.cluster_id,
            config.janitor.clone(),
        );
        let stop = || self.stop.clone();
        let (a, b, c) = (
            uploader.run(stop()),
            importer.run(stop()),
            janitor.run(stop()),
        );
        tasks.spawn(async move {
            a.await;
            ("the uploader", Ok(()))
        });
        tasks.spawn(async move {
            b.await;
            ("the importer", Ok(()))
        });
        tasks.spawn(async move {
            c.await;
            ("the janitor", Ok(()))
        });
    }

    /// Role coordinator.
    fn coordinate(&self, config: &Config, tasks: &mut JoinSet<Ended>) {
        let coordinator = Coordinator::new(
            self.repo.clone(),
            Arc::clone(&self.clock),
            random::narrow(),
            config.coordinator.clone(),
            TaskRetention::default(),
        );
        let stop = self.stop.clone();
        tasks.spawn(async move {
            coordinator.run(stop).await;
            ("the coordinator", Ok(()))
        });
    }

    /// Role api.
    fn api(
        &self,
        config: &Config,
        auth: ConfiguredTokens,
        (listen, source_url): (SocketAddr, String),
        appender: &Arc<dyn Appender>,
        topics: NodeTopics,
    ) -> Api {
        let letters = DeadLetters {
            repo: self.repo.clone(),
            log: self.log.clone(),
            volume: self.volume.clone(),
            appender: Arc::clone(appender),
            clock: Arc::clone(&self.clock),
            templates: Some(Arc::clone(&self.templates)),
            random: random::wide(),
            limits: Limits::default(),
            turn: Arc::default(),
        };
        let mapper = RecordMapper::new(
            Arc::clone(&self.templates),
            Limits::default(),
            random::wide(),
        );
        Api::new(ApiDeps {
            repo: self.repo.clone(),
            mapper: Arc::new(mapper),
            letters: Arc::new(NodeLetters {
                tables: letters,
                topics: Arc::clone(&topics.topics),
            }),
            auth: Arc::new(StoredTokens::new(
                auth,
                self.repo.clone(),
                Arc::clone(&self.clock),
            )),
            clock: Arc::clone(&self.clock),
            random: Box::new(random::secret()),
            node: self.node.clone(),
            backends: self
                .tables
                .all()
                .map(|t| t.backend())
                .collect::<BTreeSet<_>>(),
            tables: Arc::new(DroppedTables(self.tables.clone())),
            quotas: self.quotas,
            topics: Arc::new(topics),
            config: config.api.resolve(listen, source_url),
        })
    }
}

/// Takes tables away for the API, which does not know the backends.
struct DroppedTables(Tables);

#[async_trait::async_trait]
impl DropTables for DroppedTables {
    async fn drop_table(&self, backend: TableBackend, table: &TableId) -> Result<(), String> {
        match self.0.get(backend) {
            Some(tables) => tables.delete(table).await.map_err(|e| e.to_string()),
            None => Err(format!(
                "table type \"{}\" is not configured on this server",
                backend.name()
            )),
        }
    }
}

fn open_log(config: &Config, dir: &Path) -> Result<(Log, VolumeId), Failure> {
    let dir = dir.join(crate::command::log::FOLDER);
    let (log, report) =
        Log::open(Arc::new(StdEnv::new()), &dir, config.log.resolve()).map_err(Failure::new)?;
    if report.is_clean() {
        tracing::debug!(?report, "log opened");
    } else {
        tracing::error!(?report, "log opened, parts of it are damaged");
    }
    let volume = VolumeId(format!("{:016x}", log.volume_stats().volume));
    Ok((log, volume))
}

fn open_tables(config: &Config, dir: &Path) -> Result<Tables, Failure> {
    let default = match config.table.default {
        TableDefault::Sqlite => TableBackend::Sqlite,
        TableDefault::Postgres => TableBackend::Postgres,
    };
    let sqlite = SqliteTable::open(config.table.resolve_sqlite(dir)).map_err(Failure::new)?;
    let tables = Tables::new(default).with(Arc::new(sqlite));
    Ok(
        match config.table.resolve_postgres().map_err(Failure::usage)? {
            Some(postgres) => tables.with(Arc::new(
                PostgresTable::open(&postgres).map_err(Failure::new)?,
            )),
            None => tables,
        },
    )
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|e| {
        Failure::new(format!("can't listen on {address}: {e}"))
            .hint("choose another address with --api-listen or api.listen")
    })
}

async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> Ended {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    ("the API's listener", served.map_err(|e| e.to_string()))
}

#[cfg(test)]
mod tests;
