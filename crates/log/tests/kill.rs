//! Kills a real process at random moments: everything that it acknowledged is on disk.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking with a reason"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use forebay_log::{Log, LogConfig, NewBlock, ReadItem, StdEnv};

const DIR_VAR: &str = "FOREBAY_LOG_KILL_DIR";
const ROUNDS: u64 = 25;
const STREAMS: [&str; 3] = ["red", "green", "blue"];

fn config() -> LogConfig {
    LogConfig {
        segment_size: 256 << 10,
        preallocate_step: 64 << 10,
        min_free_bytes: 0,
        ..LogConfig::default()
    }
}

/// No test by itself: the process that is killed.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR_VAR) else {
        return;
    };
    let (log, report) = Log::open(Arc::new(StdEnv::new()), Path::new(&dir), config()).unwrap();
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nclean {}", report.is_clean()).unwrap();
    out.flush().unwrap();
    for i in 0_u64.. {
        let name = STREAMS[usize::try_from(i % 3).unwrap()];
        let stream = log.stream(name).unwrap();
        let next = log.committed(stream).unwrap_or(0);
        let payload = Bytes::from(
            next.to_le_bytes()
                .repeat(1 + usize::try_from(i * 37 % 900).unwrap()),
        );
        let block = NewBlock {
            stream,
            records: 1,
            codec: 0,
            raw_len: 0,
            first_at_ms: 0,
            last_at_ms: 0,
            payload,
        };
        let appended = log.append(block).unwrap().wait().unwrap();
        assert_eq!(appended.first_seq, next);
        if i % 50 == 49 {
            log.trim(stream, next.saturating_sub(20))
                .unwrap()
                .wait()
                .unwrap();
        }
        writeln!(out, "ack {name} {next}").unwrap();
        out.flush().unwrap();
    }
}

/// Starts the child, reads that many acknowledgements, kills it, reads the rest.
fn round(dir: &Path, acks: u64, acked: &mut [u64; 3]) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(DIR_VAR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["clean", clean] => assert_eq!(clean, "true"),
            ["ack", name, seq] => {
                let i = STREAMS.iter().position(|s| *s == name).unwrap();
                let seq: u64 = seq.parse().unwrap();
                assert!(seq + 1 > acked[i], "{name} {seq} was assigned twice");
                acked[i] = seq + 1;
                seen += 1;
            }
            _ => {}
        }
        if seen == acks {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
}

#[test]
fn acknowledged_blocks_survive_sigkill() {
    if std::env::var(DIR_VAR).is_ok() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acked = [0; 3];
    for i in 0..ROUNDS {
        round(dir.path(), 1 + i * i * 7 % 400, &mut acked);
        let (log, report) = Log::open(Arc::new(StdEnv::new()), dir.path(), config()).unwrap();
        assert!(report.is_clean(), "{report:?}");
        for (name, acked) in STREAMS.iter().zip(acked) {
            let Some(stream) = log.find(name) else {
                assert_eq!(acked, 0);
                continue;
            };
            let stats = log.stats(stream).unwrap();
            assert!(
                stats.next_seq >= acked,
                "{name}: {acked} acknowledged, {stats:?}"
            );
            assert_eq!(stats.lost_records, 0);
            let mut at = stats.trimmed_to;
            for item in log.reader(stream, 0).unwrap() {
                let ReadItem::Block(block) = item.unwrap() else {
                    panic!("a gap")
                };
                assert_eq!(block.first_seq, at);
                assert!(block.payload.chunks(8).all(|c| c == at.to_le_bytes()));
                at = block.next_seq();
            }
            assert_eq!(at, stats.next_seq);
        }
        log.shutdown();
    }
}
