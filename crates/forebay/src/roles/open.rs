//! What all roles share: opened, and registered in the store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_connect::staging::Staging;
use forebay_connect::table::postgres::PostgresTable;
use forebay_connect::table::sqlite::SqliteTable;
use forebay_flow::import::TableRegistry;
use forebay_flow::losses::{record_losses, remembered_volume};
use forebay_flow::template::{TemplatePool, WorkerCommand};
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
use crate::{descriptors, random};

/// How long a node may be silent before others take it for gone. With the embedded store there are
/// no others: nobody else can have the directory, and the keys of a lease go when it is opened
/// again. So a lease never runs out while the process lives, however long it stood still (stopped,
/// swapped out, its machine migrated): see docs/adr/1411-….
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
                "the session",
                session.keep_alive(stop).await.map_err(|e| e.to_string()),
            )
        });
        Ok(lease)
    }
}

/// The open metadata store.
#[derive(Debug)]
pub(crate) struct OpenedStore(pub(super) Arc<EmbeddedStore>);

/// Why the metadata store is not open.
#[derive(Debug)]
pub(crate) struct StoreOpenFailure(pub(crate) StoreOpenError);

impl StoreOpenFailure {
    /// With the copies that there are, and what to do.
    pub(crate) fn cli_error(&self, config: &Config) -> CliError {
        let failure = CliError::new(&self.0);
        match &self.0 {
            StoreOpenError::Corrupt { .. }
            | StoreOpenError::Removed { .. }
            | StoreOpenError::Behind { .. } => failure.hint(self.recovery_hint(config)),
            _ => failure,
        }
    }

    /// What a person can do.
    pub(crate) fn recovery_hint(&self, config: &Config) -> String {
        let dir = config.data_dir.display();
        let folder = config.metadata.copies_folder(&config.data_dir);
        let accept = match &self.0 {
            StoreOpenError::Corrupt { .. } => String::new(),
            _ => format!(
                "; `forebay serve --data-dir {dir} --accept-metadata-loss` goes on with what is there"
            ),
        };
        match copies::list(&folder).first() {
            Some(copy) => format!(
                "the newest verified copy is {} (revision {}, made at {}): `forebay restore --metadata newest --data-dir {dir}` puts it in place{accept}",
                copy.path.display(),
                copy.revision,
                Timestamp::from_millis(copy.made_at_ms),
            ),
            None => format!(
                "there is no copy in {}; `forebay restore --from BACKUP` makes a new directory of a backup{accept}",
                folder.display()
            ),
        }
    }
}

/// Opens the metadata store; one that has lost transactions only when that is `accepted`.
pub(crate) fn open_store(config: &Config, accepted: bool) -> Result<OpenedStore, StoreOpenFailure> {
    let dir = config.data_dir.as_path();
    // A log is only made after the store was.
    let volume = dir.join(crate::command::log::FOLDER).join("volume");
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

/// The store and the log, which agree on what there is.
pub(crate) struct OpenedData {
    pub(crate) repo: Repo,
    pub(crate) log: Log,
    pub(crate) volume: VolumeId,
}

impl OpenedData {
    /// Opens the log, and names what the log has lost without knowing it.
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
                "the log lacks records that were acknowledged; each stream is named above"
            );
        }
        Ok(Self { repo, log, volume })
    }
}

fn open_log(config: &Config, dir: &Path, volume: Option<u64>) -> Result<(Log, VolumeId), CliError> {
    let dir = dir.join(crate::command::log::FOLDER);
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
                "records of a stream are lost in the log"
            );
        }
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
