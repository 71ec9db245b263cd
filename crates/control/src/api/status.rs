//! Status of the sinks of a branch, and of the server's disks.

use std::time::Duration;

use axum::extract::State;
use forebay_api::params::BranchPath;
use forebay_api::status::{SinkFailureView, SinkHealthName, SinkStatusView, StatusResponse};

use super::SharedApi;
use super::call::ApiCall;
use super::error::ApiError;
use super::json_response::JsonResponse;
use crate::sink_monitor::SinkRates;
use crate::sink_status::{DeliveryFailure, SinkHealth, SinkStatus};

/// A reading of the sinks that is not older is shown.
const AGE_MAX: Duration = Duration::from_secs(1);

/// Reports the status of all sinks of a branch, and of the server's disks. An extension of Forebay.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/status", tag = "source", operation_id = "BranchStatus",
    params(BranchPath),
    responses((status = 200, description = "Status of the sinks, sorted by source and id, and of the volumes.", body = StatusResponse))
)]
pub(super) async fn status(
    State(api): State<SharedApi>,
    call: ApiCall<BranchPath>,
) -> Result<JsonResponse<StatusResponse>, ApiError> {
    let snapshot = api.monitor.current(AGE_MAX).await?;
    let own = snapshot.sinks.iter();
    let own = own.filter(|s| s.sink.key.source.branch == call.branch);
    let mut healthy = true;
    let sinks = own.map(|status| {
        healthy &= !status.needs_attention();
        let rates = snapshot.rates.get(&status.sink.key);
        view(status, rates.copied().unwrap_or_default())
    });
    let sinks = sinks.collect();
    let volumes = api.node_status.volumes();
    let store_error = api.node_status.store_error();
    healthy &= store_error.is_none();
    healthy &= volumes.iter().all(|v| !v.full && v.error.is_none());
    let definitions = api.node_status.definitions();
    let definitions = definitions.filter(|_| call.who.operator);
    healthy &= definitions.as_ref().is_none_or(|d| d.error.is_none());
    Ok(JsonResponse::ok(StatusResponse {
        version: api.node_status.version(),
        healthy,
        read_at: snapshot.read_at,
        sinks,
        volumes,
        store_error,
        definitions,
    }))
}

fn view(status: &SinkStatus, rates: SinkRates) -> SinkStatusView {
    let (sink, counts) = (&status.sink, &status.reconciliation);
    let target = match (sink.target.table(), sink.target.topic()) {
        (Some(table), _) => table.table.to_string(),
        (None, Some(topic)) => topic.topic.clone(),
        (None, None) => String::new(),
    };
    SinkStatusView {
        source_id: sink.key.source.source.to_string(),
        sink_id: sink.key.sink.to_string(),
        r#type: sink.target.type_name().to_owned(),
        target,
        state: match status.health {
            SinkHealth::Ok => SinkHealthName::Ok,
            SinkHealth::Failing => SinkHealthName::Failing,
            SinkHealth::Parked => SinkHealthName::Parked,
            SinkHealth::Paused => SinkHealthName::Paused,
            SinkHealth::Disabled => SinkHealthName::Disabled,
        },
        failure: status.failure.as_ref().map(failure),
        accepted_per_second: rates.accepted,
        imported_per_second: rates.imported,
        accepted: counts.accepted,
        imported: counts.imported,
        pending: counts.in_flight,
        pending_bytes: status.pending_bytes,
        oldest_pending_at: status.oldest_pending_at,
        dead_letters: counts.dead,
        lost: counts.lost,
        balanced: counts.holds(),
    }
}

fn failure(failure: &DeliveryFailure) -> SinkFailureView {
    SinkFailureView {
        step: failure.step.name().to_owned(),
        cause: failure.cause.clone(),
        since: failure.since,
        next_attempt_at: failure.next_attempt,
        attempts: failure.attempts,
    }
}
