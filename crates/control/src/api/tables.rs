//! Ownership of tables. Only an operator's token can transfer or share a table; tables of other
//! projects are reported as not found.

use axum::extract::State;
use forebay_meta::catalog::tables::TableEntry;
use forebay_model::{ProjectId, TableBackend, TableId};

use super::body::{EmptyInput, JsonBody};
use super::call::ApiCall;
use super::error::{ApiError, ErrorName};
use super::json_response::JsonResponse;
use super::mapping::{backend, table_id};
use super::table_check::failed;
use super::{ApiState, SharedApi};
use crate::auth::CallerIdentity;
use forebay_api::common::PageInfo;
use forebay_api::params::{AdminListQuery, TablePath};
use forebay_api::table::{
    OwnedTable, TableDetail, TableOwners, TableShare, TableTransfer, TableUnshare,
};

/// Lists the tables that a project may use; for an operator's token without `projectId`, those of
/// all projects.
#[utoipa::path(
    get, path = "/v1/admin/tables", tag = "admin", operation_id = "ListTables",
    params(AdminListQuery),
    extensions(("x-errors" = json!(["projectNotFound"]))),
    responses((status = 200, description = "A page of tables, sorted by id.", body = TableOwners))
)]
pub(super) async fn list(
    State(api): State<SharedApi>,
    call: ApiCall<EmptyInput, AdminListQuery>,
) -> Result<JsonResponse<TableOwners>, ApiError> {
    let who = &call.who;
    let project = match call.query.project_id {
        Some(id) if who.operator || ProjectId(id) == who.project => Some(ProjectId(id)),
        Some(id) => return Err(ApiError::from_template(ErrorName::ProjectNotFound, &[&id])),
        None => (!who.operator).then_some(who.project),
    };
    let all = api.repo.table_entries().await?;
    let all = all
        .iter()
        .filter(|entry| project.is_none_or(|p| entry.is_usable_by(p)))
        .map(|entry| view(&api, who, entry));
    let mut tables: Vec<OwnedTable> = all.collect();
    let total = tables.len();
    let (after, limit) = (&call.query.after_id, call.query.limit);
    tables.retain(|t| t.id > *after);
    tables.truncate(limit as usize);
    let last = tables.last().map_or("", |t| t.id.as_str());
    Ok(JsonResponse::ok(TableOwners {
        page: PageInfo::new(limit, total, after, last),
        tables,
    }))
}

/// Returns a table, its owner and the sinks that fill it.
#[utoipa::path(
    get, path = "/v1/admin/tables/{tableType}/{tableId}", tag = "admin", operation_id = "GetTable",
    params(TablePath),
    extensions(("x-errors" = json!(["tableNotFound"]))),
    responses((status = 200, description = "The table.", body = TableDetail))
)]
pub(super) async fn get(
    State(api): State<SharedApi>,
    call: ApiCall<TablePath>,
) -> Result<JsonResponse<TableDetail>, ApiError> {
    let (backend, table) = parse_path(&api, &call.path)?;
    let entry = visible_entry(&api, &call.who, backend, &table).await?;
    let entry = entry.ok_or_else(|| not_found(&table))?;
    Ok(JsonResponse::ok(detail(&api, &call.who, &entry).await?))
}

/// Transfers a table to a project, from any owner. Requires an operator's token.
///
/// The project also becomes the owner of a table that has none, even if the table exists. An
/// unfinished deletion is cancelled.
#[utoipa::path(
    post, path = "/v1/admin/tables/{tableType}/{tableId}/transfer", tag = "admin", operation_id = "TransferTable",
    params(TablePath), request_body = TableTransfer,
    extensions(("x-errors" = json!(["tableInUse", "tableNotFound"]))),
    responses((status = 200, description = "The table.", body = TableDetail))
)]
pub(super) async fn transfer(
    State(api): State<SharedApi>,
    call: ApiCall<TablePath, EmptyInput, JsonBody<TableTransfer>>,
) -> Result<JsonResponse<TableDetail>, ApiError> {
    let (backend, table) = parse_path(&api, &call.path)?;
    operator_only(&api, &call.who, backend, &table).await?;
    let stamp = call.who.audit_stamp(api.clock.now());
    let (to, force) = (call.body.0.project_id, call.body.0.force);
    let given = api
        .repo
        .transfer_table(
            backend,
            &table,
            ProjectId(to),
            force.unwrap_or_default(),
            &stamp,
        )
        .await
        .map_err(failed)?;
    Ok(JsonResponse::ok(detail(&api, &call.who, &given).await?))
}

