//! Reopens a backlog of sealed segments in a separate process: seconds, and memory.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use bytes::Bytes;
use forebay_log::NewBlock;

use crate::log::{open, status_mb};

pub fn run(directory: &Path, gib: u64) -> anyhow::Result<()> {
    println!("backlog of {gib} GiB, reopened:");
    // 100-byte messages one by one, a kilobyte per block, and blocks of a busy stream.
    for (payload, streams) in [(100, 1), (1000, 64), (64 << 10, 64)] {
        let data = tempfile::tempdir_in(directory)?;
        let blocks = fill(data.path(), gib << 30, payload, streams)?;
        // Drops the page cache, so that the disk is measured.
        Command::new("sync").status()?;
        let dropped = std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok();
        println!(
            "{blocks} blocks of {payload} bytes in {streams} streams{}:",
            if dropped { ", page cache empty" } else { "" }
        );
        let own = std::env::current_exe()?;
        let status = Command::new(own)
            .args(["log", "--reopen"])
            .arg(data.path())
            .status()?;
        anyhow::ensure!(status.success(), "the second process failed");
    }
    Ok(())
}

/// Writes a backlog at full speed; returns its number of blocks.
fn fill(directory: &Path, bytes: u64, payload: usize, streams: usize) -> anyhow::Result<u64> {
    let log = open(directory)?;
    let names = (0..streams).map(|n| log.stream(&format!("stream {n}")));
    let streams: Vec<_> = names.collect::<Result<_, _>>()?;
    let body = Bytes::from(vec![b'm'; payload]);
    let block = |stream| NewBlock {
        stream,
        records: 1,
        codec: 0,
        raw_len: payload as u32,
        first_at_ms: 0,
        last_at_ms: 0,
        payload: body.clone(),
    };
    let mut blocks = 0;
    while log.volume_stats().used_bytes < bytes {
        for stream in streams.iter().cycle().take(10_000) {
            drop(log.append_wait(block(*stream))?);
        }
        blocks += 10_000;
    }
    log.shutdown();
    Ok(blocks)
}

pub fn reopen(directory: &Path) -> anyhow::Result<()> {
    let before = status_mb("VmRSS")?;
    let started = Instant::now();
    let log = open(directory)?;
    let took = started.elapsed();
    println!(
        "    {:.2} s, {:.0} MB resident (peak {:.0} MB, {before:.0} MB before)",
        took.as_secs_f64(),
        status_mb("VmRSS")?,
        status_mb("VmHWM")?
    );
    let stream = &log.streams()[0];
    let started = Instant::now();
    let middle = (stream.first_seq + stream.next_seq) / 2;
    let found = log.reader(stream.id, middle)?.next();
    anyhow::ensure!(found.is_some(), "nothing to read");
    println!(
        "    {} blocks; a block in the middle of a stream read in {:.1} ms",
        log.streams().iter().map(|s| s.blocks).sum::<u64>(),
        started.elapsed().as_secs_f64() * 1e3
    );
    Ok(())
}
