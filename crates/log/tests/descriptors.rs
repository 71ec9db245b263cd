//! A backlog of any number of segments needs few open files, even after a restart.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking with a reason"
)]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use forebay_log::{Log, LogConfig, NewBlock, ReadItem, StdEnv, StreamId};

const OPEN: usize = 4;
/// Lock, directory, the open segment, spare and recycled ones.
const OTHERS: usize = 7;

fn open(dir: &Path) -> Log {
    let config = LogConfig {
        segment_size: 4096,
        preallocate_step: 4096,
        spare_segments: 1,
        recycled_segments: 3,
        min_free_bytes: 0,
        manual: true,
        ..LogConfig::default()
    };
    let env = Arc::new(StdEnv::with_open_segments(OPEN));
    Log::open(env, dir, config).unwrap().0
}

/// Files of the directory that this process has open.
fn open_files(dir: &Path) -> usize {
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    let paths = all.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    paths.filter(|path| path.starts_with(dir)).count()
}

fn append(log: &Log, stream: StreamId, n: u64) {
    let block = NewBlock {
        stream,
        records: 1,
        codec: 0,
        raw_len: 1,
        first_at_ms: 1,
        last_at_ms: 2,
        payload: Bytes::from(n.to_le_bytes().repeat(250)),
    };
    log.append(block).unwrap().wait().unwrap();
}

fn read(log: &Log, stream: StreamId, from: u64) -> Vec<u64> {
    let reader = log.reader(stream, from).unwrap();
    let number = |item| match item {
        ReadItem::Block(block) => {
            assert!(block.payload.chunks(8).all(|c| c == &block.payload[..8]));
            u64::from_le_bytes(block.payload[..8].try_into().unwrap())
        }
        ReadItem::Gap(gap) => panic!("{gap:?}"),
    };
    reader.map(|item| number(item.unwrap())).collect()
}

#[test]
fn a_backlog_of_many_segments_has_few_open_files() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let log = open(&dir);
    let stream = log.stream("s").unwrap();
    for n in 0..120 {
        append(&log, stream, n);
        assert!(open_files(&dir) <= OPEN + OTHERS, "{}", open_files(&dir));
    }
    assert!(log.volume_stats().segments > 50);
    assert_eq!(read(&log, stream, 0), (0..120).collect::<Vec<_>>());
    log.shutdown();
    drop(log);
    let log = open(&dir);
    assert!(open_files(&dir) <= OPEN + OTHERS, "{}", open_files(&dir));
    assert_eq!(read(&log, stream, 0), (0..120).collect::<Vec<_>>());
    // A reader has a removed segment open, and segments are recycled.
    let mut slow = log.reader(stream, 0).unwrap();
    assert!(matches!(slow.next(), Some(Ok(ReadItem::Block(b))) if b.first_seq == 0));
    log.trim(stream, 110).unwrap().wait().unwrap();
    for n in 120..200 {
        append(&log, stream, n);
        let committed = log.committed(stream).unwrap();
        log.trim(stream, committed - 10).unwrap().wait().unwrap();
    }
    assert!(log.volume_stats().reclaimed_segments > 50);
    assert!(
        open_files(&dir) <= OPEN + OTHERS + 1,
        "{}",
        open_files(&dir)
    );
    assert_eq!(read(&log, stream, 190), (190..200).collect::<Vec<_>>());
    assert_eq!(log.health(), Ok(()));
}
