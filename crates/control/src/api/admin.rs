//! Administration: tokens and the audit log. An extension of Forebay.
//!
//! An admin's token administers its own project; an operator's token (the server's own, or one
//! configured as such) administers all. Resources of other projects are reported as not found.

use axum::extract::State;
use forebay_meta::catalog::tokens::{
    ManagementToken as Kept, TokenError, TokenOwner, TokenRole, TokenSecret,
};
use forebay_model::{BranchId, HumanDuration, ProjectId, Timestamp};

use super::body::{EmptyInput, JsonBody};
use super::call::ApiCall;
use super::error::{self, ApiError, ErrorName};
use super::json_response::JsonResponse;
use super::views::ToView;
use super::{ApiState, SharedApi};
use crate::auth::stored::{self, SECRET_CHARS};
use crate::auth::{CallerIdentity, ConfiguredTokens};
use forebay_api::admin::{
    AuditList, MadeToken, TokenCreate, TokenList, TokenRoleView, TokenRotate, TokenView,
};
use forebay_api::common::PageInfo;
use forebay_api::params::{AdminListQuery, TokenPath};

/// Maximum lifetime of a token: a hundred years.
const DAYS_MAX: u64 = 36_525;
/// Maximum overlap of two texts of one token.
const OVERLAP_MAX: HumanDuration = HumanDuration::hours(24 * 30);

/// Creates a token. Its text is returned only in this response.
#[utoipa::path(
    post, path = "/v1/admin/tokens", tag = "admin", operation_id = "CreateToken",
    request_body = TokenCreate,
    extensions(("x-errors" = json!(["tokenCountLimitReached"]))),
    responses((status = 201, description = "The token with its text.", body = MadeToken))
)]
pub(super) async fn create_token(
    State(api): State<SharedApi>,
    call: ApiCall<EmptyInput, EmptyInput, JsonBody<TokenCreate>>,
) -> Result<JsonResponse<MadeToken>, ApiError> {
    let body = call.body.0;
    let project = body.project_id.map_or(call.who.project, ProjectId);
    if project != call.who.project && !call.who.operator {
        let text = "only an operator's token can create tokens for other projects";
        return Err(ApiError::forbidden(text));
    }
    let now = api.clock.now();
    let expires_at = match &body.expires_at {
        Some(text) => Some(expiry(text, now)?),
        None => None,
    };
    if expires_at.is_some_and(|at| at <= now) {
        return Err(ApiError::bad_request(
            "\"expiresAt\" must be in the future.",
        ));
    }
    let suffix = api.random.text(stored::ID_CHARS);
    let id = format!("{project}-{suffix}");
    let text = stored::format_token(&id, &api.random.text(SECRET_CHARS));
    let token = Kept {
        branch: default_branch(&api, &call.who, project, body.branch_id).await?,
        id,
        project,
        role: match body.role {
            TokenRoleView::Reader => TokenRole::Reader,
            TokenRoleView::Admin => TokenRole::Admin,
        },
        description: body.description.unwrap_or_default(),
        owner: TokenOwner {
            id: body.owner_id,
            name: body.owner_name,
        },
        created: call.who.audit_stamp(now),
        expires_at,
        secrets: vec![TokenSecret {
            sha256: ConfiguredTokens::hash(text.as_bytes()),
            made_at: now,
            valid_until: None,
        }],
    };
    api.repo.create_token(&token).await.map_err(failed)?;
    Ok(JsonResponse::created(MadeToken {
        text,
        token: token.to_view(),
    }))
}

/// Expiry of a token: a time, a day (its start in UTC), or a duration from `now`.
fn expiry(text: &str, now: Timestamp) -> Result<Timestamp, ApiError> {
    let invalid = || {
        ApiError::bad_request(format!(
            "invalid \"expiresAt\" value \"{text}\": expected a time like 2027-01-02T03:04:05Z, a day like 2027-01-02, or a duration from now like 30d or 12h"
        ))
    };
    let day = || format!("{text}T00:00:00.000Z").parse().ok();
    if let Some(at) = text.parse().ok().or_else(day) {
        return Ok(at);
    }
    let span = match text.strip_suffix('d') {
        Some(days) => days.parse().ok().and_then(|days: u64| {
            let hours = days.checked_mul(24)?;
            (days <= DAYS_MAX).then(|| HumanDuration::hours(hours))
        }),
        None => text.parse().ok(),
    };
    span.filter(|span| *span <= HumanDuration::hours(24 * DAYS_MAX))
        .map(|span: HumanDuration| now.plus(span.0))
        .ok_or_else(invalid)
}

