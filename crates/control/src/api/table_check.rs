//! Checks whether a sink may use a table, before the sink is created or changed.
//!
//! In this order: the backend's naming rules, ownership, and only then the existing table, so that
//! a project learns nothing of another project's table. An unavailable backend does not block the
//! creation of a sink: the task then has a warning.

use std::sync::Arc;

use forebay_connect::table::{InspectionFinding, Table, TableInspection};
use forebay_meta::catalog::tables::TableOwnerError;
use forebay_model::{AuditStamp, ProjectId, TableSink};

use super::ApiState;
use super::error::{ApiError, ErrorName, FieldFinding, table_not_available, table_rejected};
use crate::auth::CallerIdentity;

/// Result of a table check.
#[derive(Debug, Default)]
pub(super) struct TableCheck {
    /// Sentences for users.
    pub(super) warnings: Vec<String>,
    /// Give the table to the operator's project: it may exist and belongs to no project.
    adopt: Option<(ProjectId, TableSink)>,
}

impl TableCheck {
    /// Records the ownership before a sink gets the table.
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

/// Checks the table of a new or changed sink.
pub(super) async fn check(
    api: &ApiState,
    who: &CallerIdentity,
    table: &TableSink,
) -> Result<TableCheck, ApiError> {
    let (findings, checked) = find_mismatches(api, who, table).await?;
    if findings.is_empty() {
        return Ok(checked);
    }
    let finding = |found: &InspectionFinding| FieldFinding {
        field: Some(match found.column {
            Some(column) => format!("table.mapping.columns[{column}]"),
            None => "table.tableId".to_owned(),
        }),
        message: in_request(table, found),
    };
    let findings = findings.iter().map(finding).collect();
    Err(ApiError::from_findings(findings))
}

/// Checks the table of an undeleted sink: violations are warnings, since only an existing sink can
/// be changed.
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

/// Finds differences between the mapping and the table.
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
                "Table \"{id}\" could not be checked now and is checked when the first file is imported: {cause}."
            ));
            checked.adopt = adopt();
            return Ok((Vec::new(), checked));
        }
    };
    // It may have been filled between the two reads: that is recorded before the table is created.
    if inspection.exists && !is_known && !is_claimed(api, who, table).await? {
        checked.adopt = Some(adopt().ok_or_else(|| table_not_available(&format_args!(
            "\"tableId\" \"{}\" can't be used: the table already exists and belongs to no project, use another name or ask an operator for it (forebay table transfer).",
            table.table
        )))?);
    }
    Ok((inspection.findings, checked))
}

/// Whether an existing table is allowed: it was filled for the project, or an operator gave it to
/// the project. Rejects one of another project.
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
            "{} did not respond within {limit:?}",
            table.backend.name()
        )),
    }
}

/// A finding with the field of the request that caused it.
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

pub(super) fn failed(error: TableOwnerError) -> ApiError {
    match error {
        TableOwnerError::Rejected(cause) => table_rejected(cause),
        TableOwnerError::NotFound(table) => {
            ApiError::from_template(ErrorName::TableNotFound, &[&table])
        }
        TableOwnerError::InUse { .. } => ApiError::new(
            ErrorName::TableInUse,
            format!(
                "{error}: delete them or give them another table first, or use --force (force=true): their records in flight are not imported then."
            ),
        ),
        TableOwnerError::LimitReached(_) => ApiError::bad_request(format!("{error}.")),
        TableOwnerError::Conflict => ApiError::unavailable(error),
        TableOwnerError::Store(e) => e.into(),
    }
}