/// Shares a table with another project, which can fill but not drop it. Requires an operator's
/// token.
#[utoipa::path(
    post, path = "/v1/admin/tables/{tableType}/{tableId}/share", tag = "admin", operation_id = "ShareTable",
    params(TablePath), request_body = TableShare,
    extensions(("x-errors" = json!(["tableNotFound"]))),
    responses((status = 200, description = "The table.", body = TableDetail))
)]
pub(super) async fn share(
    State(api): State<SharedApi>,
    call: ApiCall<TablePath, EmptyInput, JsonBody<TableShare>>,
) -> Result<JsonResponse<TableDetail>, ApiError> {
    let (backend, table) = parse_path(&api, &call.path)?;
    operator_only(&api, &call.who, backend, &table).await?;
    let stamp = call.who.audit_stamp(api.clock.now());
    let with = ProjectId(call.body.0.project_id);
    let shared = api.repo.share_table(backend, &table, with, &stamp).await;
    let shared = shared.map_err(failed)?;
    Ok(JsonResponse::ok(detail(&api, &call.who, &shared).await?))
}

/// Stops sharing a table with a project. Requires an operator's token.
#[utoipa::path(
    post, path = "/v1/admin/tables/{tableType}/{tableId}/unshare", tag = "admin", operation_id = "UnshareTable",
    params(TablePath), request_body = TableUnshare,
    extensions(("x-errors" = json!(["tableInUse", "tableNotFound"]))),
    responses((status = 200, description = "The table.", body = TableDetail))
)]
pub(super) async fn unshare(
    State(api): State<SharedApi>,
    call: ApiCall<TablePath, EmptyInput, JsonBody<TableUnshare>>,
) -> Result<JsonResponse<TableDetail>, ApiError> {
    let (backend, table) = parse_path(&api, &call.path)?;
    operator_only(&api, &call.who, backend, &table).await?;
    let stamp = call.who.audit_stamp(api.clock.now());
    let (with, force) = (call.body.0.project_id, call.body.0.force);
    let unshared = api
        .repo
        .unshare_table(
            backend,
            &table,
            ProjectId(with),
            force.unwrap_or_default(),
            &stamp,
        )
        .await
        .map_err(failed)?;
    Ok(JsonResponse::ok(detail(&api, &call.who, &unshared).await?))
}

fn parse_path(api: &ApiState, path: &TablePath) -> Result<(TableBackend, TableId), ApiError> {
    let table = table_id(&path.table_id)?;
    let backend = backend(api, path.table_type)?;
    Ok((api.repo.table_key(backend, &table).backend(), table))
}

/// The table's entry, if the caller may access it.
async fn visible_entry(
    api: &ApiState,
    who: &CallerIdentity,
    backend: TableBackend,
    table: &TableId,
) -> Result<Option<TableEntry>, ApiError> {
    let entry = api.repo.table_entry(backend, table).await?;
    let entry = entry.map(|e| e.value);
    Ok(entry.filter(|e| who.operator || e.is_usable_by(who.project)))
}

async fn operator_only(
    api: &ApiState,
    who: &CallerIdentity,
    backend: TableBackend,
    table: &TableId,
) -> Result<(), ApiError> {
    if who.operator {
        return Ok(());
    }
    match visible_entry(api, who, backend, table).await? {
        Some(_) => Err(ApiError::forbidden(
            "only an operator's token can transfer and share tables",
        )),
        None => Err(not_found(table)),
    }
}

fn not_found(table: &TableId) -> ApiError {
    ApiError::from_template(ErrorName::TableNotFound, &[table])
}

async fn detail(
    api: &ApiState,
    who: &CallerIdentity,
    entry: &TableEntry,
) -> Result<TableDetail, ApiError> {
    let holders = api.repo.table_holders(entry).await?;
    let is_shown =
        |sink: &&forebay_model::SinkKey| who.operator || sink.source.branch.project == who.project;
    let sinks = holders.sinks.iter().filter(is_shown);
    Ok(TableDetail {
        table: view(api, who, entry),
        sinks: sinks.map(ToString::to_string).collect(),
        files: holders.files.iter().filter(is_shown).count(),
    })
}

fn view(api: &ApiState, who: &CallerIdentity, entry: &TableEntry) -> OwnedTable {
    let shared = entry.shared_with.iter().map(|p| p.0).collect();
    OwnedTable {
        id: api.repo.table_key(entry.backend, &entry.table).to_string(),
        r#type: entry.backend.into(),
        table_id: entry.table.to_string(),
        project_id: (who.operator || entry.owner == who.project).then_some(entry.owner.0),
        is_shared: entry.owner != who.project && entry.is_usable_by(who.project),
        shared_with: who.operator.then_some(shared),
        since: entry.claimed.at,
        filled_at: entry.filled_at,
        was_there: entry.found,
        is_being_deleted: entry.dropping.is_some(),
    }
}
