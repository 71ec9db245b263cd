//! Metrics of the process, with the names that the Prometheus client libraries use.

use forebay_model::{MetricDefinition, MetricFamily};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

const CPU: MetricDefinition = MetricDefinition::counter(
    "process_cpu_seconds_total",
    "CPU time of the process, user and system, in seconds.",
);
const RESIDENT: MetricDefinition = MetricDefinition::gauge(
    "process_resident_memory_bytes",
    "Resident memory of the process, in bytes.",
);
const VIRTUAL: MetricDefinition = MetricDefinition::gauge(
    "process_virtual_memory_bytes",
    "Virtual memory of the process, in bytes.",
);
const THREADS: MetricDefinition =
    MetricDefinition::gauge("process_threads", "Threads of the process.");
const OPEN_FILES: MetricDefinition =
    MetricDefinition::gauge("process_open_fds", "Open file descriptors of the process.");
const OPEN_FILES_MAX: MetricDefinition = MetricDefinition::gauge(
    "process_max_fds",
    "Maximum number of open file descriptors of the process.",
);
const STARTED: MetricDefinition = MetricDefinition::gauge(
    "process_start_time_seconds",
    "Start of the process, in seconds since 1970-01-01T00:00:00Z.",
);
const DISK_READ: MetricDefinition = MetricDefinition::counter(
    "forebay_process_disk_read_bytes_total",
    "Bytes that the process caused to be read from disks.",
);
const DISK_WRITTEN: MetricDefinition = MetricDefinition::counter(
    "forebay_process_disk_written_bytes_total",
    "Bytes that the process caused to be written to disks.",
);

pub(super) const DEFINITIONS: [MetricDefinition; 9] = [
    CPU,
    RESIDENT,
    VIRTUAL,
    THREADS,
    OPEN_FILES,
    OPEN_FILES_MAX,
    STARTED,
    DISK_READ,
    DISK_WRITTEN,
];

/// Reads `/proc`; what it does not have is left out.
#[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
pub(super) fn families() -> Vec<MetricFamily> {
    let mut families = Vec::new();
    let mut push = |definition: &'static MetricDefinition, value: Option<f64>| {
        if let Some(value) = value {
            let mut family = MetricFamily::new(definition);
            family.push(&[], value);
            families.push(family);
        }
    };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command in parentheses may hold anything; the fields behind it are numbered from 3.
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let fields: Vec<&str> = behind.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = clock_ticks_per_second() as f64;
    let cpu = field(14).zip(field(15)).map(|(user, system)| user + system);
    push(&CPU, cpu.map(|used| used as f64 / ticks));
    push(
        &RESIDENT,
        field(24).map(|pages| pages as f64 * page_size() as f64),
    );
    push(&VIRTUAL, field(23).map(|bytes| bytes as f64));
    push(&THREADS, field(20).map(|threads| threads as f64));
    let open = std::fs::read_dir("/proc/self/fd").ok();
    // One of them reads this directory.
    push(
        &OPEN_FILES,
        open.map(|all| all.count().saturating_sub(1) as f64),
    );
    push(
        &OPEN_FILES_MAX,
        getrlimit(Resource::Nofile).current.map(|max| max as f64),
    );
    let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "));
    let boot = boot.and_then(|seconds| seconds.parse::<u64>().ok());
    let started = boot
        .zip(field(22))
        .map(|(boot, after)| boot as f64 + after as f64 / ticks);
    push(&STARTED, started);
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let bytes = |name: &str| {
        let line = io.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok().map(|bytes| bytes as f64)
    };
    push(&DISK_READ, bytes("read_bytes:"));
    push(&DISK_WRITTEN, bytes("write_bytes:"));
    families
}
