//! A source deleted for good: with its sinks, all versions, and the tables that they have filled.

use std::time::Duration;

use async_trait::async_trait;
use forebay_meta::repo::purge::FilledTable;
use forebay_meta::{DefinitionError, Revision};
use forebay_model::{SourceKey, Stamp, TableBackend, TableId};

use super::Inner;
use super::error::{ApiError, ErrorName};
use super::tasks::{self, Done};

/// How often it is looked whether records are still on their way.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// What is said when everything is gone.
const DONE: &str = "Source and its destination tables and bucket have been deleted.";

/// The seam to whatever keeps tables, for taking them away. The binary implements it.
#[async_trait]
pub trait DropTables: Send + Sync {
    /// Deletes a table with its rows. One that is not there is deleted already.
    ///
    /// # Errors
    /// Why it is still there, in words for people.
    async fn drop_table(&self, backend: TableBackend, table: &TableId) -> Result<(), String>;
}

/// Deletes a source that is there, or goes on with one that is deleted: what has failed half-way is
/// repeated by the same request.
///
/// Records that were accepted reach their table before it is deleted, so none of them brings it
/// back afterwards.
pub(super) async fn run(api: &Inner, key: &SourceKey, stamp: &Stamp) -> Result<Done, ApiError> {
    // This is what source nodes follow; what is forgotten later is of no concern to them.
    let deleted = match api.repo.delete_source(key, stamp).await {
        Ok(revision) => revision,
        Err(DefinitionError::SourceNotFound(_)) => Revision::default(),
        Err(e) => return Err(e.into()),
    };
    // A node that has not followed yet goes on to take records, also messages that no file counts.
    let since = api.repo.deleted_source(key).await?.revision;
    if !tasks::follow(api, since).await {
        let text = "the source is deleted, its tables are not: not all source nodes have followed that yet, try again later.";
        return Err(ApiError::new(ErrorName::TableNotDeleted, text));
    }
    arrived(api, key).await?;
    let tables = api.repo.filled_tables(key).await?;
    for table in tables.iter().filter(|t| t.also_of.is_none()) {
        let dropped = api.tables.drop_table(table.backend, &table.table).await;
        dropped.map_err(|cause| {
            let name = &table.table;
            let text = format!("the source is deleted, its table \"{name}\" is not: {cause}");
            ApiError::new(ErrorName::TableNotDeleted, text)
        })?;
    }
    api.repo.purge_source(key, stamp).await?;
    Ok(Done::new(deleted, result(&tables)))
}

/// Waits until nothing of the source is on its way.
async fn arrived(api: &Inner, key: &SourceKey) -> Result<(), ApiError> {
    // Some time of the task is left to say so.
    let patience = api.config.task_timeout.0.mul_f64(0.8);
    let until = tokio::time::Instant::now() + patience;
    loop {
        let files = api.repo.files_in_flight(key).await?;
        let messages = messages_in_flight(api, key).await?;
        if files == 0 && messages == 0 {
            return Ok(());
        }
        let now = tokio::time::Instant::now();
        if now >= until {
            let on_the_way = if messages == 0 {
                format!("{files} files are still on their way to them")
            } else {
                format!("{files} files and {messages} messages of topics are still on their way")
            };
            let text = format!(
                "the source is deleted, its tables are not: {on_the_way}, try again when they have arrived."
            );
            return Err(ApiError::new(ErrorName::TableNotDeleted, text));
        }
        tokio::time::sleep_until(until.min(now + LOOK_INTERVAL)).await;
    }
}

/// Messages of the source's topics that are not delivered: its sinks are deleted by now.
async fn messages_in_flight(api: &Inner, key: &SourceKey) -> Result<u64, ApiError> {
    let max = forebay_model::limits::SINKS_MAX;
    let sinks = api.repo.deleted_sinks(key, "", max).await?.items;
    let topics = sinks.iter().filter(|s| s.target.topic().is_some());
    Ok(topics.map(|sink| api.topics.statistics(sink).waiting).sum())
}

fn result(tables: &[FilledTable]) -> String {
    let kept = tables.iter().filter(|t| t.also_of.is_some());
    let kept: Vec<String> = kept.map(|t| format!("\"{}\"", t.table)).collect();
    if kept.is_empty() {
        return DONE.to_owned();
    }
    let kept = kept.join(", ");
    format!("{DONE} Kept, because other sinks fill them too: {kept}.")
}
