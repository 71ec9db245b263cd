//! Metrics and log lines about the state of sinks.
//!
//! A monitor reads the state of all sinks at intervals. It logs one line when a sink begins to fail,
//! one when it recovers, and keeps the last state for `/metrics`.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use forebay_control::api::TopicService;
use forebay_control::sink_status::{DeliveryStep, SinkHealth, SinkStatus, sink_statuses};
use forebay_meta::Repo;
use forebay_model::metric::{PROJECT_LABEL, SINK_LABELS};
use forebay_model::{Clock, MetricDefinition, MetricFamily, SinkKey, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Reading the states uses at most this part of the time, so that many sinks are read less often.
const TIME_SHARE: u32 = 20;

const fn gauge(name: &'static str, help: &'static str) -> MetricDefinition {
    MetricDefinition::gauge(name, help).labels(SINK_LABELS)
}

const SINKS: MetricDefinition = MetricDefinition::gauge(
    "forebay_sinks",
    "Number of sinks by state: ok, failing, parked, paused or disabled.",
)
.labels(&["state"]);
const STATUS_TIME: MetricDefinition = MetricDefinition::gauge(
    "forebay_sink_status_timestamp_seconds",
    "When the state of the sinks was read last, in seconds since 1970-01-01T00:00:00Z; 0 before.",
);
const RECORDS: MetricDefinition = MetricDefinition::counter(
    "forebay_sink_records_total",
    "Records of a sink by outcome: accepted, imported (in the table, or confirmed by the provider), expired (dropped) or lost.",
)
.labels(&[PROJECT_LABEL, "branch", "source", "sink", "outcome"]);
const BYTES: MetricDefinition = MetricDefinition::counter(
    "forebay_sink_accepted_bytes_total",
    "Uncompressed rows of all accepted records of a table's sink, in bytes.",
)
.labels(SINK_LABELS);
const PENDING: MetricDefinition = gauge(
    "forebay_sink_pending_records",
    "Accepted records that are not imported yet.",
);
const PENDING_BYTES: MetricDefinition = gauge(
    "forebay_sink_pending_bytes",
    "Accepted rows that are not imported yet, uncompressed, in bytes.",
);
const OLDEST: MetricDefinition = gauge(
    "forebay_sink_oldest_pending_timestamp_seconds",
    "Receipt of the oldest record that is not imported yet, in seconds since 1970-01-01T00:00:00Z; 0 when there is none.",
);
const LAG: MetricDefinition = gauge(
    "forebay_sink_lag_seconds",
    "Age of the oldest record that is not imported yet, in seconds; 0 when there is none.",
);
const DEAD: MetricDefinition = gauge(
    "forebay_sink_dead_letters",
    "Dead letters: records that the mapping or the target rejected, neither replayed nor dropped.",
);
const FAILING: MetricDefinition = MetricDefinition::gauge(
    "forebay_sink_failing",
    "1 while a step fails and is retried, by step: close, upload, import or deliver.",
)
.labels(&[PROJECT_LABEL, "branch", "source", "sink", "step"]);
const FAILING_SINCE: MetricDefinition = gauge(
    "forebay_sink_failing_since_timestamp_seconds",
    "First failure of the step that fails, in seconds since 1970-01-01T00:00:00Z; 0 when none fails.",
);
const NEXT_ATTEMPT: MetricDefinition = gauge(
    "forebay_sink_next_attempt_timestamp_seconds",
    "Next attempt of the step that fails, in seconds since 1970-01-01T00:00:00Z; 0 when none fails or waits.",
);
const PARKED: MetricDefinition = gauge(
    "forebay_sink_parked",
    "1 while the target rejects a file of the sink, which waits for an operator.",
);
const UNBALANCED: MetricDefinition = gauge(
    "forebay_sink_unbalanced",
    "1 if accepted records differ from imported, dead, expired, lost and pending ones: records are missing or duplicated.",
);

pub(super) const DEFINITIONS: [MetricDefinition; 14] = [
    SINKS,
    STATUS_TIME,
    RECORDS,
    BYTES,
    PENDING,
    PENDING_BYTES,
    OLDEST,
    LAG,
    DEAD,
    FAILING,
    FAILING_SINCE,
    NEXT_ATTEMPT,
    PARKED,
    UNBALANCED,
];

/// Where the state of sinks is read.
#[derive(Clone)]
pub(crate) struct SinkMonitorDeps {
    pub(crate) repo: Repo,
    pub(crate) topics: Arc<dyn TopicService>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) interval: Duration,
    /// Maximum number of sinks with series of their own.
    pub(crate) sinks_max: usize,
}

/// The last state of all sinks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SinkMonitor {
    deps: SinkMonitorDeps,
    last: Arc<RwLock<Option<SinkSnapshot>>>,
}

#[derive(Clone)]
struct SinkSnapshot {
    read_at: Timestamp,
    sinks: Arc<Vec<SinkStatus>>,
}

/// A failure that was logged.
struct ReportedFailure {
    step: DeliveryStep,
    since: Timestamp,
}

