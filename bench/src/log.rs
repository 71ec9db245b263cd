//! `forebay-log` compared with the limit: a plain loop that writes the same bytes to a preallocated
//! file with one fdatasync per group.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use forebay_log::{Log, LogConfig, NewBlock, StdEnv, StreamId, SyncPolicy};

use crate::log_limit::Plain;

/// Bytes per message.
const MESSAGE: usize = 100;

/// Bytes that are not trimmed.
const KEPT: u64 = 256 << 20;

#[derive(Args)]
pub struct Options {
    /// Seconds per case
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Directory of the files, on the disk to measure
    #[arg(long, default_value = "/var/tmp")]
    directory: std::path::PathBuf,
    /// GiB of the backlog to reopen; 0 skips it
    #[arg(long, default_value_t = 10)]
    backlog_gib: u64,
    /// Only cases whose names contain this
    #[arg(long, default_value = "")]
    only: String,
    /// The backlog is reopened in a separate process, started by the benchmark
    #[arg(long, hide = true)]
    reopen: Option<std::path::PathBuf>,
}

/// Target of batches: the log, or the limit.
pub trait Sink: Sync {
    /// Appends a batch and returns when it is queued, or with `wait` when it is durable.
    fn append(&self, writer: usize, batch: &Bytes, messages: u32, wait: bool);
    /// Returns when all appended batches are durable.
    fn drain(&self);
}

/// A write case.
struct Case {
    name: &'static str,
    writers: usize,
    /// Messages per append.
    batch: u32,
    wait: bool,
    sync: SyncPolicy,
}

struct Forebay {
    log: Log,
    streams: Vec<StreamId>,
}

impl Sink for Forebay {
    fn append(&self, writer: usize, batch: &Bytes, messages: u32, wait: bool) {
        let block = NewBlock {
            stream: self.streams[writer],
            records: messages,
            codec: 0,
            raw_len: batch.len() as u32,
            first_at_ms: 0,
            last_at_ms: 0,
            payload: batch.clone(),
        };
        let ticket = self.log.append_wait(block).expect("the disk has room");
        // As after a delivery: older blocks are trimmed, and their segments are reused. The limit
        // overwrites its file as a ring.
        let keep = KEPT / (MESSAGE * self.streams.len()) as u64;
        let end = ticket.next_seq();
        if end % (keep / 4) < u64::from(messages) {
            let trim = self
                .log
                .trim(self.streams[writer], end.saturating_sub(keep));
            drop(trim.expect("the queue has room for changes"));
        }
        if wait {
            ticket.wait().expect("the disk works");
        }
    }

    fn drain(&self) {
        let last = self
            .log
            .trim(self.streams[0], 0)
            .expect("the disk has room");
        last.wait().expect("the disk works");
    }
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    if let Some(directory) = &options.reopen {
        return crate::log_backlog::reopen(directory);
    }
    println!(
        "{:<34} {:>10} {:>9} {:>9} {:>9} {:>8} {:>6}",
        "what", "messages/s", "p50 ms", "p99 ms", "CPU µs", "peak MB", "ratio"
    );
    let case = |name, writers, batch, wait, sync| Case {
        name,
        writers,
        batch,
        wait,
        sync,
    };
    let cases = [
        case("not waiting, blocks of 100", 2, 100, false, SyncPolicy::Disk),
        case("not waiting, blocks of 1", 2, 1, false, SyncPolicy::Disk),
        case("64 wait for blocks of 100", 64, 100, true, SyncPolicy::Disk),
        case("256 wait for 1", 256, 1, true, SyncPolicy::Disk),
    ];
    for case in cases.iter().filter(|c| c.name.contains(&options.only)) {
        let limit = isolated(case, options, true, None)?;
        isolated(case, options, false, Some(limit))?;
    }
    if "256 wait for 1".contains(&options.only) {
        let without = case("256 wait for 1, sync=none", 256, 1, true, SyncPolicy::None);
        let none = isolated(&without, options, false, None)?;
        let disk = case("256 wait for 1, sync=disk", 256, 1, true, SyncPolicy::Disk);
        isolated(&disk, options, false, Some(none))?;
    }
    if options.backlog_gib > 0 && "backlog".contains(&options.only) {
        crate::log_backlog::run(&options.directory, options.backlog_gib)?;
    }
    Ok(())
}

