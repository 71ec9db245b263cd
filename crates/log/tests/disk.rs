//! Disks that fail, lie and lose power, at each call in turn: acknowledged data is readable, or
//! reported as lost and counted; only appended data is delivered.
//!
//! `FOREBAY_LOG_CASES=10000` for more of the random ones, `FOREBAY_LOG_SEED=n` for one.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking with a reason"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use forebay_log::{DiskCall, Log, LogConfig, MemEnv, NewBlock, ReadItem, WriteFault};
use forebay_test_support::SeededRandom;

const DIR: &str = "/data";
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const STREAMS: [&str; 3] = ["red", "green", "blue"];

fn config() -> LogConfig {
    LogConfig {
        segment_size: 4096,
        preallocate_step: 1024,
        spare_segments: 1,
        min_free_bytes: 0,
        manual: true,
        ..LogConfig::default()
    }
}

/// Appended data: by stream and sequence every payload ever appended there (after a loss of the
/// end, sequences are reused), and whether the newest was acknowledged.
#[derive(Default)]
struct Model {
    appended: BTreeMap<(&'static str, u64), (Vec<Bytes>, bool)>,
    trimmed: BTreeMap<&'static str, u64>,
    count: u32,
}

impl Model {
    /// Appends and commits; some outcomes are errors.
    fn append(&mut self, log: &Log, name: &'static str) {
        let Ok(stream) = log.stream(name) else { return };
        self.count += 1;
        let size = 20 + self.count as usize * 37 % 500;
        let mut payload = self.count.to_le_bytes().to_vec();
        payload.resize(size, b'.');
        let payload = Bytes::from(payload);
        let block = NewBlock {
            stream,
            records: 2,
            codec: 0,
            raw_len: 1,
            first_at_ms: 1,
            last_at_ms: 2,
            payload: payload.clone(),
        };
        let Ok(ticket) = log.append(block) else {
            return;
        };
        let place = (name, ticket.first_seq());
        let entry = self.appended.entry(place).or_default();
        entry.0.push(payload);
        entry.1 = ticket.wait().is_ok();
    }

    fn must_append(&mut self, log: &Log, name: &'static str) {
        let acked = |model: &Self| model.appended.values().filter(|(_, acked)| *acked).count();
        let before = acked(self);
        self.append(log, name);
        assert_eq!(acked(self), before + 1, "a block was rejected");
    }

    fn trim(&mut self, log: &Log, name: &'static str, up_to: u64) {
        let Some(stream) = log.find(name) else { return };
        let Ok(ticket) = log.trim(stream, up_to) else {
            return;
        };
        let trimmed = self.trimmed.entry(name).or_default();
        // A failed trim may have been applied.
        *trimmed = up_to.max(*trimmed);
        drop(ticket.wait());
    }

    /// Forty blocks and a few trims: several segments, some of them reclaimed.
    fn work(&mut self, log: &Log, random: &mut SeededRandom) {
        for _ in 0..40 {
            let name = STREAMS[random.index(3)];
            self.append(log, name);
            if random.below(12) == 0 {
                let to = log.find(name).and_then(|id| log.committed(id)).unwrap_or(0);
                self.trim(log, name, to / 2);
            }
        }
    }

