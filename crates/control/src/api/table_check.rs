//! Whether a sink may have a table, asked before the sink is made or changed.
//!
//! In this order: the backend's rules for names; whose the table is; and only then what is there, so
//! that nobody learns anything of a table that is another project's. A backend that does not answer
//! keeps nobody from making a sink: then the task has a warning.

use std::sync::Arc;

use forebay_connect::table::{InspectionFinding, Table, TableInspection};
use forebay_meta::catalog::tables::{TableOwnerError, TableRejection};
use forebay_model::{AuditStamp, ProjectId, TableBackend, TableSink};

use super::ApiState;
use super::error::{ApiError, ErrorName, bullets};
use crate::auth::CallerIdentity;

/// The seam to whatever keeps tables. The binary implements it.
pub trait TableBackends: Send + Sync {
    /// What keeps tables of that type, if this server has it.
    fn get(&self, backend: TableBackend) -> Option<Arc<dyn Table>>;
}

/// A table that a sink may have, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct TableCheck {
    /// Sentences for people.
    pub(super) warnings: Vec<String>,
    /// It is to be given to the operator's project: it may be there, and is nobody's.
    adopt: Option<(ProjectId, TableSink)>,
}

impl TableCheck {
    /// What has to be noted before a sink gets the table.
    pub(super) async fn record_adoption(
        &self,
        api: &ApiState,
        stamp: &AuditStamp,
    ) -> Result<(), ApiError> {
        let Some((project, table)) = &self.adopt else {
            return Ok(());
        };
        let adopted = api
            .repo
            .adopt_table(*project, table.backend, &table.table, stamp);
        adopted.await.map_err(failed)
    }
}

/// Checks the table of a sink that somebody wants to have.
pub(super) async fn check(
    api: &ApiState,
    who: &CallerIdentity,
    table: &TableSink,
) -> Result<TableCheck, ApiError> {
    let (findings, checked) = find_mismatches(api, who, table).await?;
    if findings.is_empty() {
        return Ok(checked);
    }
    let texts: Vec<String> = findings.iter().map(|f| in_request(table, f)).collect();
    Err(ApiError::bad_request(bullets(&texts)))
}

/// The same of a sink that is brought back as it was: what does not fit is a warning, since only a
/// sink that is there can be changed.
pub(super) async fn check_return(
    api: &ApiState,
    who: &CallerIdentity,
    table: &TableSink,
) -> Result<TableCheck, ApiError> {
    let (findings, mut checked) = find_mismatches(api, who, table).await?;
    let texts = findings.iter().map(|f| super::error::sentence(&f.message));
    checked.warnings.extend(texts);
    Ok(checked)
}

/// What keeps the mapping from the table.
pub(super) async fn find_mismatches(
    api: &ApiState,
    who: &CallerIdentity,
    table: &TableSink,
) -> Result<(Vec<InspectionFinding>, TableCheck), ApiError> {
    let Some(backend) = api.tables.get(table.backend) else {
        return Ok((Vec::new(), TableCheck::default()));
    };
    let findings = backend.check_names(&table.table, &table.mapping);
    if !findings.is_empty() {
        return Ok((findings, TableCheck::default()));
    }
    let is_known = is_claimed(api, who, table).await?;
    let mut checked = TableCheck::default();
    let adopt = || (!is_known && who.operator).then(|| (who.project, table.clone()));
    let inspection = match inspect(api, backend, table).await {
        Ok(inspection) => inspection,
        Err(cause) => {
            let id = &table.table;
            checked.warnings.push(format!(
                "Table \"{id}\" could not be checked, it is when the first file is imported: {cause}."
            ));
            checked.adopt = adopt();
            return Ok((Vec::new(), checked));
        }
    };
    // It may have been filled between the two readings: that is noted before the table is made.
    if inspection.exists && !is_known && !is_claimed(api, who, table).await? {
        checked.adopt = Some(adopt().ok_or_else(|| not_available(&format_args!(
            "\"tableId\" \"{}\" can't be used: the table is there already and belongs to no project, use another name or ask an operator for it (forebay table transfer).",
            table.table
        )))?);
    }
    Ok((inspection.findings, checked))
}

/// Whether it does not matter that the table is there: it was filled for the project, or an operator
/// has given it to the project. Refuses one that is another project's.
async fn is_claimed(
    api: &ApiState,
    who: &CallerIdentity,
    table: &TableSink,
) -> Result<bool, ApiError> {
    let entry = api
        .repo
        .may_use_table(who.project, table.backend, &table.table);
    let entry = entry.await.map_err(failed)?;
    Ok(entry.is_some_and(|e| e.assigned || e.filled_at.is_some()))
}

async fn inspect(
    api: &ApiState,
    backend: Arc<dyn Table>,
    table: &TableSink,
) -> Result<TableInspection, String> {
    let limit = api.config.table_check_timeout;
    let limit = limit.0.min(api.config.request_timeout.0 / 2);
    let inspected = tokio::time::timeout(limit, backend.inspect(&table.table, &table.mapping));
    match inspected.await {
        Ok(Ok(inspection)) => Ok(inspection),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!(
            "{} did not answer within {limit:?}",
            table.backend.name()
        )),
    }
}

/// A finding with the field of the request that is the cause.
fn in_request(table: &TableSink, finding: &InspectionFinding) -> String {
    let message = &finding.message;
    let column = finding
        .column
        .and_then(|i| Some((i, table.mapping.columns.get(i)?)));
    match column {
        Some((i, column)) => format!(
            "invalid \"table.mapping.columns[{i}].name\" value \"{}\": {message}",
            column.name
        ),
        None => format!("invalid \"tableId\" value \"{}\": {message}", table.table),
    }
}

/// Why a project can't have a table, without a word of other projects' names and numbers.
pub(super) fn rejection(refusal: TableRejection) -> ApiError {
    match refusal {
        TableRejection::Foreign(table) => not_available(&format_args!(
            "\"tableId\" \"{table}\" can't be used: the table belongs to another project, use another name or ask an operator to share it (forebay table share)."
        )),
        TableRejection::Dropping(table) => not_available(&format_args!(
            "\"tableId\" \"{table}\" can't be used now: the table is being deleted with a source, try again when that is done, or repeat it if it has failed."
        ))
        .retry_after(1),
    }
}

pub(super) fn failed(error: TableOwnerError) -> ApiError {
    match error {
        TableOwnerError::Rejected(refusal) => rejection(refusal),
        TableOwnerError::NotFound(table) => {
            ApiError::from_template(ErrorName::TableNotFound, &[&table])
        }
        TableOwnerError::InUse { .. } => ApiError::new(
            ErrorName::TableInUse,
            format!(
                "{error}: delete them or give them another table first, or force it: what they have on its way is not imported then."
            ),
        ),
        TableOwnerError::LimitReached(_) => ApiError::bad_request(format!("{error}.")),
        TableOwnerError::Conflict => ApiError::unavailable(error),
        TableOwnerError::Store(e) => e.into(),
    }
}

fn not_available(why: &dyn std::fmt::Display) -> ApiError {
    ApiError::from_template(ErrorName::TableNotAvailable, &[why])
}
