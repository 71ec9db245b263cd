//! Permanent deletion of a source, with its sinks, all versions and the tables that it filled.

use std::time::Duration;

use forebay_meta::catalog::table_drop::{DropDecision, FilledTable};
use forebay_meta::{DefinitionError, Revision};
use forebay_model::words::counted;
use forebay_model::{AuditStamp, SourceKey, TableId};

use super::ApiState;
use super::error::{ApiError, ErrorName};
use super::tasks::{self, CompletedChange};

/// Interval of checking for records in flight.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const DONE: &str = "Source and its destination tables and bucket have been deleted.";

/// Deletes a source, or continues the deletion of a deleted one: a request that failed halfway can
/// be repeated.
///
/// Accepted records reach their table before it is dropped, so a late import can't recreate it.
pub(super) async fn delete_source(
    api: &ApiState,
    key: &SourceKey,
    stamp: &AuditStamp,
) -> Result<CompletedChange, ApiError> {
    // Source nodes watch this deletion; later steps do not concern them.
    let deleted = match api.repo.delete_source(key, stamp).await {
        Ok(revision) => revision,
        Err(DefinitionError::SourceNotFound(_)) => Revision::default(),
        Err(e) => return Err(e.into()),
    };
    close_files(api, key, stamp).await;
    // A node that has not applied the deletion still accepts records, also messages that no file
    // counts.
    let since = api.repo.deleted_source(key).await?.revision;
    if !tasks::wait_for_nodes(api, since).await {
        let text = "the source is deleted, its tables are not: not all source nodes have stopped accepting records yet, try again later.";
        return Err(ApiError::new(ErrorName::TableNotDeleted, text));
    }
    wait_until_delivered(api, key).await?;
    let mut outcomes = Vec::new();
    for table in api.repo.filled_tables(key).await? {
        let outcome = drop_table(api, key, &table, stamp).await?;
        outcomes.push((outcome, table.table));
    }
    api.repo.purge_source(key, stamp).await?;
    Ok(CompletedChange::new(deleted, result(&outcomes)))
}

/// Closes the files of a source that accepts no records any more. If that fails, the coordinator
/// does it.
pub(super) async fn close_files(api: &ApiState, key: &SourceKey, stamp: &AuditStamp) {
    if let Err(error) = api.repo.settle_sinks(key, &[], stamp).await {
        tracing::warn!(source = %key, %error, "closing the files of a source failed; the coordinator closes them");
    }
}

/// Drops a table unless it is in use otherwise.
async fn drop_table(
    api: &ApiState,
    key: &SourceKey,
    table: &FilledTable,
    stamp: &AuditStamp,
) -> Result<DropDecision, ApiError> {
    let outcome = api.repo.drop_decision(key, table).await?;
    if outcome != DropDecision::Drop {
        return Ok(outcome);
    }
    let failed = |cause: &dyn std::fmt::Display| {
        let name = &table.table;
        let text = format!("the source is deleted, its table \"{name}\" is not: {cause}");
        ApiError::new(ErrorName::TableNotDeleted, text)
    };
    let Some(backend) = api.tables.get(table.backend) else {
        let name = table.backend.name();
        return Err(failed(&format_args!(
            "table type \"{name}\" is not configured on this server"
        )));
    };
    // Check first: if the backend is unavailable, the table is not marked.
    backend.check().await.map_err(|e| failed(&e))?;
    let outcome = api.repo.begin_drop(key, table, stamp).await?;
    if outcome != DropDecision::Drop {
        return Ok(outcome);
    }
    match backend.delete(&table.table).await {
        Ok(()) => {
            api.repo.table_dropped(key, table).await?;
            Ok(DropDecision::Drop)
        }
        Err(error) => {
            // Without a response it may still be dropped: keep the mark until the outcome is known.
            if !error.is_retryable() {
                api.repo.table_not_dropped(key, table).await?;
            }
            Err(failed(&error))
        }
    }
}

/// Waits until no records of the source are in flight.
async fn wait_until_delivered(api: &ApiState, key: &SourceKey) -> Result<(), ApiError> {
    // Leave some of the task's time to report a timeout.
    let timeout = api.config.task_timeout.0.mul_f64(0.8);
    let until = tokio::time::Instant::now() + timeout;
    loop {
        let files = api.repo.files_in_flight(key).await?;
        let messages = messages_in_flight(api, key).await?;
        if files == 0 && messages == 0 {
            return Ok(());
        }
        let now = tokio::time::Instant::now();
        if now >= until {
            let mut in_flight = counted(files, "file");
            if messages > 0 {
                in_flight.push_str(&format!(" and {} of topics", counted(messages, "message")));
            }
            let text = format!(
                "the source is deleted, its tables are not: records are still in flight ({in_flight}), try again when they are delivered."
            );
            return Err(ApiError::new(ErrorName::TableNotDeleted, text));
        }
        tokio::time::sleep_until(until.min(now + POLL_INTERVAL)).await;
    }
}

/// Undelivered messages of the source's topics, whose sinks are deleted by now.
async fn messages_in_flight(api: &ApiState, key: &SourceKey) -> Result<u64, ApiError> {
    let sinks = api.repo.all_deleted_sinks(key).await?;
    let topics = sinks.iter().filter(|s| s.target.topic().is_some());
    Ok(topics.map(|sink| api.topics.statistics(sink).waiting).sum())
}

fn result(tables: &[(DropDecision, TableId)]) -> String {
    let reasons = [
        (DropDecision::Held, "other sinks fill them too"),
        (DropDecision::Foreign, "they belong to another project"),
        (
            DropDecision::Found,
            "they were there before Forebay filled them",
        ),
    ];
    let mut text = DONE.to_owned();
    for (decision, reason) in reasons {
        let kept = tables.iter().filter(|(f, _)| *f == decision);
        let kept: Vec<String> = kept.map(|(_, table)| format!("\"{table}\"")).collect();
        if !kept.is_empty() {
            let kept = kept.join(", ");
            text.push_str(&format!(" Kept, because {reason}: {kept}."));
        }
    }
    text
}