/// The first token of a project sets its default branch.
async fn default_branch(
    api: &ApiState,
    who: &CallerIdentity,
    project: ProjectId,
    requested: Option<u64>,
) -> Result<BranchId, ApiError> {
    let existing = if project == who.project {
        Some(who.default_branch)
    } else {
        api.repo.project_branch(project).await?
    };
    match (existing, requested) {
        (Some(known), Some(asked)) if known.0 != asked => Err(ApiError::bad_request(format!(
            "invalid \"branchId\" value {asked}: the default branch of project {project} is {known}."
        ))),
        (Some(known), _) => Ok(known),
        (None, asked) => Ok(BranchId(asked.unwrap_or(1))),
    }
}

/// Lists the tokens of a project, without their texts.
///
/// Tokens of the configuration, including the server's own, are listed separately: they are rotated
/// there.
#[utoipa::path(
    get, path = "/v1/admin/tokens", tag = "admin", operation_id = "ListTokens",
    params(AdminListQuery),
    extensions(("x-errors" = json!(["projectNotFound"]))),
    responses((status = 200, description = "A page of tokens, sorted by id.", body = TokenList))
)]
pub(super) async fn list_tokens(
    State(api): State<SharedApi>,
    call: ApiCall<EmptyInput, AdminListQuery>,
) -> Result<JsonResponse<TokenList>, ApiError> {
    let project = project(&call.who, &call.query)?;
    let (after, limit) = (&call.query.after_id, call.query.limit as usize);
    let listing = api.repo.tokens(project, after, limit).await?;
    let last = listing.items.last();
    Ok(JsonResponse::ok(TokenList {
        page: PageInfo::new(
            call.query.limit,
            listing.total,
            after,
            last.map_or("", |t| t.id.as_str()),
        ),
        tokens: listing.items.iter().map(ToView::to_view).collect(),
        configured: configured(&api, project)
            .iter()
            .map(ToView::to_view)
            .collect(),
    }))
}

/// Returns a token, without its text.
#[utoipa::path(
    get, path = "/v1/admin/tokens/{tokenId}", tag = "admin", operation_id = "GetToken",
    params(TokenPath),
    responses((status = 200, description = "The token.", body = TokenView))
)]
pub(super) async fn get_token(
    State(api): State<SharedApi>,
    call: ApiCall<TokenPath>,
) -> Result<JsonResponse<TokenView>, ApiError> {
    let project = visible_project(&api, &call.who, &call.path.token_id)?;
    let token = api.repo.token(project, &call.path.token_id).await;
    let token = token.map_err(failed)?;
    Ok(JsonResponse::ok(token.to_view()))
}

/// Rotates the text of a token. The previous text stays valid for the overlap.
#[utoipa::path(
    post, path = "/v1/admin/tokens/{tokenId}/rotate", tag = "admin", operation_id = "RotateToken",
    params(TokenPath), request_body = TokenRotate,
    responses((status = 200, description = "The token with its new text.", body = MadeToken))
)]
pub(super) async fn rotate_token(
    State(api): State<SharedApi>,
    call: ApiCall<TokenPath, EmptyInput, JsonBody<TokenRotate>>,
) -> Result<JsonResponse<MadeToken>, ApiError> {
    let id = &call.path.token_id;
    let project = visible_project(&api, &call.who, id)?;
    let overlap = match &call.body.0.overlap {
        Some(text) => text.parse().map_err(|e| {
            ApiError::bad_request(format!("invalid \"overlap\" value \"{text}\": {e}."))
        })?,
        None => HumanDuration::secs(0),
    };
    if overlap > OVERLAP_MAX {
        return Err(ApiError::bad_request(format!(
            "invalid \"overlap\" value \"{overlap}\": at most {OVERLAP_MAX} are allowed."
        )));
    }
    let text = stored::format_token(id, &api.random.text(SECRET_CHARS));
    let hash = ConfiguredTokens::hash(text.as_bytes());
    let stamp = call.who.audit_stamp(api.clock.now());
    let rotated = api
        .repo
        .rotate_token(project, id, &hash, overlap.0, &stamp)
        .await;
    Ok(JsonResponse::ok(MadeToken {
        text,
        token: rotated.map_err(failed)?.to_view(),
    }))
}

