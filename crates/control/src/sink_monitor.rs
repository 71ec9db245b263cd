//! Monitor of sinks: reads the state of all sinks at intervals, and logs one line when a sink begins
//! to fail and one when it recovers. Metrics and status show its last reading.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_meta::{FileError, Repo};
use forebay_model::{Clock, SinkKey, Timestamp};
use parking_lot::RwLock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::TopicService;
use crate::sink_status::{DeliveryStep, SinkStatus, sink_statuses};

/// Reading uses at most this part of the time, so that many sinks are read less often.
const TIME_SHARE: u32 = 20;

/// What a monitor reads, and how often.
#[derive(Clone)]
pub struct SinkMonitorDeps {
    pub repo: Repo,
    pub topics: Arc<dyn TopicService>,
    pub clock: Arc<dyn Clock>,
    pub interval: Duration,
}

/// The monitor. Cheap to clone.
#[derive(Clone)]
pub struct SinkMonitor {
    deps: SinkMonitorDeps,
    last: Arc<RwLock<Option<SinkSnapshot>>>,
    /// One reading at a time; the failures that were logged.
    reading: Arc<tokio::sync::Mutex<HashMap<SinkKey, ReportedFailure>>>,
}

/// A reading of all sinks.
#[derive(Clone, Debug)]
pub struct SinkSnapshot {
    pub read_at: Timestamp,
    read: Instant,
    /// How long the reading took.
    took: Duration,
    /// In the order of their keys.
    pub sinks: Arc<Vec<SinkStatus>>,
    /// Rates since the reading before.
    pub rates: Arc<HashMap<SinkKey, SinkRates>>,
}

/// Records a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SinkRates {
    pub accepted: f64,
    pub imported: f64,
}

/// A failure that was logged.
#[derive(Debug)]
struct ReportedFailure {
    step: DeliveryStep,
    since: Timestamp,
}

impl SinkMonitor {
    pub fn new(deps: SinkMonitorDeps) -> Self {
        Self {
            deps,
            last: Arc::default(),
            reading: Arc::default(),
        }
    }

    pub fn now(&self) -> Timestamp {
        self.deps.clock.now()
    }

    /// The last reading, if there was one.
    pub fn last(&self) -> Option<SinkSnapshot> {
        let last = self.last.read();
        last.clone()
    }

    /// Reads at intervals until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let read = self.current(Duration::ZERO).await;
            let took = match read {
                Ok(snapshot) => snapshot.took,
                Err(error) => {
                    tracing::warn!(%error, "reading the state of sinks failed");
                    Duration::ZERO
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.deps.interval.max(took * TIME_SHARE)) => {}
            }
        }
    }

    /// A reading that is at most so old, or older if reading takes long.
    pub async fn current(&self, max_age: Duration) -> Result<SinkSnapshot, FileError> {
        let mut reported = self.reading.lock().await;
        let before = self.last();
        if let Some(before) = &before
            && !max_age.is_zero()
            && before.read.elapsed() <= max_age.max(before.took * TIME_SHARE)
        {
            return Ok(before.clone());
        }
        let started = Instant::now();
        let sinks = sink_statuses(&self.deps.repo, &*self.deps.topics).await?;
        let now = self.now();
        for status in &sinks {
            log_transition(status, now, &mut reported);
        }
        if !reported.is_empty() {
            reported.retain(|key, _| sinks.iter().any(|s| s.sink.key == *key));
        }
        let rates = before.map(|before| rates(&before, &sinks, started));
        let snapshot = SinkSnapshot {
            read_at: now,
            read: started,
            took: started.elapsed(),
            sinks: Arc::new(sinks),
            rates: Arc::new(rates.unwrap_or_default()),
        };
        *self.last.write() = Some(snapshot.clone());
        Ok(snapshot)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
fn rates(before: &SinkSnapshot, sinks: &[SinkStatus], now: Instant) -> HashMap<SinkKey, SinkRates> {
    let seconds = (now - before.read).as_secs_f64().max(0.001);
    let counts_before: HashMap<_, _> = before
        .sinks
        .iter()
        .map(|s| (&s.sink.key, s.reconciliation))
        .collect();
    let rate = |after: u64, before: u64| after.saturating_sub(before) as f64 / seconds;
    let rates = sinks.iter().filter_map(|status| {
        let counts = status.reconciliation;
        let before = counts_before.get(&status.sink.key)?;
        let rates = SinkRates {
            accepted: rate(counts.accepted, before.accepted),
            imported: rate(counts.imported, before.imported),
        };
        Some((status.sink.key.clone(), rates))
    });
    rates.collect()
}

/// One line when a sink begins to fail or fails at another step, one when it no longer does.
fn log_transition(
    status: &SinkStatus,
    now: Timestamp,
    reported: &mut HashMap<SinkKey, ReportedFailure>,
) {
    let sink = &status.sink.key;
    let pending = status.reconciliation.in_flight;
    let Some(failure) = &status.failure else {
        if let Some(ended) = reported.remove(sink) {
            let duration = now.since(ended.since);
            tracing::info!(%sink, step = ended.step.name(), ?duration, pending, "sink recovered");
        }
        return;
    };
    let is_new = reported
        .get(sink)
        .is_none_or(|before| before.step != failure.step);
    if is_new {
        let step = failure.step.name();
        let (cause, attempts, parked) = (&failure.cause, failure.attempts, failure.parked);
        let next = failure.next_attempt.map(tracing::field::display);
        tracing::warn!(%sink, step, cause, attempts, parked, next_attempt = next, pending, "sink failing");
        let reporting = ReportedFailure {
            step: failure.step,
            since: failure.since.unwrap_or(now),
        };
        reported.insert(sink.clone(), reporting);
    }
}