impl SinkMonitor {
    pub(crate) fn new(deps: SinkMonitorDeps) -> Self {
        Self {
            deps,
            last: Arc::default(),
        }
    }

    /// Reads and reports until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut reported = HashMap::new();
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            let started = Instant::now();
            match sink_statuses(&self.deps.repo, &*self.deps.topics).await {
                Ok(sinks) => self.update(sinks, &mut reported),
                Err(error) => tracing::warn!(%error, "reading the state of sinks failed"),
            }
            wait = self.deps.interval.max(started.elapsed() * TIME_SHARE);
        }
    }

    fn update(&self, sinks: Vec<SinkStatus>, reported: &mut HashMap<SinkKey, ReportedFailure>) {
        let now = self.deps.clock.now();
        for status in &sinks {
            forebay_flow::metrics::register_sink(&status.sink.key);
            log_transition(status, now, reported);
        }
        reported.retain(|key, _| sinks.iter().any(|s| s.sink.key == *key));
        let snapshot = SinkSnapshot {
            read_at: now,
            sinks: Arc::new(sinks),
        };
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
    }

    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        let last = last.clone();
        let now = self.deps.clock.now();
        families(last.as_ref(), now, self.deps.sinks_max)
    }
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
    let since = failure.since.unwrap_or(now);
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
            since,
        };
        reported.insert(sink.clone(), reporting);
    }
}

/// Value of a sink's gauge at a time.
type SinkGauge = fn(&SinkStatus, Timestamp) -> f64;

/// The gauges with the labels of a sink.
#[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
const GAUGES: [(&MetricDefinition, SinkGauge); 9] = [
    (&PENDING, |s, _| s.reconciliation.in_flight as f64),
    (&PENDING_BYTES, |s, _| s.pending_bytes as f64),
    (&OLDEST, |s, _| seconds(s.oldest_pending_at)),
    (&LAG, |s, now| {
        let age = s.oldest_pending_at.map(|at| now.since(at));
        age.unwrap_or_default().as_secs_f64()
    }),
    (&DEAD, |s, _| s.reconciliation.dead as f64),
    (&FAILING_SINCE, |s, _| {
        seconds(s.failure.as_ref().and_then(|f| f.since))
    }),
    (&NEXT_ATTEMPT, |s, _| {
        seconds(s.failure.as_ref().and_then(|f| f.next_attempt))
    }),
    (&PARKED, |s, _| flag(s.health == SinkHealth::Parked)),
    (&UNBALANCED, |s, _| flag(!s.reconciliation.holds())),
];

/// Families of the sinks, at most `max` with series of their own.
#[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
fn families(last: Option<&SinkSnapshot>, now: Timestamp, max: usize) -> Vec<MetricFamily> {
    let all = last.map(|l| l.sinks.as_slice()).unwrap_or_default();
    let mut sinks = MetricFamily::new(&SINKS);
    for health in SinkHealth::ALL {
        let count = all.iter().filter(|s| s.health == health).count();
        sinks.push(&[health.name()], count as f64);
    }
    let mut read_at = MetricFamily::new(&STATUS_TIME);
    read_at.push(&[], seconds(last.map(|l| l.read_at)));
    let mut records = MetricFamily::new(&RECORDS);
    let mut bytes = MetricFamily::new(&BYTES);
    let mut failing = MetricFamily::new(&FAILING);
    let mut gauges = GAUGES.map(|(definition, _)| MetricFamily::new(definition));
    // Failing ones first: with more sinks than series, those matter.
    let mut shown: Vec<&SinkStatus> = all.iter().collect();
    shown.sort_by_key(|s| !s.needs_attention());
    for status in shown.into_iter().take(max) {
        let labels = sink_labels(&status.sink.key);
        let [project, branch, source, sink] = labels.each_ref().map(String::as_str);
        let counts = &status.reconciliation;
        for (outcome, count) in [
            ("accepted", counts.accepted),
            ("imported", counts.imported),
            ("expired", counts.expired),
            ("lost", counts.lost),
        ] {
            records.push(&[project, branch, source, sink, outcome], count as f64);
        }
        if let Some(accepted) = status.bytes {
            bytes.push(&[project, branch, source, sink], accepted as f64);
        }
        for step in DeliveryStep::ALL {
            let fails = status.failure.as_ref().is_some_and(|f| f.step == step);
            failing.push(&[project, branch, source, sink, step.name()], flag(fails));
        }
        for (family, (_, value)) in gauges.iter_mut().zip(GAUGES) {
            family.push(&[project, branch, source, sink], value(status, now));
        }
    }
    let mut families = vec![sinks, read_at, records, bytes, failing];
    families.extend(gauges);
    families
}

fn sink_labels(sink: &SinkKey) -> [String; 4] {
    let branch = &sink.source.branch;
    [
        branch.project.to_string(),
        branch.branch.to_string(),
        sink.source.source.to_string(),
        sink.sink.to_string(),
    ]
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

/// 0 for none.
#[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
fn seconds(at: Option<Timestamp>) -> f64 {
    at.map_or(0.0, |at| at.as_millis() as f64 / 1000.0)
}
