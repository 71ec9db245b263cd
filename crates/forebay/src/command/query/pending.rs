//! Records in flight to the tables of a statement.

use std::time::Duration;

use forebay_api::aggregation::{AggregatedSink, AggregatedSource, AggregationResponse};
use forebay_api::statistics::FileView;
use forebay_model::HumanDuration;
use forebay_model::words::counted;
use tokio::time::{Instant, sleep};

use crate::api_client::{AGGREGATION, ApiClient, encoded};
use crate::cli_error::CliError;

/// The server updates its counts twice a second.
const COUNT_INTERVAL: Duration = Duration::from_millis(1100);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A sink with its table.
#[derive(Debug)]
pub(super) struct PendingTable {
    source: String,
    sink: String,
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
    for source in api.list::<AggregationResponse>(AGGREGATION).await? {
        let AggregatedSource {
            source,
            sinks_total,
            mut sinks,
        } = source;
        if sinks_total > sinks.len() {
            let path = format!("{AGGREGATION}/{}", encoded(&source.source_id));
            sinks = api.list::<AggregatedSource>(&path).await?;
        }
        let source = &source.source_id;
        let pending = |sink| PendingTable::new(source, sink);
        all.extend(sinks.into_iter().filter_map(pending));
    }
    if all.iter().any(|p| sql.contains(&p.table)) {
        all.retain(|p| sql.contains(&p.table));
    }
    Ok(all)
}

impl PendingTable {
    /// `None` for a topic sink.
    fn new(source: &str, AggregatedSink { sink, statistics }: AggregatedSink) -> Option<Self> {
        let counts = statistics.reconciliation;
        let reason = |file: FileView| {
            let of_slice = file.failed_slice.and_then(|slice| slice.retry_reason);
            file.retry_reason.or(of_slice)
        };
        Some(Self {
            source: source.to_owned(),
            sink: sink.sink_id,
            table: sink.table?.table_id,
            accepted: counts.accepted,
            arrived: counts.imported + counts.dead + counts.expired + counts.lost,
            in_flight: counts.in_flight,
            cause: statistics.files.into_iter().find_map(reason),
        })
    }

    /// Several sinks can fill one table.
    fn is_same_sink(&self, other: &Self) -> bool {
        (&self.source, &self.sink) == (&other.source, &other.sink)
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
            let same = now.iter().find(|n| w.is_same_sink(n));
            same.is_some_and(|n| n.arrived < w.accepted)
        });
        let Some(late) = wanted.first() else {
            return Ok(());
        };
        if Instant::now() >= until {
            let late = now.iter().find(|n| late.is_same_sink(n)).unwrap_or(late);
            let failure = CliError::new(format_args!(
                "still in flight to \"{}\" after {timeout}: {}",
                late.table,
                counted(late.in_flight, "record")
            ));
            return Err(match &late.cause {
                Some(cause) => failure.hint(cause),
                None => failure,
            });
        }
        sleep(POLL_INTERVAL).await;
    }
}