/// Runs a case; returns messages per second.
fn isolated(case: &Case, options: &Options, limit: bool, of: Option<f64>) -> anyhow::Result<f64> {
    let directory = tempfile::tempdir_in(&options.directory)?;
    let figures = if limit {
        let plain = Plain::new(directory.path(), case.sync == SyncPolicy::Disk)?;
        measure(&plain, case, options.seconds)?
    } else {
        let (log, _) = Log::open(
            Arc::new(StdEnv::new()),
            directory.path(),
            LogConfig {
                sync: case.sync,
                ..LogConfig::default()
            },
        )?;
        let names = (0..case.writers).map(|n| log.stream(&format!("writer {n}")));
        let streams = names.collect::<Result<_, _>>()?;
        let forebay = Forebay { log, streams };
        let figures = measure(&forebay, case, options.seconds)?;
        if std::env::var_os("FOREBAY_BENCH_SYNCS").is_some() {
            println!("{:?}", forebay.log.volume_stats().syncs);
        }
        forebay.log.shutdown();
        figures
    };
    let name = if limit {
        format!("limit: {}", case.name)
    } else {
        case.name.to_owned()
    };
    let ratio = of.map_or(String::new(), |of| format!("{:.2}", figures.rate / of));
    println!(
        "{name:<34} {:>10.0} {:>9.3} {:>9.3} {:>9.3} {:>8.0} {ratio:>6}",
        figures.rate, figures.p50_ms, figures.p99_ms, figures.cpu_us, figures.peak_mb
    );
    Ok(figures.rate)
}

struct Figures {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    cpu_us: f64,
    peak_mb: f64,
}

fn measure(sink: &dyn Sink, case: &Case, seconds: u64) -> anyhow::Result<Figures> {
    reset_peak();
    let load = |duration: Duration| -> (u64, f64, Vec<u32>) {
        let stop = AtomicBool::new(false);
        let messages = AtomicU64::new(0);
        let started = Instant::now();
        let times = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..case.writers)
                .map(|writer| {
                    let (stop, messages) = (&stop, &messages);
                    scope.spawn(move || write(sink, case, writer, stop, messages))
                })
                .collect();
            std::thread::sleep(duration);
            stop.store(true, Ordering::Relaxed);
            let times = writers.into_iter().map(|w| w.join().expect("no panic"));
            times.flatten().collect()
        });
        sink.drain();
        (
            messages.into_inner(),
            started.elapsed().as_secs_f64(),
            times,
        )
    };
    load(Duration::from_millis(500));
    let cpu = cpu_seconds();
    let (messages, took, mut times) = load(Duration::from_secs(seconds));
    let cpu = cpu_seconds() - cpu;
    times.sort_unstable();
    let at = |part: f64| {
        let i = (times.len() as f64 * part) as usize;
        times
            .get(i.min(times.len().saturating_sub(1)))
            .map_or(0.0, |&us| f64::from(us) / 1e3)
    };
    Ok(Figures {
        rate: messages as f64 / took,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        cpu_us: cpu * 1e6 / messages as f64,
        peak_mb: status_mb("VmHWM")?,
    })
}

/// One writer until it is stopped; microseconds of each call.
fn write(
    sink: &dyn Sink,
    case: &Case,
    writer: usize,
    stop: &AtomicBool,
    messages: &AtomicU64,
) -> Vec<u32> {
    let batch = Bytes::from(vec![b'm'; MESSAGE * case.batch as usize]);
    let mut times = Vec::new();
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        sink.append(writer, &batch, case.batch, case.wait);
        done += u64::from(case.batch);
        if case.wait || done % 1000 == 0 {
            times.push(started.elapsed().as_micros() as u32);
        }
    }
    messages.fetch_add(done, Ordering::Relaxed);
    times
}

/// CPU time of this process.
fn cpu_seconds() -> f64 {
    // SAFETY: the call fills the given structure.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Resets the kernel's peak memory counter.
fn reset_peak() {
    // Without permission the peak is that of the process so far.
    drop(std::fs::write("/proc/self/clear_refs", "5"));
}

/// A line of `/proc/self/status`, in MB.
pub fn status_mb(field: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(field));
    let kb = line
        .and_then(|line| line.split_whitespace().nth(1))
        .context(field.to_owned())?;
    Ok(kb.parse::<f64>()? / 1024.0)
}

/// Opens the log of a case.
pub fn open(directory: &Path) -> anyhow::Result<Log> {
    let (log, report) = Log::open(Arc::new(StdEnv::new()), directory, LogConfig::default())?;
    anyhow::ensure!(report.is_clean(), "{report:?}");
    Ok(log)
}
