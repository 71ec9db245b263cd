//! Telemetry: log lines on standard error, and metrics.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use forebay_control::api::Api;
use forebay_control::auth::ConfiguredTokens;
use forebay_schema::SecretText;
use metrics::{Unit, describe_counter, describe_gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::{EnvFilter, reload};

use crate::cli_error::CliError;
use crate::config::{LogFormat, LogOutput, MetricsSection};
use crate::disk_housekeeping::DiskMetrics;
use crate::terminal;

mod stderr;

pub(crate) use stderr::FlushGuard;

/// Interval of the recorder's upkeep, without which it grows while no metrics are read.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Histogram buckets: seconds...
const SECONDS: [f64; 13] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];
/// ...bytes...
const BYTES: [f64; 8] = [
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    16_777_216.0,
];
/// ...and rows.
const ROWS: [f64; 8] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 10000.0];

/// Writes log lines and panics to standard error through a queue that the guard flushes: a standard
/// error that is full, closed or not read never blocks the process.
pub(crate) fn start_log(output: &LogOutput) -> Result<LogLines, CliError> {
    let filter = EnvFilter::builder()
        .parse(&output.level)
        .map_err(|e| CliError::usage(format_args!("telemetry.log.level: {e}")))?;
    let is_json = match output.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal::is_attended(),
    };
    let failed =
        |e: &dyn std::fmt::Display| CliError::new(format_args!("can't start logging: {e}"));
    let (queue, guard) = stderr::queue(std::io::stderr()).map_err(|e| failed(&e))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Its report of a failed write would panic if standard error is closed.
        .log_internal_errors(false)
        .with_writer(queue)
        .with_span_events(FmtSpan::NONE);
    let level: Arc<SetFilter>;
    let started = if is_json {
        let lines = lines.json().flatten_event(true).with_filter_reloading();
        let handle = lines.reload_handle();
        level = Arc::new(move |filter| handle.reload(filter));
        lines.try_init()
    } else {
        let lines = lines.compact().with_ansi(terminal::is_colored());
        let lines = lines.with_filter_reloading();
        let handle = lines.reload_handle();
        level = Arc::new(move |filter| handle.reload(filter));
        lines.try_init()
    };
    started.map_err(|e| failed(&e))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let text = panic.payload_as_str().unwrap_or("no message");
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(place, %backtrace, "panic: {text}");
    }));
    Ok(LogLines {
        flush: guard,
        level: LogLevel(level),
    })
}

pub(crate) struct LogLines {
    /// Flushes queued lines on drop.
    pub(crate) flush: FlushGuard,
    pub(crate) level: LogLevel,
}

type SetFilter = dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync;

/// Filter of log lines that can change at run time.
#[derive(Clone)]
pub(crate) struct LogLevel(Arc<SetFilter>);

impl LogLevel {
    pub(crate) fn set(&self, level: &str) -> Result<(), String> {
        let filter = EnvFilter::builder().parse(level);
        let filter = filter.map_err(|e| format!("telemetry.log.level: {e}"))?;
        (self.0)(filter).map_err(|e| e.to_string())
    }
}

/// Open connections of a listener other than the source's, by `listener`.
pub(crate) const CONNECTIONS: &str = "forebay_listener_connections";
/// Connections of such a listener refused because there were too many, by `listener`.
pub(crate) const CONNECTIONS_REFUSED: &str = "forebay_listener_connections_rejected_total";

/// Labels of series that belong to a project.
const PRIVATE_LABELS: [&str; 3] = ["project=", "source=", "sink="];

#[derive(Clone)]
pub(crate) struct ProcessMetrics {
    handle: PrometheusHandle,
    disk: Arc<OnceLock<DiskMetrics>>,
    /// SHA-256 of the token required for metrics.
    token: Arc<RwLock<Option<String>>>,
}

impl ProcessMetrics {
    /// Installs the recorder.
    pub(crate) fn start(config: &MetricsSection) -> Result<Self, CliError> {
        let failed = |e| CliError::new(format_args!("can't start metrics: {e}"));
        let by_name = |suffix: &str| Matcher::Suffix(suffix.to_owned());
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(by_name("_seconds"), &SECONDS)
            .and_then(|b| b.set_buckets_for_metric(by_name("_bytes"), &BYTES))
            .and_then(|b| b.set_buckets_for_metric(by_name("_rows"), &ROWS))
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(failed)?;
        forebay_flow::metrics::describe();
        describe();
        let metrics = Self {
            handle,
            disk: Arc::default(),
            token: Arc::default(),
        };
        metrics.set_token(config);
        Ok(metrics)
    }

