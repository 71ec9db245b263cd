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
use crate::config::Config;
use crate::failure::Failure;
use crate::letters::NodeLetters;
use crate::mapper::RecordMapper;
use crate::random;
use crate::telemetry::{CONNECTIONS, CONNECTIONS_REFUSED};
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

/// Opens the listener of the API, or that of metrics.
pub(super) async fn listen(
    address: SocketAddr,
    hint: &'static str,
) -> Result<(TcpListener, SocketAddr), Failure> {
    let bound = forebay_listener::bind(address).await;
    bound.map_err(|e| Failure::new(e).hint(format_args!("choose another address with {hint}")))
}

/// Serves routes on a listener, with the limits of the API.
pub(super) fn serve(
    name: &'static str,
    socket: TcpListener,
    router: Router,
    config: &Config,
    tls: Option<Arc<Tls>>,
) -> Listener {
    let limits = config.api.limits();
    let options = Options {
        limits,
        tls,
        exempt: None,
        has_date: true,
        meters: Meters {
            connections: metrics::gauge!(CONNECTIONS, "listener" => name),
            refused: metrics::counter!(CONNECTIONS_REFUSED, "listener" => name),
        },
    };
    let service = RouterService::new(router, "stream.api.", &limits);
    Listener::start(socket, options, service)
}

/// Reads the certificate that a section names, if this process has a listener for it.
pub(super) fn tls(config: &Config, section: &str) -> Result<Option<Arc<Tls>>, Failure> {
    let Some((_, named)) = config.all_tls().find(|(key, _)| *key == section) else {
        return Ok(None);
    };
    let loaded = LoadedTls::read(named);
    let loaded = loaded.map_err(|e| Failure::new(format_args!("{section}: {e}")))?;
    Ok(Some(Tls::new(loaded)))
}