    /// Everything that the log delivers was appended; everything else is reported. With
    /// `end_may_go`, the newest blocks of a stream may be gone without a trace: nothing behind them
    /// on the disk refers to them.
    fn check(&self, log: &Log, end_may_go: bool) {
        for name in STREAMS {
            let acked: Vec<u64> = self
                .appended
                .iter()
                .filter(|((n, _), (_, acked))| *n == name && *acked)
                .map(|((_, seq), _)| *seq)
                .collect();
            let Some(stream) = log.find(name) else {
                assert!(acked.is_empty() || end_may_go, "{name} is gone");
                continue;
            };
            let mut found = Vec::new();
            let mut gaps = Vec::new();
            for item in log.reader(stream, 0).unwrap() {
                match item.unwrap() {
                    ReadItem::Block(b) => {
                        let known = self.appended.get(&(name, b.first_seq));
                        let known = known.is_some_and(|(all, _)| all.contains(&b.payload));
                        assert!(known, "{name} {}: this was never appended", b.first_seq);
                        found.push(b.first_seq);
                    }
                    ReadItem::Gap(gap) => {
                        gaps.push(gap.first_seq..gap.first_seq + gap.records);
                    }
                }
            }
            // Losses that the reader found are recorded.
            while log.step() {}
            let stats = log.stats(stream).unwrap();
            let trimmed = self.trimmed.get(name).copied().unwrap_or(0);
            for seq in acked {
                let gone = found.binary_search(&seq).is_err();
                let reported = gaps.iter().any(|gap| gap.contains(&seq));
                let excused = seq < trimmed || (end_may_go && seq >= stats.next_seq);
                assert!(
                    !gone || reported || excused,
                    "{name} {seq} was acknowledged, is gone and not reported: {stats:?} {gaps:?}"
                );
            }
            assert!(
                found.is_sorted(),
                "{name}: out of order or twice: {found:?}"
            );
            // Of a half trimmed block the upper half counts.
            let above = |gap: &std::ops::Range<u64>| gap.end - gap.start.max(stats.trimmed_to);
            let lost: u64 = gaps.iter().map(above).sum();
            if log.health().is_ok() {
                assert!(stats.lost_records >= lost, "{name}: {lost} lost, {stats:?}");
            }
        }
    }
}

fn open(env: &MemEnv) -> Log {
    let opened = Log::open(Arc::new(env.clone()), Path::new(DIR), config());
    opened.unwrap().0
}

/// A run on a sound disk; returns its number of calls and of writes.
fn calls_of_a_run() -> u64 {
    let env = MemEnv::new(1);
    let log = open(&env);
    Model::default().work(&log, &mut SeededRandom::new(1));
    env.calls()
}

fn end(env: &MemEnv, how: u64, log: Log) {
    match how {
        0 => env.crash(),
        1 => env.kill(),
        _ => log.shutdown(),
    }
    drop(log);
    env.kill();
}

#[test]
fn a_failure_of_any_call_loses_nothing_acknowledged() {
    let calls = calls_of_a_run();
    for errno in [EIO, ENOSPC] {
        for n in 0..calls {
            for how in 0..3 {
                let env = MemEnv::new(n * 3 + how);
                let log = open(&env);
                env.fail(None, n.saturating_sub(20), errno);
                let mut model = Model::default();
                model.work(&log, &mut SeededRandom::new(1));
                end(&env, how, log);
                let log = open(&env);
                model.check(&log, false);
                model.append(&log, "red");
                model.check(&log, false);
            }
        }
    }
}

/// Each call in turn that touches no data fails for lack of a descriptor or memory: nothing is
/// latched, nothing acknowledged is lost, and the log continues.
#[test]
fn a_shortage_at_each_call_latches_nothing() {
    const EINTR: i32 = 4;
    const EAGAIN: i32 = 11;
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    let calls = [
        DiskCall::Open,
        DiskCall::Rename,
        DiskCall::Remove,
        DiskCall::Read,
        DiskCall::SetLen,
    ];
    for call in calls {
        for (i, errno) in [EINTR, EAGAIN, ENOMEM, ENFILE, EMFILE]
            .into_iter()
            .enumerate()
        {
            for n in 0..40 {
                let how = (n + i as u64) % 3;
                let env = MemEnv::new(n);
                let log = open(&env);
                env.fail(Some(call), n, errno);
                let mut model = Model::default();
                model.work(&log, &mut SeededRandom::new(1));
                assert_eq!(log.health(), Ok(()), "{call:?} {n}, errno {errno}");
                env.heal();
                model.must_append(&log, "red");
                model.check(&log, false);
                end(&env, how, log);
                let log = open(&env);
                model.check(&log, false);
                model.must_append(&log, "red");
                model.check(&log, false);
            }
        }
    }
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_acknowledged() {
    for n in 0..calls_of_a_run() {
        let env = MemEnv::new(n);
        let log = open(&env);
        env.cut_power_after(n);
        let mut model = Model::default();
        model.work(&log, &mut SeededRandom::new(1));
        env.crash();
        drop(log);
        // And once more, during the opening.
        env.cut_power_after(n % 23);
        let opened = Log::open(Arc::new(env.clone()), Path::new(DIR), config());
        env.crash();
        drop(opened);
        let log = open(&env);
        model.check(&log, false);
        model.work(&log, &mut SeededRandom::new(2));
        model.check(&log, false);
    }
}

fn lies(seed: u64) {
    let mut random = SeededRandom::new(seed);
    let env = MemEnv::new(seed);
    let log = open(&env);
    let mut model = Model::default();
    if random.below(2) == 0 {
        model.work(&log, &mut random);
    }
    for _ in 0..=random.below(2) {
        let kinds = [
            WriteFault::Lost,
            WriteFault::Misplaced,
            WriteFault::OtherFile,
        ];
        let lie = kinds[random.index(3)];
        env.corrupt_write(lie, random.below(150));
    }
    model.work(&log, &mut random);
    model.check(&log, true);
    model.work(&log, &mut random);
    let how = random.below(3);
    end(&env, how, log);
    let log = open(&env);
    model.check(&log, true);
    model.work(&log, &mut random);
    model.check(&log, true);
    log.shutdown();
    drop(log);
    model.check(&open(&env), true);
}

#[test]
fn losses_of_a_lying_disk_are_reported() {
    let number =
        |name: &str| -> Option<u64> { std::env::var(name).ok().map(|text| text.parse().unwrap()) };
    let only = number("FOREBAY_LOG_SEED");
    let seeds = only.map_or(0..number("FOREBAY_LOG_CASES").unwrap_or(300), |n| n..n + 1);
    for seed in seeds {
        if let Err(cause) = std::panic::catch_unwind(|| lies(seed)) {
            eprintln!(
                "replay with FOREBAY_LOG_SEED={seed} cargo test -p forebay-log --test disk \
                 losses_of_a_lying_disk_are_reported"
            );
            std::panic::resume_unwind(cause);
        }
    }
}