    /// Applies the token of the configuration.
    pub(crate) fn set_token(&self, config: &MetricsSection) {
        let hash = |token: &SecretText| ConfiguredTokens::hash(token.expose().as_bytes());
        let mut token = self.token.write().unwrap_or_else(PoisonError::into_inner);
        *token = config.token.as_ref().map(hash);
    }

    /// Adds the metrics of log and metadata store.
    pub(crate) fn attach_disk(&self, watched: DiskMetrics) {
        // A process has one of each; a second one is ignored.
        _ = self.disk.set(watched);
    }

    /// `GET /metrics` on the API listener: without a metrics token, series of projects are for
    /// operators.
    pub(crate) fn router_beside_api(&self, api: Api) -> Router {
        let state = (self.clone(), Some(api));
        Router::new()
            .route("/metrics", get(render))
            .with_state(state)
    }

    /// `GET /metrics` on a separate listener.
    pub(crate) fn standalone_router(&self) -> Router {
        Router::new()
            .route("/metrics", get(render))
            .with_state((self.clone(), None))
    }

    /// Whether the request may see all series: `None` for a missing or invalid token.
    fn authorize(&self, headers: &HeaderMap) -> Option<bool> {
        let token = self.token.read().unwrap_or_else(PoisonError::into_inner);
        let Some(wanted) = token.as_ref() else {
            return Some(false);
        };
        let given = headers.get(header::AUTHORIZATION)?.as_bytes();
        let (scheme, given) = given.split_at_checked(7)?;
        // Comparing hashes leaks no timing information about the token.
        let is_right = scheme.eq_ignore_ascii_case(b"bearer ")
            && ConfiguredTokens::hash(given.trim_ascii()) == *wanted;
        is_right.then_some(true)
    }

    /// Runs upkeep as long as it is polled.
    pub(crate) async fn run_upkeep(&self) {
        let mut tick = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            tick.tick().await;
            self.handle.run_upkeep();
        }
    }

    /// All metrics as text.
    pub(crate) fn render(&self) -> String {
        let Some(watched) = self.disk.get() else {
            return self.handle.render();
        };
        let stats = watched.log.volume_stats();
        measure(watched, &stats);
        let mut text = self.handle.render();
        text.push_str(&sync_time(stats.syncs.total));
        text
    }
}

async fn render(
    State((metrics, api)): State<(ProcessMetrics, Option<Api>)>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let Some(has_token) = metrics.authorize(&headers) else {
        let wanted = [(header::WWW_AUTHENTICATE, "Bearer")];
        let text = "telemetry.metrics.token is needed, as Authorization: Bearer\n";
        return (StatusCode::UNAUTHORIZED, wanted, text).into_response();
    };
    let sees_all = match &api {
        Some(api) if !has_token => api.is_operator(&headers, Some(peer.ip())).await,
        _ => true,
    };
    let all = metrics.render();
    let text = if sees_all {
        all
    } else {
        without_project_series(&all)
    };
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, text).into_response()
}

/// The library's counters are integers, seconds are not.
fn sync_time(total: Duration) -> String {
    let seconds = total.as_secs_f64();
    format!(
        "# HELP {LOG_SYNC_TIME} Total time of log syncs.\n# TYPE {LOG_SYNC_TIME} counter\n{LOG_SYNC_TIME} {seconds}\n"
    )
}

