//! Quotas of projects: the configured defaults and an operator's overrides.

use axum::extract::State;
use forebay_model::quota::QuotaOverrides;
use forebay_model::{ByteSize, ProjectId};

use super::SharedApi;
use super::body::{EmptyInput, JsonBody};
use super::call::ApiCall;
use super::error::{ApiError, ErrorName};
use super::json_response::JsonResponse;
use super::views::project_quota;
use crate::auth::CallerIdentity;
use forebay_api::params::ProjectPath;
use forebay_api::quota::{ProjectQuotaView, QuotaChange};
use forebay_meta::catalog::quota::QuotaError;

/// Returns the quota of a project.
#[utoipa::path(
    get, path = "/v1/admin/quotas/{projectId}", tag = "admin", operation_id = "GetQuota",
    params(ProjectPath),
    responses((status = 200, description = "The quota.", body = ProjectQuotaView))
)]
pub(super) async fn get_quota(
    State(api): State<SharedApi>,
    call: ApiCall<ProjectPath>,
) -> Result<JsonResponse<ProjectQuotaView>, ApiError> {
    let project = own_project(&call.who, call.path.project_id)?;
    let own = api.repo.quota(project).await?;
    Ok(JsonResponse::ok(project_quota(project, &api.quotas, &own)))
}

/// Overrides the configured quota of a project. Fields that are left out have the configured value.
/// Requires an operator's token; effective at once on all nodes.
#[utoipa::path(
    put, path = "/v1/admin/quotas/{projectId}", tag = "admin", operation_id = "SetQuota",
    params(ProjectPath), request_body = QuotaChange,
    responses((status = 200, description = "The quota.", body = ProjectQuotaView))
)]
pub(super) async fn set_quota(
    State(api): State<SharedApi>,
    call: ApiCall<ProjectPath, EmptyInput, JsonBody<QuotaChange>>,
) -> Result<JsonResponse<ProjectQuotaView>, ApiError> {
    let project = own_project(&call.who, call.path.project_id)?;
    if !call.who.operator {
        let text = "only an operator's token can set quotas";
        return Err(ApiError::forbidden(text));
    }
    let own = read(&call.body.0)?;
    let stamp = call.who.audit_stamp(api.clock.now());
    let set = api.repo.set_quota(project, &own, &stamp).await;
    set.map_err(|e| match e {
        QuotaError::Conflict => ApiError::unavailable(e),
        QuotaError::Store(e) => e.into(),
    })?;
    Ok(JsonResponse::ok(project_quota(project, &api.quotas, &own)))
}

/// The project, if the caller may access it.
fn own_project(who: &CallerIdentity, id: u64) -> Result<ProjectId, ApiError> {
    if who.operator || who.project == ProjectId(id) {
        return Ok(ProjectId(id));
    }
    Err(ApiError::from_template(ErrorName::ProjectNotFound, &[&id]))
}

fn read(change: &QuotaChange) -> Result<QuotaOverrides, ApiError> {
    let own = QuotaOverrides {
        requests_per_second: change.requests_per_second,
        bytes_per_second: size("bytesPerSecond", change.bytes_per_second.as_deref())?,
        connections: change.connections,
        disk_bytes: size("diskBytes", change.disk_bytes.as_deref())?,
        source_requests_per_second: change.source_requests_per_second,
        source_bytes_per_second: size(
            "sourceBytesPerSecond",
            change.source_bytes_per_second.as_deref(),
        )?,
    };
    match own.violations() {
        violations if violations.is_empty() => Ok(own),
        violations => Err(ApiError::bad_request(format!("{}.", violations.join("; ")))),
    }
}

fn size(name: &str, given: Option<&str>) -> Result<Option<ByteSize>, ApiError> {
    let read = |text: &str| {
        let wrong = |e| ApiError::bad_request(format!("invalid \"{name}\" value: {e}."));
        text.parse().map_err(wrong)
    };
    given.map(read).transpose()
}
