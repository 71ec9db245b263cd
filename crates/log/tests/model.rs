//! SeededRandom operations on a log whose disk loses, tears, reorders and fails, compared with a model of
//! a few maps.
//!
//! `FOREBAY_LOG_CASES=10000` for more cases, `FOREBAY_LOG_SEED=n` for one.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking with a reason"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use forebay_log::{
    CommitError, DiskCall, Log, LogAppendError, LogConfig, MemEnv, NewBlock, ReadItem, StreamId,
    SyncPolicy, Ticket,
};
use forebay_test_support::SeededRandom;

const DIR: &str = "/data";
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    records: u32,
    payload: Bytes,
}

#[derive(Default, Debug)]
struct Stream {
    /// Acknowledged, by first sequence.
    acked: BTreeMap<u64, Block>,
    /// Appended without acknowledgement; may exist after a crash, or not.
    maybe: BTreeMap<u64, Block>,
    next_seq: u64,
    acked_end: u64,
    trimmed: u64,
    maybe_trimmed: u64,
    closed: bool,
    maybe_closed: bool,
    maybe_deleted: bool,
    /// Something was acknowledged, so the declaration must exist.
    declared: bool,
    /// Records that were never acknowledged, between others that survived a crash.
    lost: u64,
}

enum Wait {
    Append { name: String, first_seq: u64 },
    Trim { name: String, up_to: u64 },
    Close { name: String },
    Delete { name: String },
}