/// Removes series that belong to a project.
fn without_project_series(all: &str) -> String {
    let is_public = |line: &&str| {
        let labels = line.split_once('{').map_or("", |(_, labels)| labels);
        line.starts_with('#') || !PRIVATE_LABELS.iter().any(|label| labels.contains(label))
    };
    let mut text = String::with_capacity(all.len());
    for line in all.lines().filter(is_public) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

const LOG_LIVE_BYTES: &str = "forebay_log_live_bytes";
const LOG_FILE_BYTES: &str = "forebay_log_file_bytes";
const LOG_AVAILABLE_BYTES: &str = "forebay_log_available_bytes";
const LOG_QUEUED_BYTES: &str = "forebay_log_queued_bytes";
const LOG_STREAMS: &str = "forebay_log_streams";
const LOG_SEGMENTS: &str = "forebay_log_segments";
const LOG_LATCHED: &str = "forebay_log_latched";
const LOG_BLOCKS: &str = "forebay_log_blocks_total";
const LOG_WRITTEN_BYTES: &str = "forebay_log_written_bytes_total";
const LOG_SYNCS: &str = "forebay_log_syncs_total";
const LOG_SYNC_TIME: &str = "forebay_log_sync_seconds_total";
/// Counted by [`stderr`].
const LINES_DROPPED: &str = "forebay_telemetry_log_lines_dropped_total";
const BUILD_INFO: &str = "forebay_build_info";

fn describe() {
    describe_gauge!(CONNECTIONS, "Open connections of a listener.");
    describe_counter!(
        CONNECTIONS_REFUSED,
        "Connections rejected because of the limit."
    );
    describe_gauge!(LOG_LIVE_BYTES, Unit::Bytes, "Live blocks in the log.");
    describe_gauge!(
        LOG_FILE_BYTES,
        Unit::Bytes,
        "Size of the log files, including preallocated space."
    );
    describe_gauge!(
        LOG_AVAILABLE_BYTES,
        Unit::Bytes,
        "Space available to the log."
    );
    describe_gauge!(
        LOG_QUEUED_BYTES,
        Unit::Bytes,
        "Blocks waiting for the disk."
    );
    describe_gauge!(LOG_STREAMS, "Streams in the log: slices not yet imported.");
    describe_gauge!(LOG_SEGMENTS, "Segment files of the log.");
    describe_gauge!(
        LOG_LATCHED,
        "1 after a failed write or sync: no record is accepted until a restart."
    );
    describe_counter!(LOG_BLOCKS, "Blocks written to disk.");
    describe_counter!(LOG_WRITTEN_BYTES, Unit::Bytes, "Bytes written to the log.");
    describe_counter!(LOG_SYNCS, "Syncs of the log.");
    describe_counter!(
        LINES_DROPPED,
        "Dropped log lines: standard error was full, closed, or not read."
    );
    metrics::counter!(LINES_DROPPED).increment(0);
    describe_gauge!(BUILD_INFO, "1, with the version as a label.");
    DiskMetrics::describe();
    metrics::gauge!(BUILD_INFO, "version" => crate::version::VERSION).set(1.0);
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floating point")]
fn measure(watched: &DiskMetrics, stats: &forebay_log::VolumeStats) {
    watched.measure(stats);
    let gauge = |name: &'static str, value: u64| metrics::gauge!(name).set(value as f64);
    gauge(LOG_LIVE_BYTES, stats.live_bytes);
    gauge(LOG_FILE_BYTES, stats.file_bytes);
    gauge(LOG_AVAILABLE_BYTES, stats.available_bytes);
    gauge(LOG_QUEUED_BYTES, stats.queued_bytes);
    gauge(LOG_STREAMS, stats.streams as u64);
    gauge(LOG_SEGMENTS, stats.segments as u64);
    gauge(LOG_LATCHED, u64::from(stats.latched.is_some()));
    metrics::counter!(LOG_BLOCKS).absolute(stats.committed_blocks);
    metrics::counter!(LOG_WRITTEN_BYTES).absolute(stats.written_bytes);
    metrics::counter!(LOG_SYNCS).absolute(stats.syncs.count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_seconds() {
        let text = sync_time(Duration::from_micros(1_234_567));
        assert!(
            text.ends_with("counter\nforebay_log_sync_seconds_total 1.234567\n"),
            "{text}"
        );
    }

    #[test]
    fn series_of_projects_are_removed() {
        let all = "# TYPE a counter\na 1\na{status=\"200\"} 2\na{project=\"7\"} 3\n\
                   a{le=\"1\",source=\"7/1/s\"} 4\na{sink=\"7/1/s/k\",x=\"y\"} 5\nb 6\n";
        let shown = without_project_series(all);
        assert_eq!(shown, "# TYPE a counter\na 1\na{status=\"200\"} 2\nb 6\n");
    }
}