/// Revokes a token at once.
#[utoipa::path(
    delete, path = "/v1/admin/tokens/{tokenId}", tag = "admin", operation_id = "RevokeToken",
    params(TokenPath),
    responses((status = 204, description = "Done."))
)]
pub(super) async fn revoke_token(
    State(api): State<SharedApi>,
    call: ApiCall<TokenPath>,
) -> Result<http::StatusCode, ApiError> {
    let id = &call.path.token_id;
    let project = visible_project(&api, &call.who, id)?;
    let stamp = call.who.audit_stamp(api.clock.now());
    let revoked = api.repo.revoke_token(project, id, &stamp).await;
    revoked.map_err(failed)?;
    Ok(http::StatusCode::NO_CONTENT)
}

/// Audit log of a project: who changed what, when and from where.
#[utoipa::path(
    get, path = "/v1/admin/audit", tag = "admin", operation_id = "Audit",
    params(AdminListQuery),
    extensions(("x-errors" = json!(["projectNotFound"]))),
    responses((status = 200, description = "A page of changes, oldest first.", body = AuditList))
)]
pub(super) async fn audit(
    State(api): State<SharedApi>,
    call: ApiCall<EmptyInput, AdminListQuery>,
) -> Result<JsonResponse<AuditList>, ApiError> {
    let project = project(&call.who, &call.query)?;
    let (after, limit) = (&call.query.after_id, call.query.limit as usize);
    let listing = api.repo.audit(project, after, limit).await?;
    let last = listing.items.last();
    let last = last.map_or_else(String::new, forebay_meta::catalog::audit::AuditEvent::id);
    Ok(JsonResponse::ok(AuditList {
        page: PageInfo::new(call.query.limit, listing.total, after, &last),
        changes: listing.items.iter().map(ToView::to_view).collect(),
    }))
}

/// The project of a list request.
fn project(who: &CallerIdentity, query: &AdminListQuery) -> Result<ProjectId, ApiError> {
    match query.project_id {
        None => Ok(who.project),
        Some(id) if who.operator || ProjectId(id) == who.project => Ok(ProjectId(id)),
        Some(id) => Err(ApiError::from_template(ErrorName::ProjectNotFound, &[&id])),
    }
}

fn configured(api: &ApiState, project: ProjectId) -> Vec<CallerIdentity> {
    let mut all = api.auth.configured();
    all.retain(|who| who.project == project);
    all
}

/// The project of a token, if the caller may access it.
fn visible_project(api: &ApiState, who: &CallerIdentity, id: &str) -> Result<ProjectId, ApiError> {
    let mut configured = api.auth.configured().into_iter();
    if configured.any(|c| c.token_id == id && (who.operator || c.project == who.project)) {
        return Err(ApiError::bad_request(format!(
            "token \"{id}\" comes from the server configuration: replace it there (the server's own token in the token file, others in \"api.tokens\") and send SIGHUP to the process."
        )));
    }
    stored::project_from_id(id)
        .filter(|project| who.operator || *project == who.project)
        .ok_or_else(|| error::token_not_found(id))
}

fn failed(error: TokenError) -> ApiError {
    match error {
        TokenError::NotFound(id) => error::token_not_found(&id),
        TokenError::LimitReached(_) => {
            ApiError::new(ErrorName::TokenCountLimitReached, format!("{error}."))
        }
        TokenError::OtherBranch { .. } => ApiError::bad_request(format!("{error}.")),
        TokenError::Exists(_) | TokenError::Conflict => ApiError::unavailable(error),
        TokenError::Store(e) => e.into(),
    }
}
