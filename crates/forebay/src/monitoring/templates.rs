//! Metrics of templates.

use forebay_ingest::template::TemplatePool;
use forebay_model::{MetricDefinition, MetricFamily};

const QUEUED: MetricDefinition = MetricDefinition::gauge(
    "forebay_template_queued_records",
    "Records that wait for the evaluation of their templates, or are evaluated.",
);
const STARTS: MetricDefinition = MetricDefinition::counter(
    "forebay_template_worker_starts_total",
    "Processes started to evaluate templates; more than the configured workers have been replaced.",
);
const TRIPS: MetricDefinition = MetricDefinition::counter(
    "forebay_template_limits_exceeded_total",
    "Evaluations of templates that exceeded their limit of time or memory.",
);
const BLOCKED: MetricDefinition = MetricDefinition::gauge(
    "forebay_templates_blocked",
    "Templates that are not evaluated now, because they exceeded their limits.",
);

pub(super) const DEFINITIONS: [MetricDefinition; 4] = [QUEUED, STARTS, TRIPS, BLOCKED];

#[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
pub(super) fn families(pool: &TemplatePool) -> Vec<MetricFamily> {
    let stats = pool.stats();
    let values = [
        (&QUEUED, stats.queued as f64),
        (&STARTS, stats.worker_starts as f64),
        (&TRIPS, stats.trips as f64),
        (&BLOCKED, stats.tripped_templates as f64),
    ];
    let family = |(definition, value): (&'static MetricDefinition, f64)| {
        let mut family = MetricFamily::new(definition);
        family.push(&[], value);
        family
    };
    values.map(family).into()
}
