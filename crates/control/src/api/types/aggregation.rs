//! Sources with their sinks and what those hold.

use serde::Serialize;
use utoipa::ToSchema;

use super::common::Page;
use super::sink::Sink;
use super::source::Source;
use super::statistics::{Balance, File, Level, Levels};
use super::topic::Provider;

/// Some of the sources of a branch, with their sinks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AggregatedSourcesResult)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Aggregation {
    pub(crate) project_id: u64,
    pub(crate) branch_id: u64,
    pub(crate) page: Page,
    pub(crate) sources: Vec<AggregatedSource>,
}

/// A source with its sinks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AggregatedSource {
    #[serde(flatten)]
    pub(crate) source: Source,
    /// How many sinks it has; at most 100 of them are listed. An extension of Forebay.
    #[serde(rename = "sinksTotal")]
    pub(crate) sinks_total: usize,
    pub(crate) sinks: Vec<AggregatedSink>,
}

/// A sink with what it holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AggregatedSink {
    #[serde(flatten)]
    pub(crate) sink: Sink,
    pub(crate) statistics: Report,
}

/// What a sink holds, in all and by file.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AggregatedStatistics)]
pub(crate) struct Report {
    pub(crate) total: Level,
    pub(crate) levels: Levels,
    /// An extension of Forebay.
    pub(crate) balance: Balance,
    pub(crate) files: Vec<File>,
    /// Of a topic: whether its provider takes messages, and why not. An extension of Forebay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) provider: Option<Provider>,
}
