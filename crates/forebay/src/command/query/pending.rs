//! Records in flight to the tables of a statement.

use std::time::Duration;

use forebay_model::HumanDuration;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::api_client::ApiClient;
use crate::cli_error::CliError;
use crate::command::source::{encoded, text};

const AGGREGATION: &str = "/v1/branches/default/aggregation/sources";
/// The server updates its counts twice a second.
const COUNT_INTERVAL: Duration = Duration::from_millis(1100);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A sink with its table.
#[derive(Debug)]
pub(super) struct PendingTable {
    pub(super) table: String,
    accepted: u64,
    /// Imported, or certainly never to be.
    arrived: u64,
    pub(super) in_flight: u64,
    /// Error of the step that is being retried.
    cause: Option<String>,
}

/// Sinks whose tables the statement names; all sinks when it names none.
pub(super) async fn lookup(api: &ApiClient, sql: &str) -> Result<Vec<PendingTable>, CliError> {
    let mut all = Vec::new();
    for source in api.list(AGGREGATION, "sources", "sourceId").await? {
        let listed = source.get("sinks").and_then(Value::as_array).cloned();
        let mut sinks = listed.unwrap_or_default();
        let total = source.get("sinksTotal").and_then(Value::as_u64);
        if total.is_some_and(|total| total > sinks.len() as u64) {
            let path = format!("{AGGREGATION}/{}", encoded(text(&source, "sourceId")));
            sinks = api.list(&path, "sinks", "sinkId").await?;
        }
        all.extend(sinks.iter().filter_map(PendingTable::new));
    }
    if all.iter().any(|p| sql.contains(&p.table)) {
        all.retain(|p| sql.contains(&p.table));
    }
    Ok(all)
}

impl PendingTable {
    /// `None` for a topic sink.
    fn new(sink: &Value) -> Option<Self> {
        let table = sink.pointer("/table/tableId")?.as_str()?.to_owned();
        let count = |name: &str| {
            let count = sink.pointer(&format!("/statistics/reconciliation/{name}"));
            count.and_then(Value::as_u64).unwrap_or_default()
        };
        let files = sink.pointer("/statistics/files").and_then(Value::as_array);
        let reason = |file: &Value| {
            let own = file
                .get("retryReason")
                .or(file.pointer("/failedSlice/retryReason"));
            Some(own?.as_str()?.to_owned())
        };
        Some(Self {
            table,
            accepted: count("accepted"),
            arrived: count("imported") + count("dead") + count("expired") + count("lost"),
            in_flight: count("inFlight"),
            cause: files.into_iter().flatten().find_map(reason),
        })
    }
}

/// Waits until all records accepted so far are in the tables, at most `patience`.
pub(super) async fn wait(
    api: &ApiClient,
    sql: &str,
    timeout: HumanDuration,
) -> Result<(), CliError> {
    let until = Instant::now() + timeout.0;
    sleep(COUNT_INTERVAL).await;
    let mut wanted = lookup(api, sql).await?;
    loop {
        let now = lookup(api, sql).await?;
        wanted.retain(|w| {
            let mut tables = now.iter();
            let same = tables.find(|n| n.table == w.table);
            same.is_some_and(|n| n.arrived < w.accepted)
        });
        let Some(late) = wanted.first() else {
            return Ok(());
        };
        if Instant::now() >= until {
            let late = now.iter().find(|n| n.table == late.table).unwrap_or(late);
            let failure = CliError::new(format_args!(
                "{} records are still in flight to \"{}\" after {timeout}",
                late.in_flight, late.table
            ));
            return Err(match &late.cause {
                Some(cause) => failure.hint(cause),
                None => failure,
            });
        }
        sleep(POLL_INTERVAL).await;
    }
}
