//! Metrics of the data plane. Names carry their unit; the binary installs the recorder before it
//! builds anything of this crate, and calls [`describe`] once.

use forebay_model::{PathUse, SinkKey, TopicState, TopicStatistics};
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Requests of the HTTP source, by `status`.
pub(crate) const REQUESTS: &str = "forebay_http_requests_total";
/// Bytes of request bodies as sent.
pub(crate) const BODY_BYTES: &str = "forebay_http_body_bytes_total";
/// Open connections.
pub(crate) const CONNECTIONS: &str = "forebay_http_connections";
/// Connections refused because there were too many.
pub(crate) const CONNECTIONS_REFUSED: &str = "forebay_http_connections_rejected_total";
/// Requests refused because a quota was used up, by `project`, `source` and `cause`.
pub(crate) const QUOTA_REFUSED: &str = "forebay_quota_rejected_total";
/// Bytes of a project in the log and in staging, by `project`.
pub(crate) const PROJECT_DISK_BYTES: &str = "forebay_project_disk_bytes";
/// Bytes held for clients.
pub(crate) const IN_FLIGHT_BYTES: &str = "forebay_in_flight_bytes";
/// Rows acknowledged.
pub(crate) const ROWS_ACCEPTED: &str = "forebay_rows_accepted_total";
/// Rows that a mapping refused.
pub(crate) const ROWS_REFUSED: &str = "forebay_rows_rejected_total";
/// Records kept as dead letters.
pub(crate) const ROWS_DEAD: &str = "forebay_rows_dead_lettered_total";
/// Rows that could not be stored, or of which nobody knows.
pub(crate) const ROWS_FAILED: &str = "forebay_rows_failed_total";
/// Time from a request's last byte to its response.
pub(crate) const ACK_SECONDS: &str = "forebay_ack_seconds";
/// Rows of a sealed block.
pub(crate) const BLOCK_ROWS: &str = "forebay_block_rows";
/// Bytes of a sealed block before compression.
pub(crate) const BLOCK_RAW_BYTES: &str = "forebay_block_raw_bytes";
/// Bytes of sealed blocks after compression.
pub(crate) const BLOCK_STORED_BYTES: &str = "forebay_block_stored_bytes_total";
/// Open pipelines.
pub(crate) const PIPELINES: &str = "forebay_pipelines";
/// Streams of the log that the metadata store does not know.
pub(crate) const STREAMS_UNKNOWN: &str = "forebay_streams_unknown";
/// Revision of the metadata store that this node has processed.
pub(crate) const PROCESSED_REVISION: &str = "forebay_processed_revision";
/// Bytes written to staging.
pub(crate) const UPLOADED_BYTES: &str = "forebay_uploaded_bytes_total";
/// Slices written to staging.
pub(crate) const UPLOADS: &str = "forebay_uploads_total";
/// Attempts to upload that failed.
pub(crate) const UPLOADS_FAILED: &str = "forebay_uploads_failed_total";
/// Files imported.
pub(crate) const IMPORTS: &str = "forebay_imports_total";
/// Rows imported into tables.
pub(crate) const IMPORTED_ROWS: &str = "forebay_imported_rows_total";
/// Attempts to import that failed.
pub(crate) const IMPORTS_FAILED: &str = "forebay_imports_failed_total";

/// Rows that tables had confirmed and that their ledgers lack.
pub(crate) const VANISHED_ROWS: &str = "forebay_target_lost_rows_total";

/// Messages of a topic that were acknowledged, by `sink`.
pub(crate) const TOPIC_ACCEPTED: &str = "forebay_topic_accepted_total";
/// Messages that the provider has confirmed, by `sink`.
pub(crate) const TOPIC_DELIVERED: &str = "forebay_topic_delivered_total";
/// Messages that the provider has rejected for good, and that are kept, by `sink`.
pub(crate) const TOPIC_DEAD: &str = "forebay_topic_dead_letters";
/// Messages that wait for their delivery, by `sink`.
pub(crate) const TOPIC_WAITING: &str = "forebay_topic_pending_records";
/// Their bytes, by `sink`.
pub(crate) const TOPIC_WAITING_BYTES: &str = "forebay_topic_pending_bytes";
/// Whether the provider takes messages, by `sink`.
pub(crate) const TOPIC_UP: &str = "forebay_topic_up";

/// Columns of a sink whose path no record had, by `sink`.
pub(crate) const COLUMNS_NEVER_FOUND: &str = "forebay_columns_never_found";

/// Sets the gauge of a mapping's unused paths.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn record_path_use(sink: &SinkKey, uses: &PathUse) {
    if !uses.columns.is_empty() {
        let never = uses.never_found().count();
        metrics::gauge!(COLUMNS_NEVER_FOUND, "sink" => sink.to_string()).set(never as f64);
    }
}

/// Sets the gauges of a topic.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn record_topic(sink: &SinkKey, statistics: &TopicStatistics) {
    let sink = sink.to_string();
    metrics::counter!(TOPIC_ACCEPTED, "sink" => sink.clone()).absolute(statistics.accepted);
    metrics::counter!(TOPIC_DELIVERED, "sink" => sink.clone()).absolute(statistics.delivered);
    metrics::gauge!(TOPIC_DEAD, "sink" => sink.clone()).set(statistics.dead as f64);
    metrics::gauge!(TOPIC_WAITING, "sink" => sink.clone()).set(statistics.waiting as f64);
    let bytes = statistics.waiting_bytes as f64;
    metrics::gauge!(TOPIC_WAITING_BYTES, "sink" => sink.clone()).set(bytes);
    let is_up = matches!(statistics.state, TopicState::Up | TopicState::Idle);
    metrics::gauge!(TOPIC_UP, "sink" => sink).set(f64::from(u8::from(is_up)));
}

