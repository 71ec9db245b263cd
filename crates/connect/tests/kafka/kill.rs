//! Repeated kills of the process under load, against a real broker.
//!
//! The child is this test's own binary: it writes numbered messages and records each accepted batch
//! in a file that survives it. The parent kills it at random moments; at the end a child drains,
//! and the messages in the broker are compared with the accepted ones.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use forebay_buffer::{Buffer, BufferConfig, BufferMode, CloseMode, Message};
use forebay_connect::provider::kafka::KafkaProvider;
use forebay_test_support::services;

use crate::broker::{LIMIT, make_topic, read_all};
use crate::delivery::config;

const PARTITIONS: i32 = 2;
const KEYS: u64 = 7;
const WINDOW: u64 = 2_000;

/// How the child writes.
#[derive(Clone, Copy, Debug)]
struct ChildOptions {
    mode: BufferMode,
    transactions: bool,
}

impl ChildOptions {
    fn of(text: &str) -> Self {
        let mode = match text {
            "block" => BufferMode::Block,
            "error" => BufferMode::Error,
            _ => BufferMode::Always,
        };
        let transactions = text == "transactions";
        Self { mode, transactions }
    }
}

fn settings(dir: &Path, mode: BufferMode) -> BufferConfig {
    BufferConfig {
        mode,
        segment_size: Some(1 << 20),
        in_flight_messages: 1_000,
        batch_messages: 500,
        repeat_window: WINDOW,
        min_free_bytes: 0,
        ..BufferConfig::new(dir)
    }
}

/// Body of the child process; not a test by itself.
#[test]
fn child() {
    let Ok(dir) = std::env::var("FOREBAY_KILL_DIR") else {
        return;
    };
    let get = |name: &str| std::env::var(name).unwrap();
    let (brokers, topic) = (get("FOREBAY_KILL_BROKERS"), get("FOREBAY_KILL_TOPIC"));
    let options = ChildOptions::of(&get("FOREBAY_KILL_MODE"));
    let provider = KafkaProvider::new(config(&brokers, options.transactions)).unwrap();
    let dir = Path::new(&dir);
    let buffer = Buffer::open(settings(&dir.join("buffer"), options.mode), provider).unwrap();
    if get("FOREBAY_KILL_DRAIN") == "true" {
        buffer.close(CloseMode::Drain(LIMIT)).unwrap();
        return;
    }
    let topic = buffer.topic(&topic).unwrap();
    let mut progress = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("accepted"))
        .unwrap();
    let mut next: u64 = get("FOREBAY_KILL_FROM").parse().unwrap();
    let mut first = true;
    loop {
        let batch: Vec<_> = (next..next + 50)
            .map(|i| Message::keyed(format!("{}", i % KEYS), i.to_string()))
            .collect();
        // A number is used only once, even if it is unknown whether it was accepted.
        writeln!(progress, "try {}", next + 50).unwrap();
        let accepted = topic.write_blocking(&batch).unwrap();
        assert_eq!(accepted.buffered, options.mode == BufferMode::Always);
        writeln!(progress, "ok {next}").unwrap();
        next += 50;
        // The broker shares this machine: write about as fast as it can store.
        if std::mem::take(&mut first) {
            // The kill should interrupt deliveries, and not a client that is still connecting.
            buffer.flush_blocking(LIMIT).unwrap();
        } else if next.is_multiple_of(500) {
            drop(buffer.flush_blocking(Duration::from_millis(20)));
        }
    }
}

struct Progress {
    next: u64,
    accepted: Vec<u64>,
}

fn progress(dir: &Path) -> Progress {
    let text = std::fs::read_to_string(dir.join("accepted")).unwrap_or_default();
    let numbers = |prefix: &str| -> Vec<u64> {
        let lines = text
            .lines()
            .filter_map(|l| l.strip_prefix(prefix)?.parse().ok());
        lines.collect()
    };
    Progress {
        next: numbers("try ").into_iter().max().unwrap_or(0),
        accepted: numbers("ok ")
            .into_iter()
            .flat_map(|first| first..first + 50)
            .collect(),
    }
}

