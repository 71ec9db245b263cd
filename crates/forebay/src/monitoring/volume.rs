//! Metrics of volumes and of the metadata store.

use forebay_log::{SyncStats, VolumeStats};
use forebay_meta::Store;
use forebay_model::{MetricDefinition, MetricFamily};

use crate::disk_housekeeping::{DiskMetrics, check_full};
use crate::disk_space::disk_space;

const LABELS: &[&str] = &["volume"];

const STORE_LATCHED: MetricDefinition = MetricDefinition::gauge(
    "forebay_store_latched",
    "1 after a failed write or sync of the metadata store: nothing is uploaded or imported until a restart.",
);
const SYNC: MetricDefinition = MetricDefinition::histogram(
    "forebay_volume_sync_seconds",
    "Time of a sync of the log, which an acknowledgement waits for, in seconds.",
)
.labels(LABELS);

const fn gauge(name: &'static str, help: &'static str) -> MetricDefinition {
    MetricDefinition::gauge(name, help).labels(LABELS)
}

const fn counter(name: &'static str, help: &'static str) -> MetricDefinition {
    MetricDefinition::counter(name, help).labels(LABELS)
}

const SIZE: MetricDefinition = gauge(
    "forebay_volume_size_bytes",
    "Size of the volume's file system, in bytes.",
);
const FREE: MetricDefinition = gauge(
    "forebay_volume_free_bytes",
    "Free space of the volume's file system, including the reserve, in bytes.",
);
const AVAILABLE: MetricDefinition = gauge(
    "forebay_volume_available_bytes",
    "Space that records can still use, in bytes.",
);
const FILES: MetricDefinition = gauge(
    "forebay_volume_file_bytes",
    "Size of the log's files, including preallocated space, in bytes.",
);
const USED: MetricDefinition = gauge(
    "forebay_volume_used_bytes",
    "Blocks in the log, including deleted ones whose space is not reclaimed yet, in bytes.",
);
const LIVE: MetricDefinition = gauge(
    "forebay_volume_live_bytes",
    "Blocks in the log that are still needed, in bytes.",
);
const RESERVED: MetricDefinition = gauge(
    "forebay_volume_reserved_bytes",
    "Space reserved for requests in progress, in bytes.",
);
const QUEUED: MetricDefinition = gauge(
    "forebay_volume_queued_bytes",
    "Blocks that wait for the disk, in bytes.",
);
const STREAMS: MetricDefinition = gauge(
    "forebay_volume_streams",
    "Streams in the log: slices not imported yet, topics and dead letters.",
);
const SEGMENTS: MetricDefinition = gauge("forebay_volume_segments", "Segment files of the log.");
const LATCHED: MetricDefinition = gauge(
    "forebay_volume_latched",
    "1 after a failed write or sync: no record is accepted until a restart.",
);
const FULL: MetricDefinition = gauge(
    "forebay_volume_full",
    "1 while the volume is full and records are rejected with 503.",
);
const REJECTED: MetricDefinition = counter(
    "forebay_volume_rejected_total",
    "Blocks rejected because the volume was full.",
);
const BLOCKS: MetricDefinition =
    counter("forebay_volume_blocks_total", "Blocks written to the log.");
const WRITTEN: MetricDefinition = counter(
    "forebay_volume_written_bytes_total",
    "Bytes written to the log.",
);

pub(super) const DEFINITIONS: [MetricDefinition; 17] = [
    STORE_LATCHED,
    SYNC,
    SIZE,
    FREE,
    AVAILABLE,
    FILES,
    USED,
    LIVE,
    RESERVED,
    QUEUED,
    STREAMS,
    SEGMENTS,
    LATCHED,
    FULL,
    REJECTED,
    BLOCKS,
    WRITTEN,
];

#[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
pub(super) fn families(disk: &DiskMetrics) -> Vec<MetricFamily> {
    let stats = disk.log.volume_stats();
    let volume = format!("{:016x}", stats.volume);
    let space = disk_space(disk.store.dir());
    let mut families = vec![syncs(&volume, &stats)];
    let mut latched = MetricFamily::new(&STORE_LATCHED);
    latched.push(&[], flag(disk.store.health().is_err()));
    families.push(latched);
    let values: [(&'static MetricDefinition, Option<f64>); 15] = [
        (&SIZE, space.map(|s| s.size as f64)),
        (&FREE, space.map(|s| s.free as f64)),
        (&AVAILABLE, Some(stats.available_bytes as f64)),
        (&FILES, Some(stats.file_bytes as f64)),
        (&USED, Some(stats.used_bytes as f64)),
        (&LIVE, Some(stats.live_bytes as f64)),
        (&RESERVED, Some(stats.reserved_bytes as f64)),
        (&QUEUED, Some(stats.queued_bytes as f64)),
        (&STREAMS, Some(stats.streams as f64)),
        (&SEGMENTS, Some(stats.segments as f64)),
        (&LATCHED, Some(flag(stats.latched.is_some()))),
        (&FULL, Some(flag(check_full(&stats).is_some()))),
        (&REJECTED, Some(stats.rejected.count as f64)),
        (&BLOCKS, Some(stats.committed_blocks as f64)),
        (&WRITTEN, Some(stats.written_bytes as f64)),
    ];
    for (definition, value) in values {
        if let Some(value) = value {
            let mut family = MetricFamily::new(definition);
            family.push(&[&volume], value);
            families.push(family);
        }
    }
    families
}

fn syncs(volume: &str, stats: &VolumeStats) -> MetricFamily {
    let bounded = &stats.syncs.counts[..stats.syncs.counts.len() - 1];
    let buckets: Vec<(f64, u64)> = bounded
        .iter()
        .enumerate()
        .map(|(i, count)| (SyncStats::upper_bound(i).as_secs_f64(), *count))
        .collect();
    let mut family = MetricFamily::new(&SYNC);
    let sum = stats.syncs.total.as_secs_f64();
    family.push_histogram(&[volume], &buckets, stats.syncs.count, sum);
    family
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}
