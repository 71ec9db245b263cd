//! Metrics of ingest, in one table: the binary describes them to its recorder and writes the
//! reference document from it.

use std::fmt;

use forebay_model::metric::{PROJECT_LABEL, SINK_LABELS};
use forebay_model::{MetricDefinition, PathUse, ProjectId, SinkKey, SourceId};

/// Requests of the HTTP source.
pub(crate) const REQUESTS: &str = "forebay_http_requests_total";
pub(crate) const BODY_BYTES: &str = "forebay_http_body_bytes_total";
pub(crate) const CONNECTIONS: &str = "forebay_http_connections";
pub(crate) const CONNECTIONS_REJECTED: &str = "forebay_http_connections_rejected_total";
pub(crate) const HTTP_REJECTED: &str = "forebay_http_rejected_total";
pub(crate) const ACK_SECONDS: &str = "forebay_ack_seconds";
pub(crate) const SIGNATURES_REJECTED: &str = "forebay_signatures_rejected_total";
pub(crate) const QUOTA_REJECTED: &str = "forebay_quota_rejected_total";
pub(crate) const PROJECT_DISK_BYTES: &str = "forebay_project_disk_bytes";
pub(crate) const IN_FLIGHT_BYTES: &str = "forebay_in_flight_bytes";
pub(crate) const ROWS_ACCEPTED: &str = "forebay_rows_accepted_total";
pub(crate) const ROWS_REJECTED: &str = "forebay_rows_rejected_total";
pub(crate) const ROWS_DEAD: &str = "forebay_rows_dead_lettered_total";
pub(crate) const ROWS_FAILED: &str = "forebay_rows_failed_total";
pub(crate) const BLOCK_ROWS: &str = "forebay_block_rows";
pub(crate) const BLOCK_RAW_BYTES: &str = "forebay_block_raw_bytes";
pub(crate) const BLOCK_STORED_BYTES: &str = "forebay_block_stored_bytes_total";
pub(crate) const PIPELINES: &str = "forebay_pipelines";
pub(crate) const PROCESSED_REVISION: &str = "forebay_processed_revision";
const SOURCE_ROWS: &str = "forebay_source_rows_total";
const SOURCE_BODY_BYTES: &str = "forebay_source_body_bytes_total";
const COLUMNS_NEVER_FOUND: &str = "forebay_columns_never_found";

/// All metrics of ingest.
pub const DEFINITIONS: &[MetricDefinition] = &[
    MetricDefinition::counter(REQUESTS, "Requests of the HTTP source.").labels(&["status"]),
    MetricDefinition::counter(BODY_BYTES, "Request bodies as sent, in bytes."),
    MetricDefinition::gauge(CONNECTIONS, "Open connections of the HTTP source."),
    MetricDefinition::counter(
        CONNECTIONS_REJECTED,
        "Connections rejected because source.http.maxConnections or maxConnectionsPerClient was reached.",
    ),
    MetricDefinition::counter(
        HTTP_REJECTED,
        "Requests of the HTTP source rejected as a whole, by the error of the response.",
    )
    .labels(&["cause"]),
    MetricDefinition::histogram(
        ACK_SECONDS,
        "Time from a request's last byte to its response, in seconds.",
    ),
    MetricDefinition::counter(
        QUOTA_REJECTED,
        "Requests rejected because a quota was used up.",
    )
    .labels(&[PROJECT_LABEL, "source", "cause"]),
    MetricDefinition::counter(
        SIGNATURES_REJECTED,
        "Requests rejected because of their signature, of a source that requires one; cause: missing, malformed, mismatch or expired.",
    )
    .labels(&[PROJECT_LABEL, "source", "cause"]),
    MetricDefinition::gauge(
        PROJECT_DISK_BYTES,
        "What a project holds in the log and in staging, in bytes.",
    )
    .labels(&[PROJECT_LABEL]),
    MetricDefinition::gauge(
        IN_FLIGHT_BYTES,
        "Request bodies in flight and rows not yet on disk, in bytes.",
    ),
    MetricDefinition::counter(ROWS_ACCEPTED, "Rows acknowledged."),
    MetricDefinition::counter(ROWS_REJECTED, "Rows rejected by a mapping."),
    MetricDefinition::counter(
        ROWS_DEAD,
        "Records rejected by a mapping and kept as dead letters.",
    ),
    MetricDefinition::counter(
        ROWS_FAILED,
        "Rows that could not be stored, or whose outcome is unknown.",
    ),
    MetricDefinition::counter(
        SOURCE_ROWS,
        "Rows of a source's records, one for each sink, by outcome: accepted, rejected, dead_lettered or failed.",
    )
    .labels(&[PROJECT_LABEL, "source", "outcome"]),
    MetricDefinition::counter(
        SOURCE_BODY_BYTES,
        "Request bodies of a source as sent, in bytes.",
    )
    .labels(&[PROJECT_LABEL, "source"]),
    MetricDefinition::histogram(BLOCK_ROWS, "Rows of a sealed block."),
    MetricDefinition::histogram(
        BLOCK_RAW_BYTES,
        "Size of a sealed block before compression, in bytes.",
    ),
    MetricDefinition::counter(
        BLOCK_STORED_BYTES,
        "Size of sealed blocks after compression, in bytes.",
    ),
    MetricDefinition::gauge(PIPELINES, "Slices that rows are written into."),
    MetricDefinition::gauge(
        PROCESSED_REVISION,
        "Revision of the metadata store up to which this node has detached closing slices.",
    ),
    MetricDefinition::gauge(
        COLUMNS_NEVER_FOUND,
        "Path columns with a default that no record had since the start or the last change of the mapping; set when a slice is closed.",
    )
    .labels(SINK_LABELS),
];

