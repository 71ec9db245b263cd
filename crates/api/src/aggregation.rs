//! Sources with their sinks and statistics.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::PageInfo;
use crate::sink::SinkView;
use crate::source::SourceView;
use crate::statistics::{FileView, LevelStatistics, ReconciliationView, StorageLevels};
use crate::topic::ProviderView;

/// A page of the sources of a branch, with their sinks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = AggregatedSourcesResult)]
#[serde(rename_all = "camelCase")]
pub struct AggregationResponse {
    /// Number of the project.
    pub project_id: u64,
    /// Number of the branch.
    pub branch_id: u64,
    /// Position of this page in the list.
    pub page: PageInfo,
    /// Sources with their sinks, sorted by id.
    pub sources: Vec<AggregatedSource>,
}

/// A source with its sinks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AggregatedSource {
    /// The source.
    #[serde(flatten)]
    pub source: SourceView,
    /// Number of sinks; at most 100 of them are listed. An extension of Forebay.
    #[serde(rename = "sinksTotal")]
    pub sinks_total: usize,
    /// Sinks with their statistics, sorted by id.
    pub sinks: Vec<AggregatedSink>,
}

/// A sink with its statistics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AggregatedSink {
    /// The sink.
    #[serde(flatten)]
    pub sink: SinkView,
    /// Statistics of the sink.
    pub statistics: AggregatedStatistics,
}

/// Statistics of a sink, in total and by file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = AggregatedStatistics)]
pub struct AggregatedStatistics {
    /// Sum of all levels.
    pub total: LevelStatistics,
    /// Statistics by storage level.
    pub levels: StorageLevels,
    /// An extension of Forebay.
    pub reconciliation: ReconciliationView,
    /// Files, newest first.
    pub files: Vec<FileView>,
    /// Provider status of a topic. An extension of Forebay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub provider: Option<ProviderView>,
}
