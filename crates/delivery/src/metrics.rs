//! Metrics of delivery, in one table: the binary describes them to its recorder and writes the
//! reference document from it.

use forebay_ingest::metrics::sink_labels;
use forebay_model::metric::PROJECT_LABEL;
use forebay_model::{MetricDefinition, SinkKey};

pub(crate) const STREAMS_UNKNOWN: &str = "forebay_streams_unknown";
const UPLOADS: &str = "forebay_uploads_total";
const UPLOADED_BYTES: &str = "forebay_uploaded_bytes_total";
const IMPORTS: &str = "forebay_imports_total";
const IMPORTED_ROWS: &str = "forebay_imported_rows_total";
const VANISHED_ROWS: &str = "forebay_target_lost_rows_total";
const SINK_FAILURES: &str = "forebay_sink_failures_total";

/// Labels of [`SINK_FAILURES`]: those of a sink, and the step.
const FAILURE_LABELS: &[&str] = &[PROJECT_LABEL, "branch", "source", "sink", "step"];

/// All metrics of delivery.
pub const DEFINITIONS: &[MetricDefinition] = &[
    MetricDefinition::gauge(
        STREAMS_UNKNOWN,
        "Streams of the log whose slice the metadata store does not know.",
    ),
    MetricDefinition::counter(UPLOADS, "Slices written to staging."),
    MetricDefinition::counter(
        UPLOADED_BYTES,
        "Size of slices written to staging, in bytes.",
    ),
    MetricDefinition::counter(IMPORTS, "Files imported into tables."),
    MetricDefinition::counter(IMPORTED_ROWS, "Rows imported into tables."),
    MetricDefinition::counter(
        VANISHED_ROWS,
        "Rows that tables had confirmed and that their ledgers lack: imported again, or lost.",
    ),
    MetricDefinition::counter(
        SINK_FAILURES,
        "Failed attempts to upload or import what a sink has accepted, by step: upload or import.",
    )
    .labels(FAILURE_LABELS),
];

/// A step that [`SINK_FAILURES`] counts.
#[derive(Clone, Copy, Debug)]
enum FailedStep {
    Upload,
    Import,
}

fn failures(sink: &SinkKey, step: FailedStep) -> metrics::Counter {
    let step = match step {
        FailedStep::Upload => "upload",
        FailedStep::Import => "import",
    };
    let mut labels = sink_labels(sink);
    labels.push(metrics::Label::new("step", step));
    metrics::counter!(SINK_FAILURES, labels)
}

/// Creates the failure counters of a sink with 0, so that the first failure is an increase.
pub fn register_sink(sink: &SinkKey) {
    for step in [FailedStep::Upload, FailedStep::Import] {
        failures(sink, step).increment(0);
    }
}

pub(crate) fn uploaded(bytes: u64) {
    metrics::counter!(UPLOADS).increment(1);
    metrics::counter!(UPLOADED_BYTES).increment(bytes);
}

pub(crate) fn upload_failed(sink: &SinkKey) {
    failures(sink, FailedStep::Upload).increment(1);
}

pub(crate) fn imported(rows: u64) {
    metrics::counter!(IMPORTS).increment(1);
    metrics::counter!(IMPORTED_ROWS).increment(rows);
}

pub(crate) fn import_failed(sink: &SinkKey) {
    failures(sink, FailedStep::Import).increment(1);
}

/// Counts confirmed rows that a table has lost.
pub(crate) fn rows_vanished(rows: u64) {
    metrics::counter!(VANISHED_ROWS).increment(rows);
}