struct Walk {
    random: SeededRandom,
    env: MemEnv,
    config: LogConfig,
    log: Option<Log>,
    streams: BTreeMap<String, Stream>,
    waiting: Vec<(Ticket, Wait)>,
    names: u64,
    trace: Vec<String>,
    /// A call was made to fail since the log was opened.
    faulty: bool,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut random = SeededRandom::new(seed);
        let config = LogConfig {
            sync: if random.one_in(5) {
                SyncPolicy::Cache
            } else {
                SyncPolicy::Disk
            },
            segment_size: 4096 << random.below(3),
            preallocate_step: 512 << random.below(5),
            compact_below_percent: [0, 25, 60, 90][random.index(4)],
            min_free_bytes: 0,
            queue_bytes: 20_000,
            spare_segments: random.index(3),
            recycled_segments: random.index(3),
            manual: true,
            ..LogConfig::default()
        };
        let env = MemEnv::new(random.next_u64());
        let streams = BTreeMap::new();
        let (waiting, trace) = (Vec::new(), Vec::new());
        let mut walk = Self {
            random,
            env,
            config,
            log: None,
            streams,
            waiting,
            names: 0,
            trace,
            faulty: false,
        };
        walk.open(false);
        walk
    }

    fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    fn pick(&mut self) -> Option<String> {
        let n = self.streams.len();
        (n > 0).then(|| {
            let i = self.random.index(n);
            self.streams.keys().nth(i).unwrap().clone()
        })
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..45 => self.append(),
            45..65 => self.commit(),
            65..74 => self.trim(),
            74..77 => self.close(),
            77..80 => self.delete(),
            80..85 => self.check_readable(),
            85..88 => self.order_failure(),
            88..91 => self.squeeze(),
            91..94 => self.restart(),
            94..97 => {
                self.trace.push("kill".into());
                self.env.kill();
                self.open(false);
            }
            _ if self.config.sync == SyncPolicy::Disk => {
                self.trace.push("crash".into());
                self.env.crash();
                self.open(true);
            }
            _ => {}
        }
    }

    fn append(&mut self) {
        let name = if self.streams.len() < 6 && self.random.one_in(3) {
            self.names += 1;
            format!("stream {}", self.names)
        } else {
            let Some(name) = self.pick() else { return };
            name
        };
        let Ok(id) = self.log().stream(&name) else {
            return;
        };
        let large = self.random.one_in(10);
        let size = self.random.below(if large { 6000 } else { 300 });
        let mut payload = vec![0; usize::try_from(size).unwrap()];
        payload.fill_with(|| self.random.next_u64().to_le_bytes()[0]);
        let records = 1 + u32::try_from(self.random.below(9)).unwrap();
        let block = Block {
            records,
            payload: Bytes::from(payload),
        };
        let new = NewBlock {
            stream: id,
            records,
            codec: 1,
            raw_len: 7,
            first_at_ms: 1,
            last_at_ms: 2,
            payload: block.payload.clone(),
        };
        let stream = self.streams.entry(name.clone()).or_default();
        match self.log.as_ref().unwrap().append(new) {
            Ok(ticket) => {
                assert!(!stream.closed && !stream.maybe_closed, "append after close");
                assert_eq!(ticket.first_seq(), stream.next_seq);
                stream.next_seq += u64::from(records);
                let first_seq = ticket.first_seq();
                self.trace
                    .push(format!("append {name} {first_seq} +{records} {size}B"));
                stream.maybe.insert(first_seq, block);
                self.waiting
                    .push((ticket, Wait::Append { name, first_seq }));
            }
            Err(LogAppendError::Closed) => assert!(stream.closed || stream.maybe_closed),
            Err(LogAppendError::Busy) => self.commit(),
            Err(LogAppendError::Full { .. } | LogAppendError::Latched(_)) => {}
            Err(other) => panic!("append: {other}"),
        }
    }

    fn commit(&mut self) {
        self.trace.push("commit".into());
        while self.log().step() {}
        let mut rejected = false;
        for (ticket, wait) in std::mem::take(&mut self.waiting) {
            match ticket.wait() {
                Ok(_) => self.acknowledge(wait),
                Err(CommitError::Full) => {
                    rejected = true;
                    self.take_back(&wait);
                }
                Err(CommitError::MayHaveHappened(_)) => {}
                Err(other) => panic!("commit: {other}"),
            }
        }
        if rejected {
            self.trace.push("rejected: full".into());
            for stream in self.streams.values_mut() {
                stream.next_seq = stream.acked_end;
            }
        }
    }

    fn acknowledge(&mut self, wait: Wait) {
        match wait {
            Wait::Append { name, first_seq } => {
                let stream = self.streams.get_mut(&name).unwrap();
                let block = stream.maybe.remove(&first_seq).unwrap();
                stream.acked_end = first_seq + u64::from(block.records);
                stream.acked.insert(first_seq, block);
                stream.declared = true;
            }
            Wait::Trim { name, up_to } => {
                let stream = self.streams.get_mut(&name).unwrap();
                stream.trimmed = stream.trimmed.max(up_to);
                stream.forget_trimmed();
                stream.declared = true;
            }
            Wait::Close { name } => {
                let stream = self.streams.get_mut(&name).unwrap();
                stream.closed = true;
                stream.declared = true;
            }
            Wait::Delete { name } => {
                self.streams.remove(&name);
            }
        }
    }

    fn take_back(&mut self, wait: &Wait) {
        match wait {
            Wait::Append { name, first_seq } => {
                self.streams.get_mut(name).unwrap().maybe.remove(first_seq);
            }
            Wait::Close { name } => self.streams.get_mut(name).unwrap().maybe_closed = false,
            Wait::Delete { name } => self.streams.get_mut(name).unwrap().maybe_deleted = false,
            Wait::Trim { name, .. } => {
                let stream = self.streams.get_mut(name).unwrap();
                stream.maybe_trimmed = stream.trimmed;
            }
        }
    }

    fn trim(&mut self) {
        let Some((name, id)) = self.existing() else {
            return;
        };
        let stream = self.streams.get_mut(&name).unwrap();
        let up_to = self.random.below(stream.next_seq + 1);
        if let Ok(ticket) = self.log.as_ref().unwrap().trim(id, up_to) {
            self.trace.push(format!("trim {name} {up_to}"));
            stream.maybe_trimmed = stream.maybe_trimmed.max(up_to);
            self.waiting.push((ticket, Wait::Trim { name, up_to }));
        }
    }

    fn close(&mut self) {
        let Some((name, id)) = self.existing() else {
            return;
        };
        if let Ok(ticket) = self.log().close_stream(id) {
            self.trace.push(format!("close {name}"));
            self.streams.get_mut(&name).unwrap().maybe_closed = true;
            self.waiting.push((ticket, Wait::Close { name }));
        }
    }

    fn delete(&mut self) {
        let Some((name, id)) = self.existing() else {
            return;
        };
        if let Ok(ticket) = self.log().delete_stream(id) {
            self.trace.push(format!("delete {name}"));
            self.streams.get_mut(&name).unwrap().maybe_deleted = true;
            self.waiting.push((ticket, Wait::Delete { name }));
            self.commit();
        }
    }

    fn existing(&mut self) -> Option<(String, StreamId)> {
        let name = self.pick()?;
        let id = self.log().find(&name)?;
        Some((name, id))
    }

    /// Everything acknowledged can be read while the writer runs.
    fn check_readable(&mut self) {
        if self.log().health().is_err() {
            return;
        }
        self.commit();
        if self.log().health().is_err() {
            return;
        }
        self.env.heal();
        for (name, stream) in &mut self.streams {
            let Some(id) = self.log.as_ref().unwrap().find(name) else {
                continue;
            };
            let Some(stats) = self.log.as_ref().unwrap().stats(id) else {
                continue;
            };
            stream.check(self.log.as_ref().unwrap(), id, false);
            assert_eq!(stats.lost_records, stream.lost, "{name}");
        }
    }

    fn order_failure(&mut self) {
        let call = [
            Some(DiskCall::Write),
            Some(DiskCall::Sync),
            Some(DiskCall::Rename),
            Some(DiskCall::SyncDir),
            None,
        ];
        let call = call[self.random.index(5)];
        let errno = if self.random.one_in(2) { EIO } else { ENOSPC };
        let after = self.random.below(8);
        self.trace
            .push(format!("will fail {call:?} {after} {errno}"));
        self.faulty = true;
        self.env.fail(call, after, errno);
    }

    /// The disk fills up, for a while.
    fn squeeze(&mut self) {
        let used: u64 = self
            .env
            .files()
            .iter()
            .map(|(_, bytes)| bytes.len() as u64)
            .sum();
        let capacity = used + self.random.below(10_000);
        self.trace.push(format!("capacity {capacity}"));
        self.env.set_capacity(Some(capacity));
        for _ in 0..5 {
            self.append();
        }
        self.commit();
        self.env.set_capacity(None);
    }

    fn restart(&mut self) {
        self.trace.push("restart".into());
        self.log().shutdown();
        self.commit();
        self.env.heal();
        self.open(false);
    }

    fn open(&mut self, crashed: bool) {
        // Earlier tickets may have resolved already.
        for (ticket, wait) in std::mem::take(&mut self.waiting) {
            match ticket.outcome() {
                Some(Ok(_)) => self.acknowledge(wait),
                Some(Err(CommitError::Full)) => self.take_back(&wait),
                _ => {}
            }
        }
        self.env.kill();
        self.log = None;
        let env = Arc::new(self.env.clone());
        let (log, report) = Log::open(env, Path::new(DIR), self.config.clone()).unwrap();
        assert!(report.missing_segments.is_empty(), "{report:?}");
        // The first batch of a stream was torn: its declaration is gone, a block of it survived.
        // Streams with acknowledged data must have their name, which is checked below.
        for id in &report.unnamed_streams {
            assert!(self.faulty || crashed, "{report:?}");
            log.delete_stream(*id).unwrap().wait().unwrap();
        }
        if !std::mem::take(&mut self.faulty) && !crashed {
            // An unfinished batch torn by an earlier crash is reported until a catalog includes it.
            assert!(report.damage.iter().all(|d| !d.acknowledged), "{report:?}");
            let known = |name: &str| self.streams.get(name).map_or(0, |s| s.lost);
            assert!(
                report.lost.iter().all(|l| known(&l.name) >= l.records),
                "{report:?}"
            );
        }
        self.trace.push(format!("opened {report:?}"));
        self.streams.retain(|name, stream| {
            let Some(id) = log.find(name) else {
                assert!(!stream.declared || stream.maybe_deleted, "{name} is gone");
                return false;
            };
            stream.check(&log, id, true);
            true
        });
        for stats in log.streams() {
            assert!(
                self.streams.contains_key(&stats.name) || stats.next_seq == 0,
                "{stats:?} reappeared"
            );
        }
        let files = self.env.files();
        let named = files
            .iter()
            .filter(|(p, _)| p.to_str().unwrap().contains("segment-"));
        assert_eq!(named.count(), log.segments().len(), "an unknown file");
        self.log = Some(log);
    }
}

