//! Sources with sinks and statistics in one response, for dashboards.

use axum::extract::State;

use super::call::ApiCall;
use super::error::ApiError;
use super::json_response::JsonResponse;
use super::views::{ToView, provider_view, topic_reconciliation, topic_total};
use super::{ApiState, SharedApi, sources};
use crate::auth::CallerIdentity;
use forebay_api::aggregation::{
    AggregatedSink, AggregatedSource, AggregatedStatistics, AggregationResponse,
};
use forebay_api::params::{BranchPath, ListQuery, SourcePath};

/// Maximum sinks per source in a list of sources, so that pages are bounded. The source's own
/// address returns more.
const SINKS_MAX: usize = 100;

/// Lists sources with their sinks and statistics.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/aggregation/sources", tag = "source", operation_id = "AggregationSources",
    params(BranchPath, ListQuery),
    responses((status = 200, description = "A page of sources, sorted by id; files of a sink newest first.", body = AggregationResponse))
)]
pub(super) async fn aggregation(
    State(api): State<SharedApi>,
    call: ApiCall<BranchPath, ListQuery>,
) -> Result<JsonResponse<AggregationResponse>, ApiError> {
    let (after, limit) = (&call.query.after_id, call.query.limit as usize);
    let listing = api.repo.sources(&call.branch, after, limit).await?;
    let mut shown = Vec::with_capacity(listing.items.len());
    for source in &listing.items {
        shown.push(aggregated(&api, &call.who, source, ("", SINKS_MAX)).await?);
    }
    let last = listing.items.last();
    let last = last.map_or("", |s| s.key.source.as_str());
    Ok(JsonResponse::ok(AggregationResponse {
        project_id: call.branch.project.0,
        branch_id: call.branch.branch.0,
        page: call.query.page(listing.total, last),
        sources: shown,
    }))
}

/// Returns a source with its sinks and statistics. An extension of Forebay.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/aggregation/sources/{sourceId}", tag = "source", operation_id = "AggregationSource",
    params(SourcePath, ListQuery),
    responses((status = 200, description = "The source with a page of its sinks, sorted by id; files of a sink newest first.", body = AggregatedSource))
)]
pub(super) async fn one(
    State(api): State<SharedApi>,
    call: ApiCall<SourcePath, ListQuery>,
) -> Result<JsonResponse<AggregatedSource>, ApiError> {
    let source = api.repo.source(&call.source_key()?).await?.value;
    let some = (call.query.after_id.as_str(), call.query.limit as usize);
    let shown = aggregated(&api, &call.who, &source, some).await?;
    Ok(JsonResponse::ok(shown))
}

/// A source with at most `limit` of its sinks after an id.
async fn aggregated(
    api: &ApiState,
    who: &CallerIdentity,
    source: &forebay_model::Source,
    (after, limit): (&str, usize),
) -> Result<AggregatedSource, ApiError> {
    let listing = api.repo.sinks(&source.key, after, limit).await?;
    Ok(AggregatedSource {
        source: sources::view(api, who, source),
        sinks_total: listing.total,
        sinks: sinks(api, &listing.items).await?,
    })
}

async fn sinks(
    api: &ApiState,
    sinks: &[forebay_model::Sink],
) -> Result<Vec<AggregatedSink>, ApiError> {
    let mut shown = Vec::with_capacity(sinks.len());
    for sink in sinks {
        if let Some(topic) = sink.target.topic() {
            let counts = api.topics.statistics(sink);
            let total = topic_total(&counts);
            shown.push(AggregatedSink {
                sink: sink.to_view(),
                statistics: AggregatedStatistics {
                    total: total.total,
                    levels: total.levels,
                    reconciliation: topic_reconciliation(&counts),
                    files: Vec::new(),
                    provider: Some(provider_view(topic, counts.state)),
                },
            });
            continue;
        }
        let report = api.repo.sink_report(&sink.key).await;
        let (total, files) = report?;
        let files = files.iter().rev().filter(|f| !f.cleared);
        shown.push(AggregatedSink {
            sink: sink.to_view(),
            statistics: AggregatedStatistics {
                total: total.shown_total().to_view(),
                levels: total.to_view(),
                reconciliation: total.reconciliation().to_view(),
                files: files.map(ToView::to_view).collect(),
                provider: None,
            },
        });
    }
    Ok(shown)
}
