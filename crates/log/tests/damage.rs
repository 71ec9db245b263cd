//! Damages every single byte of a small log in turn: opening succeeds, at most the damaged block is
//! lost, and the loss is reported.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking with a reason"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use forebay_log::inspect::LogInspection;
use forebay_log::{
    HEADER_LEN, Log, LogConfig, MemEnv, NewBlock, ReadItem, RecoveryReport, StreamId,
};

const DIR: &str = "/data";

fn config() -> LogConfig {
    LogConfig {
        segment_size: 4096,
        preallocate_step: 4096,
        spare_segments: 0,
        min_free_bytes: 0,
        compact_below_percent: 0,
        manual: true,
        ..LogConfig::default()
    }
}

fn block(stream: StreamId, payload: &str) -> NewBlock {
    NewBlock {
        stream,
        records: 3,
        codec: 0,
        raw_len: 9,
        first_at_ms: 10,
        last_at_ms: 20,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

/// Three streams, nine blocks, each committed separately.
fn small_log(env: &MemEnv) -> Log {
    let (log, _) = Log::open(Arc::new(env.clone()), Path::new(DIR), config()).unwrap();
    for round in 0..3 {
        for name in ["a", "b", "c"] {
            let stream = log.stream(name).unwrap();
            log.append(block(stream, &format!("{name}{round}-payload")))
                .unwrap()
                .wait()
                .unwrap();
        }
    }
    log
}

fn sealed() -> MemEnv {
    let env = MemEnv::new(1);
    small_log(&env).shutdown();
    env
}

fn unsealed() -> MemEnv {
    let env = MemEnv::new(1);
    let log = small_log(&env);
    env.kill();
    drop(log);
    env
}

/// A sealed segment with a newer one behind it: it is opened by its extents.
fn older() -> MemEnv {
    let env = sealed();
    let (log, _) = Log::open(Arc::new(env.clone()), Path::new(DIR), config()).unwrap();
    let stream = log.stream("d").unwrap();
    log.append(block(stream, "d0-payload"))
        .unwrap()
        .wait()
        .unwrap();
    log.shutdown();
    env
}

/// Returns the blocks read, and the number of records in gaps.
fn read(log: &Log) -> (BTreeMap<(String, u64), Bytes>, u64) {
    let mut blocks = BTreeMap::new();
    let mut lost = 0;
    for stream in log.streams() {
        for item in log.reader(stream.id, 0).unwrap() {
            match item.unwrap() {
                ReadItem::Block(b) => {
                    blocks.insert((stream.name.clone(), b.first_seq), b.payload);
                }
                ReadItem::Gap(gap) => lost += gap.records,
            }
        }
    }
    (blocks, lost)
}

/// Whether the report or a read reports the loss.
fn is_reported(report: &RecoveryReport, env: &MemEnv, gaps: u64) -> bool {
    let verified = LogInspection::open(Arc::new(env.clone()), Path::new(DIR))
        .unwrap()
        .verify(|_, _| {});
    gaps == 3 || !report.damage.is_empty() || !report.lost.is_empty() || !verified.damage.is_empty()
}

/// Damages all files whose names contain `which`.
fn damage_each_byte(env: &MemEnv, which: &str) {
    let all = {
        let env = env.copy(0);
        let (log, _) = Log::open(Arc::new(env), Path::new(DIR), config()).unwrap();
        read(&log).0
    };
    assert!(all.len() >= 9);
    let files = env.files();
    let chosen = files
        .into_iter()
        .filter(|(path, _)| path.to_str().unwrap().contains(which));
    for (path, bytes) in chosen {
        for at in 0..bytes.len() {
            for flip in [0xff, 0x01] {
                damage_byte(env, &all, (&path, &bytes), at, flip);
            }
        }
    }
}

fn damage_byte(
    env: &MemEnv,
    all: &BTreeMap<(String, u64), Bytes>,
    (path, bytes): (&PathBuf, &[u8]),
    at: usize,
    flip: u8,
) {
    let location = format!("{} byte {at}", path.display());
    let env = env.copy(at as u64);
    let mut damaged = bytes.to_vec();
    damaged[at] ^= flip;
    env.put(path, damaged);
    let opened = Log::open(Arc::new(env.clone()), Path::new(DIR), config());
    let (log, report) = opened.unwrap_or_else(|e| panic!("{location}: {e}"));
    let (found, gaps) = read(&log);
    for (key, payload) in &found {
        // A stream with a damaged declaration keeps its blocks.
        let same = all.get(key) == Some(payload)
            || (key.0.starts_with("unknown-") && all.values().any(|p| p == payload));
        assert!(same, "{location}: {key:?} was never written");
    }
    assert!(
        found.len() + 1 >= all.len(),
        "{location}: more than one block lost: {report:?}"
    );
    if found.len() < all.len() {
        assert!(
            is_reported(&report, &env, gaps),
            "{location}: lost and not reported: {report:?}"
        );
    }
    // The log accepts data again.
    let stream = log.stream("a").unwrap();
    log.append(block(stream, "more")).unwrap().wait().unwrap();
}

#[test]
fn a_damaged_byte_of_a_sealed_segment_costs_at_most_one_block() {
    damage_each_byte(&sealed(), "");
}

#[test]
fn a_damaged_byte_of_an_older_segment_costs_at_most_one_block() {
    damage_each_byte(&older(), "0001.seg");
}

#[test]
fn a_damaged_byte_of_an_open_segment_costs_at_most_one_block() {
    damage_each_byte(&unsealed(), "");
}

fn segment(env: &MemEnv) -> (PathBuf, Vec<u8>) {
    let is_segment = |(path, _): &(PathBuf, Vec<u8>)| path.to_str().unwrap().contains("segment-");
    env.files().into_iter().find(is_segment).unwrap()
}

fn find(bytes: &[u8], text: &str) -> usize {
    bytes
        .windows(text.len())
        .position(|w| w == text.as_bytes())
        .unwrap()
}

#[test]
fn a_damaged_payload_is_reported_with_stream_first_record_and_count() {
    for env in [sealed(), unsealed()] {
        let (path, mut bytes) = segment(&env);
        let at = find(&bytes, "b1-payload");
        bytes[at] ^= 1;
        env.put(&path, bytes);
        let (log, _) = Log::open(Arc::new(env.clone()), Path::new(DIR), config()).unwrap();
        let b = log.find("b").unwrap();
        let items: Vec<ReadItem> = log.reader(b, 0).unwrap().map(Result::unwrap).collect();
        let ReadItem::Gap(gap) = &items[1] else {
            panic!("{items:?}")
        };
        assert_eq!((gap.name.as_str(), gap.first_seq, gap.records), ("b", 3, 3));
        assert_eq!(items.len(), 3, "reading continues behind the damage");
        while log.step() {}
        assert_eq!(log.stats(b).unwrap().lost_records, 3);
        log.shutdown();
        // The loss is known after the next start, without reading.
        let (log, report) = Log::open(Arc::new(env), Path::new(DIR), config()).unwrap();
        assert_eq!(log.stats(b).unwrap().lost_records, 3);
        assert_eq!(log.stats(b).unwrap().records, 6);
        assert!(report.lost.is_empty(), "known already: {report:?}");
    }
}

#[test]
fn verify_reports_the_location() {
    let env = sealed();
    let (path, mut bytes) = segment(&env);
    let at = find(&bytes, "c2-payload");
    bytes[at] ^= 1;
    env.put(&path, bytes);
    let inspection = LogInspection::open(Arc::new(env), Path::new(DIR)).unwrap();
    let report = inspection.verify(|_, _| {});
    assert!(!report.is_sound());
    assert_eq!(report.damage.len(), 1);
    let damage = &report.damage[0];
    assert_eq!(damage.offset, (at - HEADER_LEN) as u64);
    let block = damage.block.as_ref().unwrap();
    assert_eq!(
        (block.name.as_str(), block.first_seq, block.records),
        ("c", 6, 3)
    );
}

#[test]
fn a_missing_segment_is_reported_and_its_records_are_counted() {
    let env = MemEnv::new(3);
    let (log, _) = Log::open(Arc::new(env.clone()), Path::new(DIR), config()).unwrap();
    let stream = log.stream("s").unwrap();
    for i in 0..40 {
        let payload = format!("{i:0500}");
        log.append(block(stream, &payload)).unwrap().wait().unwrap();
    }
    log.shutdown();
    let without = MemEnv::new(4);
    let mut missing = 0;
    for (i, (path, bytes)) in env
        .files()
        .into_iter()
        .filter(|(p, _)| p.ends_with("volume") || p.to_str().unwrap().contains("segment"))
        .enumerate()
    {
        if i == 2 {
            missing = 3;
            assert!(path.to_str().unwrap().contains("0003.seg"), "{path:?}");
        } else {
            without.put(&path, bytes);
        }
    }
    let (log, report) = Log::open(Arc::new(without), Path::new(DIR), config()).unwrap();
    assert_eq!(report.missing_segments, vec![missing]);
    let lost: u64 = report.lost.iter().map(|l| l.records).sum();
    let stats = log.stats(stream).unwrap();
    assert!(lost > 0 && lost == stats.lost_records);
    assert_eq!(stats.records + lost, 120);
}

/// The file of the volume, in any state, is rewritten with the id of its segments.
#[test]
fn damage_in_the_file_volume_is_repaired() {
    let path = Path::new(DIR).join("volume");
    let other = volume_file(&MemEnv::new(77));
    for env in [sealed(), unsealed(), older()] {
        let sound = volume_file(&env);
        let mut all = vec![
            None,
            Some(Vec::new()),
            Some(b"version 9".to_vec()),
            Some(other.clone()),
        ];
        all.extend((0..sound.len()).map(|at| {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            Some(damaged)
        }));
        for damaged in all {
            let env = env.copy(5);
            match &damaged {
                Some(bytes) => env.put(&path, bytes.clone()),
                None => forebay_log::Env::remove(&env, &path).unwrap(),
            }
            let inspected = LogInspection::open(Arc::new(env.clone()), Path::new(DIR)).unwrap();
            let (log, report) = Log::open(Arc::new(env.clone()), Path::new(DIR), config()).unwrap();
            assert!(report.volume_file_damaged, "{damaged:?}");
            assert!(read(&log).0.len() >= 9, "{damaged:?}");
            assert_eq!(inspected.stats().volume, Some(log.volume_stats().volume));
            assert_eq!(volume_file(&env), sound, "{damaged:?}");
            log.shutdown();
            let (_, report) = Log::open(Arc::new(env), Path::new(DIR), config()).unwrap();
            assert!(report.is_clean(), "repaired: {report:?}");
        }
    }
}

/// The bytes of the file `volume`; of a new volume if it is missing.
fn volume_file(env: &MemEnv) -> Vec<u8> {
    let find = || {
        let mut files = env.files().into_iter();
        files.find(|(path, _)| path.ends_with("volume"))
    };
    if find().is_none() {
        drop(small_log(env));
    }
    find().unwrap().1
}

/// Streams of another volume have the same numbers: its segments are neither read nor removed.
#[test]
fn segments_of_another_volume_are_kept_and_reported() {
    let other = MemEnv::new(9);
    small_log(&other).shutdown();
    let (_, foreign) = segment(&other);
    for with_file in [true, false] {
        let env = older();
        let all = {
            let (log, _) = Log::open(Arc::new(env.copy(0)), Path::new(DIR), config()).unwrap();
            read(&log).0
        };
        let location = Path::new(DIR).join("segment-0000000000000007.seg");
        env.put(&location, foreign.clone());
        if !with_file {
            forebay_log::Env::remove(&env, &Path::new(DIR).join("volume")).unwrap();
        }
        for _ in 0..2 {
            let (log, report) = Log::open(Arc::new(env.clone()), Path::new(DIR), config()).unwrap();
            assert_eq!(report.foreign_segments, [7]);
            assert!(report.lost.is_empty() && report.missing_segments.is_empty());
            for (key, payload) in &all {
                assert_eq!(read(&log).0.get(key), Some(payload));
            }
            let stream = log.stream("a").unwrap();
            log.append(block(stream, "more")).unwrap().wait().unwrap();
            log.shutdown();
        }
        let mut files = env.files().into_iter();
        let found = files.find(|(path, _)| *path == location).unwrap();
        assert_eq!(found.1, foreign, "it may be the only copy");
    }
}

/// A lost directory gets the configured id of the volume.
#[test]
fn a_lost_directory_gets_the_configured_id() {
    let remembered = LogConfig {
        volume: Some(0xfeed),
        ..config()
    };
    let env = MemEnv::new(1);
    let (log, report) = Log::open(Arc::new(env), Path::new(DIR), remembered.clone()).unwrap();
    assert_eq!(log.volume_stats().volume, 0xfeed);
    assert!(report.is_clean());
    let env = sealed();
    let (log, _) = Log::open(Arc::new(env), Path::new(DIR), remembered).unwrap();
    assert_ne!(
        log.volume_stats().volume,
        0xfeed,
        "an existing volume keeps its id"
    );
}

/// Records known to another store are reported as lost, once, and the sequence continues behind
/// them.
#[test]
fn records_known_to_another_store_are_reported_as_lost() {
    let env = sealed();
    let (log, _) = Log::open(Arc::new(env.clone()), Path::new(DIR), config()).unwrap();
    let (a, gone) = (log.find("a").unwrap(), log.stream("gone").unwrap());
    log.report_lost(a, 4).unwrap().wait().unwrap();
    assert_eq!(log.stats(a).unwrap().lost_records, 0, "the log has nine");
    log.report_lost(a, 20).unwrap().wait().unwrap();
    log.report_lost(gone, 7).unwrap().wait().unwrap();
    log.report_lost(gone, 7).unwrap().wait().unwrap();
    let appended = log.append(block(gone, "more")).unwrap().wait().unwrap();
    assert_eq!((appended.first_seq, appended.next_seq), (7, 10));
    log.shutdown();
    for how in 0..2 {
        let (log, report) = Log::open(Arc::new(env.clone()), Path::new(DIR), config()).unwrap();
        assert!(report.lost.is_empty(), "known already: {report:?}");
        let (a, gone) = (log.find("a").unwrap(), log.find("gone").unwrap());
        for (stream, records, lost, next) in [(a, 9, 11, 20), (gone, 3, 7, 10)] {
            let stats = log.stats(stream).unwrap();
            assert_eq!(
                (stats.records, stats.lost_records, stats.next_seq),
                (records, lost, next)
            );
        }
        assert_eq!(read(&log).1, 18);
        if how == 0 {
            env.kill();
        }
    }
}

/// The end of a sealed segment shows how long it was, even when all of its blocks and its index are
/// gone.
#[test]
fn a_sealed_segment_without_blocks_and_index_is_damaged_not_short() {
    let env = sealed();
    let (path, mut bytes) = env.files().into_iter().find(is_segment).unwrap();
    let foot = bytes.len() - 64;
    bytes[400..foot].fill(0xff);
    env.put(&path, bytes);
    let (_, report) = Log::open(Arc::new(env), Path::new(DIR), config()).unwrap();
    let acknowledged = report.damage.iter().any(|d| d.acknowledged);
    assert!(acknowledged, "{report:?}");
}

fn is_segment((path, _): &(PathBuf, Vec<u8>)) -> bool {
    let name = path.file_name().and_then(|n| n.to_str());
    name.is_some_and(|n| n.starts_with("segment-"))
}