impl Stream {
    fn forget_trimmed(&mut self) {
        let trimmed = self.trimmed;
        self.acked
            .retain(|seq, block| seq + u64::from(block.records) > trimmed);
    }

    /// Every block was appended, and is in order and unique. Returns the blocks and the gaps.
    fn read(&self, log: &Log, id: StreamId) -> (BTreeMap<u64, Block>, Vec<(u64, u64)>) {
        let mut found = BTreeMap::new();
        let mut gaps = Vec::new();
        let mut at = 0;
        for item in log.reader(id, 0).unwrap() {
            match item.unwrap() {
                ReadItem::Block(b) => {
                    assert!(b.first_seq >= at, "duplicated or out of order");
                    at = b.next_seq();
                    let block = Block {
                        records: b.records,
                        payload: b.payload,
                    };
                    let known = self
                        .acked
                        .get(&b.first_seq)
                        .or(self.maybe.get(&b.first_seq));
                    assert_eq!(known, Some(&block), "never appended: {}", b.first_seq);
                    found.insert(b.first_seq, block);
                }
                ReadItem::Gap(gap) => {
                    assert!(gap.first_seq >= at);
                    at = gap.first_seq + gap.records;
                    gaps.push((gap.first_seq, at));
                }
            }
        }
        (found, gaps)
    }

