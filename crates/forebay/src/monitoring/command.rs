//! Metrics of commands that are processes of their own: jobs and buffers.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use forebay_buffer::{BufferStats, ProviderHealth};
use forebay_jobs::{JobProgress, JobSummary};
use forebay_listener::Listener;
use forebay_model::{MetricDefinition, MetricFamily, Timestamp};
use http::header;

use super::process;
use crate::api_listener::{listen_at, serve};
use crate::cli_error::CliError;
use crate::config::Config;

const JOB: &[&str] = &["job"];
const PARTITION: &[&str] = &["partition"];
/// Most partitions with series of their own, those with the most waiting messages first.
const PARTITIONS_MAX: usize = 100;

const JOB_RECORDS: MetricDefinition = MetricDefinition::counter(
    "forebay_job_records_total",
    "Records of a job by outcome: read, processed, written, unchanged, superseded or dead.",
)
.labels(&["job", "outcome"]);
const JOB_RETRIES: MetricDefinition = MetricDefinition::counter(
    "forebay_job_retries_total",
    "Retried requests and batches of a job.",
)
.labels(JOB);
const JOB_BYTES: MetricDefinition = MetricDefinition::counter(
    "forebay_job_read_bytes_total",
    "Bytes that a job has read from files, as stored.",
)
.labels(JOB);
const JOB_RUNNING: MetricDefinition =
    MetricDefinition::gauge("forebay_job_running", "1 while the job runs.").labels(JOB);
const JOB_SUCCESS: MetricDefinition = MetricDefinition::gauge(
    "forebay_job_success",
    "1 if the last run delivered all records of its source, also as dead letters; with --metrics-file.",
)
.labels(JOB);
const JOB_ENDED: MetricDefinition = MetricDefinition::gauge(
    "forebay_job_end_timestamp_seconds",
    "End of the last run, in seconds since 1970-01-01T00:00:00Z; with --metrics-file.",
)
.labels(JOB);

const BUFFER_MESSAGES: MetricDefinition = MetricDefinition::counter(
    "forebay_buffer_messages_total",
    "Messages of a partition by outcome: written, delivered, dead, dropped or lost.",
)
.labels(&["partition", "outcome"]);
const BUFFER_RETRIES: MetricDefinition = MetricDefinition::counter(
    "forebay_buffer_retries_total",
    "Failures of a connection or batch of a partition that were followed by a retry.",
)
.labels(PARTITION);
const BUFFER_WAITING: MetricDefinition = MetricDefinition::gauge(
    "forebay_buffer_waiting_messages",
    "Messages of a partition that are not delivered yet.",
)
.labels(PARTITION);
const BUFFER_IN_FLIGHT: MetricDefinition = MetricDefinition::gauge(
    "forebay_buffer_in_flight_messages",
    "Messages of a partition that were sent and are not confirmed yet.",
)
.labels(PARTITION);
const BUFFER_OLDEST: MetricDefinition = MetricDefinition::gauge(
    "forebay_buffer_oldest_waiting_timestamp_seconds",
    "Time of the oldest message of a partition that is not delivered yet, in seconds since 1970-01-01T00:00:00Z; 0 when there is none.",
)
.labels(PARTITION);
const BUFFER_FAILING: MetricDefinition = MetricDefinition::gauge(
    "forebay_buffer_failing",
    "1 while the provider of a partition is unavailable.",
)
.labels(PARTITION);
const BUFFER_BYTES: MetricDefinition = MetricDefinition::gauge(
    "forebay_buffer_waiting_bytes",
    "Messages that are not delivered yet, and dead letters, in bytes.",
);
const BUFFER_BYTES_MAX: MetricDefinition = MetricDefinition::gauge(
    "forebay_buffer_max_bytes",
    "The limit of `forebay_buffer_waiting_bytes`.",
);
const BUFFER_DEAD: MetricDefinition =
    MetricDefinition::gauge("forebay_buffer_dead_letters", "Stored dead letters.");
const BUFFER_FAILED: MetricDefinition = MetricDefinition::gauge(
    "forebay_buffer_disk_failed",
    "1 after a failed write or sync of the buffer: nothing is accepted until it is reopened.",
);

pub(super) const JOB_DEFINITIONS: [MetricDefinition; 6] = [
    JOB_RECORDS,
    JOB_RETRIES,
    JOB_BYTES,
    JOB_RUNNING,
    JOB_SUCCESS,
    JOB_ENDED,
];
pub(super) const BUFFER_DEFINITIONS: [MetricDefinition; 10] = [
    BUFFER_MESSAGES,
    BUFFER_RETRIES,
    BUFFER_WAITING,
    BUFFER_IN_FLIGHT,
    BUFFER_OLDEST,
    BUFFER_FAILING,
    BUFFER_BYTES,
    BUFFER_BYTES_MAX,
    BUFFER_DEAD,
    BUFFER_FAILED,
];

/// Where a command shows its metrics.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct MetricsArgs {
    /// Serve metrics in the Prometheus format at http://ADDRESS/metrics while the command runs
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    /// Keep metrics in a file in the Prometheus format, for the textfile collector of node_exporter
    #[arg(long, value_name = "FILE")]
    metrics_file: Option<PathBuf>,
}

