//! The role api.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use forebay_control::api::{Api, ApiDeps, DropTables};
use forebay_control::auth::{ConfiguredTokens, StoredTokens};
use forebay_flow::dead_letter::DeadLetters;
use forebay_flow::import::Tables;
use forebay_flow::pipeline::Appender;
use forebay_listener::{Listener, LoadedTls, Meters, Options, RouterService, Tls};
use forebay_model::{TableBackend, TableId};
use forebay_record::Limits;
use tokio::net::TcpListener;

use super::Base;
use crate::config::{Config, Role};
use crate::failure::Failure;
use crate::health::Health;
use crate::letters::NodeLetters;
use crate::mapper::RecordMapper;
use crate::random;
use crate::telemetry::{CONNECTIONS, CONNECTIONS_REFUSED, Metrics};
use crate::topics::NodeTopics;

impl Base {
    /// Role api.
    pub(super) fn api(
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

/// What a node is managed and watched by.
pub(super) struct Management {
    /// Where the API listens, or would.
    pub(super) address: SocketAddr,
    pub(super) api: Option<Api>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) listeners: Vec<Listener>,
}

impl Management {
    /// Starts the listeners of the API and of metrics. `build` makes the API for the address that it
    /// has got, and for that of the source.
    pub(super) async fn start(
        config: &Config,
        source_url: &str,
        build: impl FnOnce(SocketAddr, String) -> Api,
        health: Health,
        metrics: Option<&Metrics>,
    ) -> Result<Self, Failure> {
        let mut started = Self {
            address: config.api.listen,
            api: None,
            tls: tls(config, "api.tls")?,
            listeners: Vec::new(),
        };
        let alone = config.telemetry.metrics.listen;
        if config.has(Role::Api) {
            let (socket, bound) = listen(config.api.listen, "--api-listen or api.listen").await?;
            started.address = bound;
            let api = build(bound, source_url.to_owned());
            let mut router = api.router().merge(health.router());
            if let Some(metrics) = metrics.filter(|_| alone.is_none()) {
                router = router.merge(metrics.beside(api.clone()));
            }
            started.serve("api", socket, router, config);
            started.api = Some(api);
        }
        if let (Some(metrics), Some(address)) = (metrics, alone) {
            let (socket, bound) = listen(address, "telemetry.metrics.listen").await?;
            tracing::info!(address = %bound, "metrics");
            started.serve("metrics", socket, metrics.alone(), config);
        }
        Ok(started)
    }

    /// Serves routes on a listener, with the limits of the API.
    fn serve(&mut self, name: &'static str, socket: TcpListener, router: Router, config: &Config) {
        let limits = config.api.limits();
        let options = Options {
            limits,
            tls: self.tls.clone(),
            exempt: None,
            has_date: true,
            meters: Meters {
                connections: metrics::gauge!(CONNECTIONS, "listener" => name),
                refused: metrics::counter!(CONNECTIONS_REFUSED, "listener" => name),
            },
        };
        let service = RouterService::new(router, "stream.api.", &limits);
        let listener = Listener::start(socket, options, service);
        self.listeners.push(listener);
    }
}

async fn listen(
    address: SocketAddr,
    hint: &'static str,
) -> Result<(TcpListener, SocketAddr), Failure> {
    let bound = forebay_listener::bind(address).await;
    bound.map_err(|e| Failure::new(e).hint(format_args!("choose another address with {hint}")))
}

/// Reads the certificate that a section names, if this process has a listener for it.
fn tls(config: &Config, section: &str) -> Result<Option<Arc<Tls>>, Failure> {
    let Some((_, named)) = config.all_tls().find(|(key, _)| *key == section) else {
        return Ok(None);
    };
    let loaded = LoadedTls::read(named);
    let loaded = loaded.map_err(|e| Failure::new(format_args!("{section}: {e}")))?;
    Ok(Some(Tls::new(loaded)))
}
