//! What all roles share: opened, and registered in the store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_flow::import::Tables;
use forebay_flow::template::{TemplatePool, WorkerCommand};
use forebay_log::{Log, StdEnv};
use forebay_meta::repo::runtime::{Node as NodeEntry, Volume};
use forebay_meta::session::Session;
use forebay_meta::{EmbeddedOptions, EmbeddedStore, Repo, Store};
use forebay_model::{Clock, NodeId, TableBackend, VolumeId};
use forebay_remote::staging::Staging;
use forebay_remote::table::postgres::PostgresTable;
use forebay_remote::table::sqlite::SqliteTable;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Base, Ended};
use crate::config::{Config, Environment, TableDefault};
use crate::failure::Failure;
use crate::random;

/// How long a node may be silent before others take it for gone.
const LEASE: Duration = Duration::from_secs(15);

impl Base {
    pub(super) async fn open(
        config: &Config,
        environment: &Environment,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let dir = config.data_dir.as_path();
        let store = EmbeddedStore::open(dir, EmbeddedOptions::default()).map_err(Failure::new)?;
        let store: Arc<dyn Store> = Arc::new(store);
        let mut defaults = config.storage.level.0.clone();
        defaults.quota = config.quota.source;
        let repo = Repo::new(store, defaults).with_default_table(default_backend(config));
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

    /// Says in the store that the node and its volume are there, for as long as it is.
    pub(super) async fn register(
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

fn default_backend(config: &Config) -> TableBackend {
    match config.table.default {
        TableDefault::Sqlite => TableBackend::Sqlite,
        TableDefault::Postgres => TableBackend::Postgres,
    }
}

fn open_tables(config: &Config, dir: &Path) -> Result<Tables, Failure> {
    let default = default_backend(config);
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