impl MetricsArgs {
    /// Serves metrics until the listener is dropped.
    pub(crate) async fn serve(
        &self,
        families: impl Fn() -> Vec<MetricFamily> + Send + Sync + 'static,
    ) -> Result<Option<Listener>, CliError> {
        let Some(address) = self.metrics_listen else {
            return Ok(None);
        };
        let families = Arc::new(families);
        let render = move || {
            let text = text(&families());
            let kind = [(
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            )];
            std::future::ready((kind, text))
        };
        let router = Router::new().route("/metrics", get(render));
        let (socket, _) = listen_at(address, "--metrics-listen").await?;
        Ok(Some(serve(
            "metrics",
            socket,
            None,
            router,
            &Config::default(),
        )))
    }

    /// Replaces the file; readers see the former or the new one.
    pub(crate) fn write(
        &self,
        families: impl FnOnce() -> Vec<MetricFamily>,
    ) -> Result<(), CliError> {
        let Some(file) = &self.metrics_file else {
            return Ok(());
        };
        let failed = |e: std::io::Error| {
            CliError::new(format_args!(
                "can't write --metrics-file {}: {e}",
                file.display()
            ))
        };
        let folder = file.parent().filter(|p| !p.as_os_str().is_empty());
        let mut part =
            tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(failed)?;
        part.write_all(text(&families()).as_bytes())
            .map_err(failed)?;
        // The collector is another user.
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        part.as_file().set_permissions(readable).map_err(failed)?;
        part.persist(file).map_err(|e| failed(e.error))?;
        Ok(())
    }
}

/// The families and those of the process.
fn text(families: &[MetricFamily]) -> String {
    let mut text = String::new();
    for family in families.iter().chain(&process::families()) {
        family.write_text(&mut text);
    }
    text
}

fn family(definition: &'static MetricDefinition, values: &[&str], value: f64) -> MetricFamily {
    let mut family = MetricFamily::new(definition);
    family.push(values, value);
    family
}

/// Metrics of a job that runs.
pub(crate) fn running_job(job: &str, progress: &JobProgress) -> Vec<MetricFamily> {
    let summary = progress.summary(std::time::Duration::ZERO);
    let mut families = job_families(job, progress, &summary);
    families.push(family(&JOB_RUNNING, &[job], 1.0));
    families
}

/// Metrics of a job that has ended.
#[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
pub(crate) fn ended_job(
    job: &str,
    progress: &JobProgress,
    summary: &JobSummary,
    (is_success, at): (bool, Timestamp),
) -> Vec<MetricFamily> {
    let mut families = job_families(job, progress, summary);
    families.push(family(&JOB_RUNNING, &[job], 0.0));
    families.push(family(
        &JOB_SUCCESS,
        &[job],
        f64::from(u8::from(is_success)),
    ));
    families.push(family(&JOB_ENDED, &[job], at.as_millis() as f64 / 1000.0));
    families
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
fn job_families(job: &str, progress: &JobProgress, summary: &JobSummary) -> Vec<MetricFamily> {
    let mut records = MetricFamily::new(&JOB_RECORDS);
    for (outcome, count) in [
        ("read", summary.read),
        ("processed", summary.processed),
        ("written", summary.written),
        ("unchanged", summary.unchanged),
        ("superseded", summary.superseded),
        ("dead", summary.dead),
    ] {
        records.push(&[job, outcome], count as f64);
    }
    vec![
        records,
        family(&JOB_RETRIES, &[job], summary.retries as f64),
        family(&JOB_BYTES, &[job], progress.bytes().0 as f64),
    ]
}

/// Metrics of a buffer.
#[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
pub(crate) fn buffer(stats: &BufferStats) -> Vec<MetricFamily> {
    let mut partitions: Vec<_> = stats.partitions.iter().collect();
    partitions.sort_by_key(|p| std::cmp::Reverse(p.waiting));
    let mut messages = MetricFamily::new(&BUFFER_MESSAGES);
    let mut of_partition = [
        &BUFFER_RETRIES,
        &BUFFER_WAITING,
        &BUFFER_IN_FLIGHT,
        &BUFFER_OLDEST,
        &BUFFER_FAILING,
    ]
    .map(MetricFamily::new);
    for partition in partitions.into_iter().take(PARTITIONS_MAX) {
        let name = &*partition.partition;
        for (outcome, count) in [
            ("written", partition.written),
            ("delivered", partition.delivered),
            ("dead", partition.dead),
            ("dropped", partition.dropped),
            ("lost", partition.lost),
        ] {
            messages.push(&[name, outcome], count as f64);
        }
        let is_down = matches!(partition.provider, ProviderHealth::Down { .. });
        let values = [
            partition.retries as f64,
            partition.waiting as f64,
            partition.in_flight as f64,
            partition.oldest_at_ms.unwrap_or_default() as f64 / 1000.0,
            f64::from(u8::from(is_down)),
        ];
        for (family, value) in of_partition.iter_mut().zip(values) {
            family.push(&[name], value);
        }
    }
    let mut families = vec![
        messages,
        family(&BUFFER_BYTES, &[], stats.waiting_bytes as f64),
        family(&BUFFER_BYTES_MAX, &[], stats.max_bytes as f64),
        family(&BUFFER_DEAD, &[], stats.dead_letters as f64),
        family(
            &BUFFER_FAILED,
            &[],
            f64::from(u8::from(stats.disk_failed.is_some())),
        ),
    ];
    families.extend(of_partition);
    families
}