fn describe_topics() {
    describe_counter!(
        TOPIC_ACCEPTED,
        Unit::Count,
        "Messages of a topic acknowledged, by sink."
    );
    describe_counter!(
        TOPIC_DELIVERED,
        Unit::Count,
        "Messages that a topic's provider has confirmed, by sink."
    );
    describe_gauge!(
        TOPIC_DEAD,
        Unit::Count,
        "Messages that a topic's provider has rejected for good and that are kept, by sink."
    );
    describe_gauge!(
        TOPIC_WAITING,
        Unit::Count,
        "Messages of a topic that wait for delivery, by sink."
    );
    describe_gauge!(
        TOPIC_WAITING_BYTES,
        Unit::Bytes,
        "Size of the messages of a topic that wait for delivery, by sink."
    );
    describe_gauge!(
        TOPIC_UP,
        Unit::Count,
        "1 when a topic's provider accepts messages or none are waiting, 0 when not or paused, by sink."
    );
}

pub(crate) fn uploaded(bytes: u64) {
    metrics::counter!(UPLOADS).increment(1);
    metrics::counter!(UPLOADED_BYTES).increment(bytes);
}

pub(crate) fn upload_failed() {
    metrics::counter!(UPLOADS_FAILED).increment(1);
}

pub(crate) fn imported(rows: u64) {
    metrics::counter!(IMPORTS).increment(1);
    metrics::counter!(IMPORTED_ROWS).increment(rows);
}

pub(crate) fn import_failed() {
    metrics::counter!(IMPORTS_FAILED).increment(1);
}

/// Counts confirmed rows that a table has lost.
pub(crate) fn rows_vanished(rows: u64) {
    metrics::counter!(VANISHED_ROWS).increment(rows);
}

/// Describes all metrics to the recorder.
pub fn describe() {
    describe_counter!(
        REQUESTS,
        Unit::Count,
        "Requests of the HTTP source by status."
    );
    describe_counter!(BODY_BYTES, Unit::Bytes, "Request bodies as sent, in bytes.");
    describe_gauge!(
        CONNECTIONS,
        Unit::Count,
        "Open connections of the HTTP source."
    );
    describe_counter!(
        CONNECTIONS_REFUSED,
        Unit::Count,
        "Connections rejected because source.http.maxConnections or maxConnectionsPerClient was reached."
    );
    describe_gauge!(
        IN_FLIGHT_BYTES,
        Unit::Bytes,
        "Request bodies in flight and rows not yet on disk, in bytes."
    );
    describe_counter!(ROWS_ACCEPTED, Unit::Count, "Rows acknowledged.");
    describe_counter!(ROWS_REFUSED, Unit::Count, "Rows rejected by a mapping.");
    describe_counter!(
        ROWS_DEAD,
        Unit::Count,
        "Records rejected by a mapping and kept as dead letters."
    );
    describe_counter!(
        ROWS_FAILED,
        Unit::Count,
        "Rows that could not be stored, or whose outcome is unknown."
    );
    describe_histogram!(
        ACK_SECONDS,
        Unit::Seconds,
        "Time from a request's last byte to its response, in seconds."
    );
    describe_histogram!(BLOCK_ROWS, Unit::Count, "Rows of a sealed block.");
    describe_histogram!(
        BLOCK_RAW_BYTES,
        Unit::Bytes,
        "Size of a sealed block before compression, in bytes."
    );
    describe_counter!(
        BLOCK_STORED_BYTES,
        Unit::Bytes,
        "Size of sealed blocks after compression, in bytes."
    );
    describe_gauge!(
        COLUMNS_NEVER_FOUND,
        Unit::Count,
        "Path columns with a default that no record had since the start or the last change of the mapping, by sink; set when a slice is closed."
    );
    describe_gauge!(PIPELINES, Unit::Count, "Slices that rows are written into.");
    describe_gauge!(
        STREAMS_UNKNOWN,
        Unit::Count,
        "Streams of the log whose slice the metadata store does not know."
    );
    describe_gauge!(
        PROCESSED_REVISION,
        Unit::Count,
        "Revision of the metadata store up to which this node has detached closing slices."
    );
    describe_quotas();
    describe_delivery();
    describe_topics();
}

fn describe_quotas() {
    describe_counter!(
        QUOTA_REFUSED,
        Unit::Count,
        "Requests rejected because a quota was used up, by project, source and cause."
    );
    describe_gauge!(
        PROJECT_DISK_BYTES,
        Unit::Bytes,
        "What a project holds in the log and in staging, in bytes."
    );
}

fn describe_delivery() {
    describe_counter!(UPLOADS, Unit::Count, "Slices written to staging.");
    describe_counter!(
        UPLOADED_BYTES,
        Unit::Bytes,
        "Size of slices written to staging, in bytes."
    );
    describe_counter!(
        UPLOADS_FAILED,
        Unit::Count,
        "Attempts to upload a slice that failed."
    );
    describe_counter!(IMPORTS, Unit::Count, "Files imported.");
    describe_counter!(IMPORTED_ROWS, Unit::Count, "Rows imported into tables.");
    describe_counter!(
        IMPORTS_FAILED,
        Unit::Count,
        "Attempts to import a file that failed."
    );
    describe_counter!(
        VANISHED_ROWS,
        Unit::Count,
        "Rows that tables had confirmed and that their ledgers lack: imported again, or lost."
    );
}