fn run_child(
    dir: &Path,
    brokers: &str,
    topic: &str,
    mode: &str,
    drain: bool,
) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["kill::child", "--exact", "--nocapture"])
        .env("FOREBAY_KILL_DIR", dir)
        .env("FOREBAY_KILL_BROKERS", brokers)
        .env("FOREBAY_KILL_TOPIC", topic)
        .env("FOREBAY_KILL_MODE", mode)
        .env("FOREBAY_KILL_DRAIN", drain.to_string())
        .env("FOREBAY_KILL_FROM", progress(dir).next.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn torture(mode: &str) {
    let name = format!("kill-{mode}");
    let Some(brokers) = services::kafka(&name) else {
        return;
    };
    let rounds: u32 = std::env::var("FOREBAY_TEST_KILLS").map_or(6, |n| n.parse().unwrap());
    let topic = make_topic(&brokers, &name, PARTITIONS);
    let dir = tempfile::tempdir().unwrap();
    let mut random = 0x9e37_79b9_u64 + u64::from(std::process::id());
    let mut kills = 0;
    while kills < rounds {
        let before = progress(dir.path()).accepted.len();
        let mut child = run_child(dir.path(), &brokers, &topic, mode, false);
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        // Kill after some batches, at any moment of the next.
        let batches = usize::try_from((random >> 33) % 200).unwrap();
        let deadline = Instant::now() + LIMIT;
        while progress(dir.path()).accepted.len() < before + 50 * batches.max(1) {
            assert!(
                child.try_wait().unwrap().is_none(),
                "the child ended by itself"
            );
            assert!(Instant::now() < deadline, "no progress");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(
        run_child(dir.path(), &brokers, &topic, mode, true)
            .wait()
            .unwrap()
            .success()
    );
    check(&brokers, &topic, dir.path(), kills, mode);
}

fn check(brokers: &str, topic: &str, dir: &Path, kills: u32, mode: &str) {
    let progress = progress(dir);
    let mut times: HashMap<u64, u64> = HashMap::new();
    for partition in read_all(brokers, topic, PARTITIONS) {
        let mut firsts: HashMap<Vec<u8>, u64> = HashMap::new();
        for message in partition {
            let number: u64 = message.text().parse().unwrap();
            let count = times.entry(number).or_default();
            *count += 1;
            if *count == 1 {
                let key = message.key.unwrap();
                let before = firsts.insert(key, number);
                assert!(
                    before.is_none_or(|b| b < number),
                    "{number} after {before:?}: order of its key"
                );
            }
        }
    }
    let lost = progress
        .accepted
        .iter()
        .filter(|n| !times.contains_key(n))
        .count();
    let repeats: u64 = times.values().map(|n| n - 1).sum();
    eprintln!(
        "{kills} kills, {mode}: {} accepted, {} in the broker, {lost} lost, {repeats} repeats",
        progress.accepted.len(),
        times.len()
    );
    assert_eq!(lost, 0);
    let allowed = match mode {
        "always" => u64::from(kills) * WINDOW,
        // The buffer never resends messages that were in direct delivery at the kill.
        _ => 0,
    };
    assert!(repeats <= allowed, "{repeats} repeats, {allowed} allowed");
}

#[test]
fn kills_lose_nothing_and_repeat_no_more_than_the_window() {
    torture("always");
}

#[test]
fn kills_with_transactions_lose_and_repeat_nothing() {
    torture("transactions");
}

/// Nothing is on disk: accepted messages were confirmed by the broker, and messages in flight were
/// not reported to the writer.
#[test]
fn kills_lose_and_repeat_nothing_confirmed_in_block_mode() {
    torture("block");
}

#[test]
fn kills_lose_and_repeat_nothing_confirmed_in_error_mode() {
    torture("error");
}
