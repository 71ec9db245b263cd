//! Opens the state that all roles share and registers the node in the store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_connect::staging::Staging;
use forebay_connect::table::postgres::PostgresTable;
use forebay_connect::table::sqlite::SqliteTable;
use forebay_delivery::import::TableRegistry;
use forebay_delivery::losses::{record_losses, remembered_volume};
use forebay_ingest::template::{TemplatePool, WorkerCommand};
use forebay_log::{Log, LogConfig, StdEnv};
use forebay_meta::catalog::runtime::{Node as NodeEntry, RegisteredVolume};
use forebay_meta::kv::embedded::copies;
use forebay_meta::kv::session::Session;
use forebay_meta::{EmbeddedOptions, EmbeddedStore, OpenMode, Repo, Store, StoreOpenError};
use forebay_model::{Clock, NodeId, TableBackend, Timestamp, VolumeId};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{NodeContext, TaskExit};
use crate::cli_error::CliError;
use crate::config::{Config, Environment, TableDefault};
use crate::data_dir::LOG_FOLDER;
use crate::definitions::FollowerState;
use crate::{descriptors, random};

/// Lease TTL of a node. With the embedded store no other node can use the directory, and opening it
/// deletes the keys of old leases. So a lease must never expire while the process lives, however long
/// it was suspended (stopped, swapped out, machine migrated): see docs/adr/1411-….
const LEASE_TTL: Duration = Duration::from_secs(100 * 365 * 86_400);

impl NodeContext {
    pub(super) async fn open(
        embedded: Arc<EmbeddedStore>,
        config: &Config,
        environment: &Environment,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CliError> {
        let dir = config.data_dir.as_path();
        let store = OpenedStore(Arc::clone(&embedded));
        let OpenedData { repo, log, volume } = OpenedData::open(store, config, &*clock).await?;
        let staging = config
            .staging
            .resolve(dir, environment)
            .map_err(CliError::usage)?;
        let staging = Staging::open(&staging).map_err(CliError::new)?;
        let tables = open_tables(config, dir)?;
        let cluster_id = repo
            .cluster_id(random::id_bits()())
            .await
            .map_err(CliError::new)?;
        let command = WorkerCommand::this_binary().map_err(CliError::new)?;
        Ok(Self {
            repo,
            store: embedded,
            node: NodeId(config.node_id.clone()),
            volume,
            clock,
            log,
            definitions: FollowerState::default(),
            templates: Arc::new(TemplatePool::new(config.templates.resolve(), command)),
            staging,
            tables,
            cluster_id,
            quotas: config.quota.resolve(),
            stop: CancellationToken::new(),
        })
    }

    /// Registers the node and its volume in the store until it stops.
    pub(super) async fn register(
        &self,
        config: &Config,
        tasks: &mut JoinSet<TaskExit>,
    ) -> Result<forebay_meta::kv::store::LeaseId, CliError> {
        let session = Session::open(Arc::clone(self.repo.store()), LEASE_TTL)
            .await
            .map_err(CliError::new)?;
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
            .map_err(CliError::new)?;
        let volume = RegisteredVolume {
            id: self.volume.clone(),
            node: self.node.clone(),
        };
        self.repo
            .register_volume(&volume, lease)
            .await
            .map_err(CliError::new)?;
        let stop = self.stop.clone();
        tasks.spawn(async move {
            (
                "session",
                session.keep_alive(stop).await.map_err(|e| e.to_string()),
            )
        });
        Ok(lease)
    }
}

#[derive(Debug)]
pub(crate) struct OpenedStore(pub(super) Arc<EmbeddedStore>);

/// Error of opening the metadata store.
#[derive(Debug)]
pub(crate) struct StoreOpenFailure(pub(crate) StoreOpenError);

impl StoreOpenFailure {
    /// Error with the existing copies and advice.
    pub(crate) fn cli_error(&self, config: &Config) -> CliError {
        let failure = CliError::new(&self.0);
        match &self.0 {
            StoreOpenError::Corrupt { .. }
            | StoreOpenError::Removed { .. }
            | StoreOpenError::Behind { .. } => failure.hint(self.recovery_hint(config)),
            _ => failure,
        }
    }

