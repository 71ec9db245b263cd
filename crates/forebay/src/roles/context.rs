//! State that all roles share.

use std::sync::Arc;

use forebay_connect::staging::Staging;
use forebay_delivery::import::TableRegistry;
use forebay_ingest::dispatch::Dispatcher;
use forebay_ingest::template::TemplatePool;
use forebay_log::Log;
use forebay_meta::{EmbeddedStore, Repo};
use forebay_model::quota::Quotas;
use forebay_model::{Clock, NodeId, VolumeId};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::definitions::FollowerState;
use crate::disk_housekeeping::DiskMetrics;
use crate::random;

/// End of a task: its name, and the error if it failed.
pub(super) type TaskExit = (&'static str, Result<(), String>);

pub(super) struct NodeContext {
    pub(super) repo: Repo,
    pub(super) store: Arc<EmbeddedStore>,
    pub(super) node: NodeId,
    pub(super) volume: VolumeId,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) log: Log,
    pub(super) templates: Arc<TemplatePool>,
    pub(super) staging: Staging,
    pub(super) tables: TableRegistry,
    pub(super) cluster_id: String,
    pub(super) quotas: Quotas,
    pub(super) definitions: FollowerState,
    pub(super) stop: CancellationToken,
}

impl NodeContext {
    pub(super) fn disk_metrics(&self) -> DiskMetrics {
        DiskMetrics {
            log: self.log.clone(),
            store: Arc::clone(&self.store),
        }
    }

    pub(super) fn dispatcher(&self, config: &Config) -> Arc<Dispatcher> {
        Dispatcher::with_workers(
            Some(Arc::clone(&self.templates)),
            random::id_bits(),
            config.source.http.large_requests,
        )
    }
}