/// Labels of a sink's series in the recorder.
pub fn sink_labels(sink: &SinkKey) -> Vec<metrics::Label> {
    let branch = &sink.source.branch;
    vec![
        metrics::Label::new("project", branch.project.to_string()),
        metrics::Label::new("branch", branch.branch.to_string()),
        metrics::Label::new("source", sink.source.source.to_string()),
        metrics::Label::new("sink", sink.sink.to_string()),
    ]
}

/// Counters of a source.
pub(crate) struct SourceMeters {
    pub(crate) accepted: metrics::Counter,
    pub(crate) rejected: metrics::Counter,
    pub(crate) dead: metrics::Counter,
    pub(crate) failed: metrics::Counter,
    pub(crate) body_bytes: metrics::Counter,
}

impl SourceMeters {
    /// Counters of a source, which exist from now on; those that exist already go on.
    pub(crate) fn new(project: ProjectId, source: &SourceId) -> Self {
        let (project, source) = (project.to_string(), source.to_string());
        let rows = |outcome: &'static str| {
            let (project, source) = (project.clone(), source.clone());
            metrics::counter!(SOURCE_ROWS, "project" => project, "source" => source, "outcome" => outcome)
        };
        Self {
            accepted: rows("accepted"),
            rejected: rows("rejected"),
            dead: rows("dead_lettered"),
            failed: rows("failed"),
            body_bytes: metrics::counter!(SOURCE_BODY_BYTES, "project" => project.clone(), "source" => source.clone()),
        }
    }
}

impl fmt::Debug for SourceMeters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourceMeters")
    }
}

/// Counters of rejected signatures of a source.
pub(crate) struct SignatureMeters([(&'static str, metrics::Counter); 4]);

impl SignatureMeters {
    /// Counters of a source, which exist from now on.
    pub(crate) fn new(project: ProjectId, source: &SourceId) -> Self {
        let causes = ["missing", "malformed", "mismatch", "expired"];
        Self(causes.map(|cause| {
            let (project, source) = (project.to_string(), source.to_string());
            let counter = metrics::counter!(SIGNATURES_REJECTED, "project" => project, "source" => source, "cause" => cause);
            counter.increment(0);
            (cause, counter)
        }))
    }

    pub(crate) fn rejected(&self, cause: &str) {
        if let Some((_, counter)) = self.0.iter().find(|(name, _)| *name == cause) {
            counter.increment(1);
        }
    }
}

/// Sets the gauge of a mapping's unused paths.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn record_path_use(sink: &SinkKey, uses: &PathUse) {
    if !uses.columns.is_empty() {
        let never = uses.never_found().count();
        metrics::gauge!(COLUMNS_NEVER_FOUND, sink_labels(sink)).set(never as f64);
    }
}
