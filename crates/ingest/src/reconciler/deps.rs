//! Dependencies of the reconciler.

use std::sync::Arc;

use forebay_meta::Repo;
use forebay_meta::kv::store::LeaseId;
use forebay_model::{NodeId, VolumeId};
use forebay_record::RowLimits;

use crate::dispatch::Dispatcher;
use crate::pipeline::{Appender, PipelineShared, TopicStreams};
use crate::quota::LimiterRegistry;
use crate::statistics_reporter::StatisticsReporter;

/// Dependencies of a [`super::RouteReconciler`].
#[derive(Clone, Debug)]
pub struct ReconcilerDeps {
    pub repo: Repo,
    pub node: NodeId,
    /// Lease of the node's entries in the store. The node is registered as a source node under it
    /// before the reconciler runs.
    pub lease: LeaseId,
    /// Volume that this node writes.
    pub volume: VolumeId,
    /// Log of the volume.
    pub appender: Arc<dyn Appender>,
    /// Receives the route tables.
    pub dispatcher: Arc<Dispatcher>,
    /// Creates the rate limiters of sources.
    pub limiters: Arc<LimiterRegistry>,
    /// State shared by all pipelines.
    pub pipelines: Arc<PipelineShared>,
    /// Reports slice statistics to the store.
    pub reporter: Arc<StatisticsReporter>,
    pub limits: RowLimits,
    /// Topic streams; without them sinks that are topics accept nothing.
    pub topics: Option<Arc<dyn TopicStreams>>,
}
