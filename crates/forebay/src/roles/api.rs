//! The role api.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use forebay_control::api::{Api, ApiDeps, TableBackends};
use forebay_control::auth::{ConfiguredTokens, StoredTokens};
use forebay_flow::dead_letter::DeadLetters;
use forebay_flow::import::Tables;
use forebay_flow::pipeline::Appender;
use forebay_model::TableBackend;
use forebay_record::Limits;
use forebay_remote::table::Table;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Base, Ended};
use crate::backup::{BackupService, Origin};
use crate::config::Config;
use crate::failure::Failure;
use crate::letters::NodeLetters;
use crate::mapper::RecordMapper;
use crate::random;
use crate::topics::NodeTopics;

impl Base {
    /// What keeps the dead letters of tables.
    pub(super) fn dead_letters(&self, appender: &Arc<dyn Appender>) -> DeadLetters {
        DeadLetters {
            repo: self.repo.clone(),
            log: self.log.clone(),
            volume: self.volume.clone(),
            appender: Arc::clone(appender),
            clock: Arc::clone(&self.clock),
            templates: Some(Arc::clone(&self.templates)),
            random: random::wide(),
            limits: Limits::default(),
            turn: Arc::default(),
        }
    }

    /// Role api.
    pub(super) fn api(
        &self,
        config: &Config,
        auth: ConfiguredTokens,
        (listen, source_url): (SocketAddr, String),
        letters: DeadLetters,
        topics: NodeTopics,
    ) -> Api {
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
            tables: Arc::new(NodeTables(self.tables.clone())),
            quotas: self.quotas,
            topics: Arc::new(topics),
            config: config.api.resolve(listen, source_url),
        })
    }
}

impl Base {
    /// Backups that are taken while the node runs.
    pub(super) fn backup(
        &self,
        config: &Config,
        auth: ConfiguredTokens,
        tasks: &mut JoinSet<Ended>,
    ) -> BackupService {
        let auth = StoredTokens::new(auth, self.repo.clone(), Arc::clone(&self.clock));
        let origin = Origin {
            dir: config.data_dir.clone(),
            tables: config.table.resolve_sqlite(&config.data_dir).path,
        };
        let parts = (Arc::clone(&self.store), self.log.clone());
        let (service, worker) =
            BackupService::new(Arc::new(auth), origin, parts, Arc::clone(&self.clock));
        let run = worker.run(self.stop.clone());
        tasks.spawn(async move {
            run.await;
            ("the backups", Ok(()))
        });
        service
    }
}

/// The node's tables, for the API.
struct NodeTables(Tables);

impl TableBackends for NodeTables {
    fn get(&self, backend: TableBackend) -> Option<Arc<dyn Table>> {
        self.0.get(backend).map(Arc::clone)
    }
}

pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|e| {
        Failure::new(format!("can't listen on {address}: {e}"))
            .hint("choose another address with --api-listen or api.listen")
    })
}

pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> Ended {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    ("the API's listener", served.map_err(|e| e.to_string()))
}
