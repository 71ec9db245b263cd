//! Role api: management API, backups, health and metrics.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use forebay_connect::table::Table;
use forebay_control::api::{Api, ApiConfig, ApiDeps, TableBackends};
use forebay_control::auth::{ConfiguredTokens, StoredTokens};
use forebay_control::sink_monitor::SinkMonitor;
use forebay_delivery::dead_letter::SinkDeadLetters;
use forebay_delivery::import::TableRegistry;
use forebay_ingest::dispatch::Dispatcher;
use forebay_ingest::pipeline::Appender;
use forebay_listener::{Listener, ReloadableTls};
use forebay_model::TableBackend;
use forebay_record::RowLimits;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{NodeContext, TaskExit};
use crate::api_listener::{api_tls, listen, listen_at, serve};
use crate::backup::{BackupService, BackupSource};
use crate::cli_error::CliError;
use crate::config::profile::Profile;
use crate::config::{Config, NodeRole};
use crate::dead_letters::NodeDeadLetters;
use crate::mapper::RecordMapper;
use crate::monitoring::ProcessMetrics;
use crate::node_status::NodeStatus;
use crate::path_uses::NodePathUses;
use crate::random;
use crate::tap::NodeTaps;
use crate::topics::NodeTopics;

/// Parts of the node that the API shows and changes.
pub(super) struct ApiServices {
    pub(super) monitor: SinkMonitor,
    pub(super) dead_letters: SinkDeadLetters,
    pub(super) topics: NodeTopics,
    pub(super) dispatcher: Arc<Dispatcher>,
}

impl NodeContext {
    /// The dead-letter queues of tables.
    pub(super) fn dead_letters(&self, appender: &Arc<dyn Appender>) -> SinkDeadLetters {
        SinkDeadLetters {
            repo: self.repo.clone(),
            log: self.log.clone(),
            volume: self.volume.clone(),
            appender: Arc::clone(appender),
            clock: Arc::clone(&self.clock),
            templates: Some(Arc::clone(&self.templates)),
            random: random::id_bits(),
            limits: RowLimits::default(),
            lock: Arc::default(),
        }
    }

    pub(super) fn api(
        &self,
        config: &Config,
        auth: ConfiguredTokens,
        (listen, source_url): (SocketAddr, String),
        services: ApiServices,
    ) -> Api {
        let ApiServices {
            monitor,
            dead_letters,
            topics,
            dispatcher,
        } = services;
        let mapper = RecordMapper::new(
            Arc::clone(&self.templates),
            RowLimits::default(),
            random::id_bits(),
        );
        Api::new(ApiDeps {
            repo: self.repo.clone(),
            mapper: Arc::new(mapper),
            dead_letters: Arc::new(NodeDeadLetters {
                tables: dead_letters,
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
            tables: Arc::new(NodeTables(self.tables.clone())),
            quotas: self.quotas,
            topics: Arc::new(topics),
            taps: Arc::new(NodeTaps {
                taps: Arc::clone(dispatcher.taps()),
                max: config.api.max_taps as usize,
                per_second: config.api.tap_records_per_second,
            }),
            path_uses: Arc::new(NodePathUses(dispatcher)),
            monitor,
            node_status: Arc::new(NodeStatus {
                disk: self.disk_metrics(),
                definitions: self.definitions.clone(),
            }),
            config: ApiConfig {
                name_limits: config.profile == Profile::Forebay,
                ..config.api.resolve(listen, source_url)
            },
        })
    }
}

impl NodeContext {
    /// Backups of a running node.
    pub(super) fn backup(
        &self,
        config: &Config,
        api: Api,
        tasks: &mut JoinSet<TaskExit>,
    ) -> BackupService {
        let origin = BackupSource {
            dir: config.data_dir.clone(),
            tables: config.table.resolve_sqlite(&config.data_dir).path,
        };
        let parts = (Arc::clone(&self.store), self.log.clone());
        let clock = Arc::clone(&self.clock);
        let (service, worker) = BackupService::new(api, origin, parts, clock);
        let run = worker.run(self.stop.clone());
        tasks.spawn(async move {
            run.await;
            ("backup worker", Ok(()))
        });
        service
    }
}

/// The node's tables, for the API.
struct NodeTables(TableRegistry);

impl TableBackends for NodeTables {
    fn get(&self, backend: TableBackend) -> Option<Arc<dyn Table>> {
        self.0.get(backend).map(Arc::clone)
    }
}

/// Listeners for management and metrics.
pub(super) struct ManagementServer {
    /// Address of the API, whether or not it is served.
    pub(super) address: SocketAddr,
    pub(super) api: Option<Api>,
    pub(super) tls: Option<Arc<ReloadableTls>>,
    pub(super) listeners: Vec<Listener>,
}

impl ManagementServer {
    /// Starts the listeners of the API and of metrics. `build` returns the API for the bound address,
    /// and all other routes there but metrics.
    pub(super) async fn start(
        config: &Config,
        build: impl FnOnce(SocketAddr) -> (Api, Router),
        metrics: Option<&ProcessMetrics>,
    ) -> Result<Self, CliError> {
        let mut started = Self {
            address: config.api.listen,
            api: None,
            tls: api_tls(config)?,
            listeners: Vec::new(),
        };
        let alone = config.telemetry.metrics.listen;
        if config.has(NodeRole::Api) {
            let (socket, bound) = listen(config).await?;
            started.address = bound;
            let (api, mut router) = build(bound);
            if let Some(metrics) = metrics.filter(|_| alone.is_none()) {
                router = router.merge(metrics.router_beside_api(api.clone()));
            }
            started.serve("api", socket, router, config);
            started.api = Some(api);
        }
        if let (Some(metrics), Some(address)) = (metrics, alone) {
            let (socket, bound) = listen_at(address, "telemetry.metrics.listen").await?;
            tracing::info!(address = %bound, "metrics");
            started.serve("metrics", socket, metrics.standalone_router(), config);
        }
        Ok(started)
    }

    fn serve(&mut self, name: &'static str, socket: TcpListener, router: Router, config: &Config) {
        let listener = serve(name, socket, self.tls.clone(), router, config);
        self.listeners.push(listener);
    }
}