    /// The log has everything acknowledged, and possibly some of the rest. Then the model is set to
    /// what the log has.
    fn check(&mut self, log: &Log, id: StreamId, reopened: bool) {
        let stats = log.stats(id).unwrap();
        assert!(
            stats.trimmed_to >= self.trimmed,
            "a trim was lost: {stats:?}"
        );
        assert!(
            stats.trimmed_to <= self.maybe_trimmed.max(self.trimmed),
            "{stats:?}"
        );
        assert!(
            stats.next_seq >= self.acked_end,
            "{} < {}: {stats:?}",
            stats.next_seq,
            self.acked_end
        );
        assert!(stats.closed || !self.closed, "a close was lost");
        assert!(!stats.closed || self.closed || self.maybe_closed);
        let (found, gaps) = self.read(log, id);
        for (seq, block) in &self.acked {
            let wanted = seq + u64::from(block.records) > stats.trimmed_to;
            assert!(
                !wanted || found.contains_key(seq),
                "{seq} was acknowledged and is lost: {stats:?} {gaps:?}"
            );
        }
        assert_eq!(stats.blocks, found.len() as u64);
        assert_eq!(
            stats.records,
            found.values().map(|b| u64::from(b.records)).sum::<u64>()
        );
        let lost: u64 = gaps.iter().map(|(from, to)| to - from).sum();
        assert!(
            stats.lost_records >= lost.max(self.lost),
            "lost and not reported"
        );
        if reopened {
            self.lost = stats.lost_records;
        }
        self.acked = found;
        self.maybe.clear();
        self.next_seq = stats.next_seq;
        self.acked_end = stats.next_seq;
        self.trimmed = stats.trimmed_to;
        self.maybe_trimmed = stats.trimmed_to;
        self.closed = stats.closed;
        self.maybe_closed = false;
        self.maybe_deleted = false;
        // A stream whose declaration was rejected exists too, until the log is closed.
        self.declared |= reopened || stats.next_seq > 0 || stats.closed;
    }
}

fn walk(seed: u64) {
    let mut walk = Walk::new(seed);
    let steps = 30 + walk.random.below(150);
    let trace = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..steps {
            walk.step();
        }
        walk.restart();
    }));
    if let Err(cause) = trace {
        for line in &walk.trace {
            eprintln!("{line}");
        }
        eprintln!(
            "replay with FOREBAY_LOG_SEED={seed} cargo test -p forebay-log --test model \
             acknowledged_blocks_are_read_once_and_in_order"
        );
        walk.env.kill();
        std::panic::resume_unwind(cause);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn acknowledged_blocks_are_read_once_and_in_order() {
    if let Some(seed) = number("FOREBAY_LOG_SEED") {
        return walk(seed);
    }
    for seed in 0..number("FOREBAY_LOG_CASES").unwrap_or(1500) {
        walk(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| {
        let mut walk = Walk::new(seed);
        for _ in 0..100 {
            walk.step();
        }
        (walk.trace.clone(), walk.env.calls())
    };
    assert_eq!(trace(42), trace(42));
}