    /// Advice for the operator.
    pub(crate) fn recovery_hint(&self, config: &Config) -> String {
        let dir = config.data_dir.display();
        let folder = config.metadata.copies_folder(&config.data_dir);
        let accept = match &self.0 {
            StoreOpenError::Corrupt { .. } => format!(
                "; to continue without it, move meta.db, meta.db-wal and meta.db-shm out of {dir} and use `forebay serve --data-dir {dir} --accept-metadata-loss`"
            ),
            _ => format!(
                "; `forebay serve --data-dir {dir} --accept-metadata-loss` continues with the existing data"
            ),
        };
        match copies::list(&folder).first() {
            Some(copy) => format!(
                "the newest verified copy is {} (revision {}, made at {}): `forebay restore --metadata newest --data-dir {dir}` restores it{accept}",
                copy.path.display(),
                copy.revision,
                Timestamp::from_millis(copy.made_at_ms),
            ),
            None => format!(
                "no copy in {}; `forebay restore --from BACKUP` restores a backup into a new directory{accept}",
                folder.display()
            ),
        }
    }
}

/// Opens the metadata store; one that lost transactions only if `accepted`.
pub(crate) fn open_store(config: &Config, accepted: bool) -> Result<OpenedStore, StoreOpenFailure> {
    let dir = config.data_dir.as_path();
    // The log is created after the store.
    let volume = dir.join(LOG_FOLDER).join("volume");
    let existing = match accepted {
        true => OpenMode::MayBeBehind,
        false if volume.exists() => OpenMode::Required,
        false => OpenMode::Optional,
    };
    let options = EmbeddedOptions {
        existing,
        copies: Some(config.metadata.copies_folder(dir)),
        ..EmbeddedOptions::default()
    };
    EmbeddedStore::open(dir, options)
        .map(|store| OpenedStore(Arc::new(store)))
        .map_err(StoreOpenFailure)
}

/// The open store and log, checked against each other.
pub(crate) struct OpenedData {
    pub(crate) repo: Repo,
    pub(crate) log: Log,
    pub(crate) volume: VolumeId,
}

impl OpenedData {
    /// Opens the log, and reports acknowledged records that it lost undetected.
    pub(crate) async fn open(
        store: OpenedStore,
        config: &Config,
        clock: &dyn Clock,
    ) -> Result<Self, CliError> {
        let dir = config.data_dir.as_path();
        let store: Arc<dyn Store> = store.0;
        let mut defaults = config.storage.level.0.clone();
        defaults.quota = config.quota.source;
        let repo = Repo::new(store, defaults)
            .with_default_table(default_backend(config))
            .with_limits(config.limits);
        let remembered = remembered_volume(&repo).await.map_err(CliError::new)?;
        let (log, volume) = open_log(config, dir, remembered)?;
        let losses = record_losses(&repo, &log, &volume, clock.now()).await;
        let losses = losses.map_err(CliError::new)?;
        if !losses.is_empty() {
            let records: u64 = losses.iter().map(|loss| loss.records).sum();
            let streams = losses.len();
            tracing::error!(
                records,
                streams,
                "the log lost acknowledged records; the streams are listed above"
            );
        }
        Ok(Self { repo, log, volume })
    }
}

fn open_log(config: &Config, dir: &Path, volume: Option<u64>) -> Result<(Log, VolumeId), CliError> {
    let dir = dir.join(LOG_FOLDER);
    let settings = LogConfig {
        volume,
        ..config.log.resolve()
    };
    let env = StdEnv::with_open_segments(descriptors::segment_limit());
    let (log, report) = Log::open(Arc::new(env), &dir, settings).map_err(CliError::new)?;
    if report.is_clean() {
        tracing::debug!(?report, "log opened");
    } else {
        for lost in &report.lost {
            tracing::error!(
                stream = lost.name,
                first = lost.first_seq,
                records = lost.records,
                "the log lost records of a stream"
            );
        }
        tracing::error!(?report, "log opened with damage");
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

fn open_tables(config: &Config, dir: &Path) -> Result<TableRegistry, CliError> {
    let default = default_backend(config);
    let sqlite = SqliteTable::open(config.table.resolve_sqlite(dir)).map_err(CliError::new)?;
    let tables = TableRegistry::new(default).with(Arc::new(sqlite));
    Ok(
        match config.table.resolve_postgres().map_err(CliError::usage)? {
            Some(postgres) => tables.with(Arc::new(
                PostgresTable::open(&postgres).map_err(CliError::new)?,
            )),
            None => tables,
        },
    )
}
