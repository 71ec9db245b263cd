//! Golden files of format version 1: they are read, and what is written equals them byte by byte.
//!
//! `FOREBAY_LOG_GOLDEN=1` rewrites them: only for a new format version, beside the old ones.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use forebay_log::{Log, LogConfig, MemEnv, NewBlock, ReadItem};

const DIR: &str = "/data";

/// What is written today.
const TODAY: &str = "v1";

fn golden(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(version)
}

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

/// Some sealed segments and an open one, with data, a trim, a close, a delete and a loss.
fn write() -> MemEnv {
    let env = MemEnv::new(1);
    let (log, _) = Log::open(Arc::new(env.clone()), Path::new(DIR), config()).unwrap();
    let streams = ["orders/eu", "orders/us", "gone"].map(|name| log.stream(name).unwrap());
    for i in 0..24_u8 {
        let block = NewBlock {
            stream: streams[usize::from(i) % 3],
            records: u32::from(i) + 1,
            codec: i % 3,
            raw_len: 1000 + u32::from(i),
            first_at_ms: 1_700_000_000_000 + i64::from(i),
            last_at_ms: 1_700_000_000_500 + i64::from(i),
            payload: Bytes::from(vec![i; 100 + usize::from(i) * 10]),
        };
        log.append(block).unwrap().wait().unwrap();
    }
    log.trim(streams[0], 10).unwrap().wait().unwrap();
    log.close_stream(streams[1]).unwrap().wait().unwrap();
    log.delete_stream(streams[2]).unwrap().wait().unwrap();
    env.kill();
    drop(log);
    env
}

#[test]
fn version_1_is_read() {
    if std::env::var_os("FOREBAY_LOG_GOLDEN").is_some() {
        std::fs::create_dir_all(golden(TODAY)).unwrap();
        for (path, bytes) in write().files() {
            std::fs::write(golden(TODAY).join(path.file_name().unwrap()), bytes).unwrap();
        }
    }
    is_read(TODAY, 4);
}

fn is_read(version: &str, segments: usize) {
    let env = MemEnv::new(2);
    for file in std::fs::read_dir(golden(version)).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        env.put(&Path::new(DIR).join(path.file_name().unwrap()), bytes);
    }
    let (log, report) = Log::open(Arc::new(env), Path::new(DIR), config()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.segments, report.scanned), (segments, 1));
    let eu = log.stats(log.find("orders/eu").unwrap()).unwrap();
    let us = log.stats(log.find("orders/us").unwrap()).unwrap();
    assert!(log.find("gone").is_none());
    assert_eq!(
        (eu.blocks, eu.trimmed_to, eu.next_seq, eu.closed),
        (6, 10, 92, false)
    );
    assert_eq!(
        (us.blocks, us.trimmed_to, us.next_seq, us.closed),
        (8, 0, 100, true)
    );
    assert_eq!(
        (us.first_at_ms, us.last_at_ms),
        (Some(1_700_000_000_001), Some(1_700_000_000_522))
    );
    let mut expected = (1..24_u8).step_by(3);
    for item in log.reader(us.id, 0).unwrap() {
        let ReadItem::Block(block) = item.unwrap() else {
            panic!("a gap")
        };
        let i = expected.next().unwrap();
        assert_eq!(block.payload, vec![i; 100 + usize::from(i) * 10]);
        assert_eq!(
            (block.codec, block.records, block.raw_len),
            (i % 3, u32::from(i) + 1, 1000 + u32::from(i))
        );
    }
    assert_eq!(expected.next(), None);
}

/// The current output is identical, byte by byte, to the golden files.
#[test]
fn version_1_is_written() {
    for (path, bytes) in write().files() {
        let name = path.file_name().unwrap();
        let then = std::fs::read(golden(TODAY).join(name)).unwrap();
        assert!(
            then == bytes,
            "{} differs: that is a new format version",
            name.display()
        );
    }
}
