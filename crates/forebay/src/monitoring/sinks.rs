//! Metrics of sinks.

use forebay_control::sink_monitor::{SinkMonitor, SinkSnapshot};
use forebay_control::sink_status::{DeliveryStep, SinkHealth, SinkStatus};
use forebay_model::metric::{PROJECT_LABEL, SINK_LABELS};
use forebay_model::{MetricDefinition, MetricFamily, SinkKey, Timestamp};

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

/// Sinks as metrics, at most `max` of them with series of their own.
pub(super) fn families(sinks: &SinkMonitor, max: usize) -> Vec<MetricFamily> {
    let last = sinks.last();
    if let Some(last) = &last {
        for status in last.sinks.iter().take(max) {
            forebay_delivery::metrics::register_sink(&status.sink.key);
        }
    }
    snapshot_families(last.as_ref(), sinks.now(), max)
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

#[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
fn snapshot_families(last: Option<&SinkSnapshot>, now: Timestamp, max: usize) -> Vec<MetricFamily> {
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
