//! Sources with their sinks and statistics.

use serde::Serialize;
use utoipa::ToSchema;

use super::common::PageInfo;
use super::sink::SinkView;
use super::source::SourceView;
use super::statistics::{FileView, LevelStatistics, ReconciliationView, StorageLevels};
use super::topic::ProviderView;

/// A page of the sources of a branch, with their sinks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AggregatedSourcesResult)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AggregationResponse {
    pub(crate) project_id: u64,
    pub(crate) branch_id: u64,
    pub(crate) page: PageInfo,
    pub(crate) sources: Vec<AggregatedSource>,
}

/// A source with its sinks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AggregatedSource {
    #[serde(flatten)]
    pub(crate) source: SourceView,
    /// Number of sinks; at most 100 of them are listed. An extension of Forebay.
    #[serde(rename = "sinksTotal")]
    pub(crate) sinks_total: usize,
    pub(crate) sinks: Vec<AggregatedSink>,
}

/// A sink with its statistics.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AggregatedSink {
    #[serde(flatten)]
    pub(crate) sink: SinkView,
    pub(crate) statistics: AggregatedStatistics,
}

/// Statistics of a sink, in total and by file.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AggregatedStatistics)]
pub(crate) struct AggregatedStatistics {
    pub(crate) total: LevelStatistics,
    pub(crate) levels: StorageLevels,
    /// An extension of Forebay.
    pub(crate) reconciliation: ReconciliationView,
    pub(crate) files: Vec<FileView>,
    /// Provider status of a topic. An extension of Forebay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) provider: Option<ProviderView>,
}
