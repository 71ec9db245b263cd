//! A snapshot of a log under load is an independent log with everything committed before, and
//! nothing else, whatever happens to the original.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use forebay_log::{Log, LogConfig, LogSnapshot, NewBlock, ReadItem, StdEnv, StreamId};

fn open(dir: &Path) -> Log {
    let config = LogConfig {
        segment_size: 64 << 10,
        min_free_bytes: 0,
        ..LogConfig::default()
    };
    let (log, report) = Log::open(Arc::new(StdEnv::new()), dir, config).unwrap();
    assert!(report.is_clean(), "{report:?}");
    log
}

fn append(log: &Log, stream: StreamId, n: u32) {
    let block = NewBlock {
        stream,
        records: 1,
        codec: 0,
        raw_len: 1000,
        first_at_ms: 1,
        last_at_ms: 1,
        payload: Bytes::from(vec![u8::try_from(n % 251).unwrap(); 1000]),
    };
    log.append_wait(block).unwrap().wait().unwrap();
}

fn records(log: &Log, name: &str) -> Option<Vec<u8>> {
    let stream = log.find(name)?;
    let items = log.reader(stream, 0).unwrap();
    Some(
        items
            .map(|item| match item.unwrap() {
                ReadItem::Block(block) => block.payload[0],
                ReadItem::Gap(gap) => panic!("{gap:?}"),
            })
            .collect(),
    )
}

fn write(snapshot: &LogSnapshot, dir: &Path) {
    let (name, bytes) = snapshot.volume_file();
    std::fs::write(dir.join(name), bytes).unwrap();
    for segment in snapshot.segments() {
        let mut bytes = vec![0; usize::try_from(segment.len).unwrap()];
        let mut at = 0;
        while at < bytes.len() {
            let n = segment.read_at(&mut bytes[at..], at as u64).unwrap();
            assert!(n > 0, "{segment:?} ends at {at}");
            at += n;
        }
        assert_eq!(segment.read_at(&mut [0; 8], segment.len).unwrap(), 0);
        std::fs::write(dir.join(&segment.name), bytes).unwrap();
    }
}

#[test]
fn a_snapshot_has_what_was_committed_whatever_happens_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let (kept, deleted) = (log.stream("kept").unwrap(), log.stream("deleted").unwrap());
    let mut taken = Vec::new();
    for n in 0..300 {
        append(&log, kept, n);
        append(&log, deleted, n);
        if n % 60 == 7 {
            taken.push((n + 1, log.snapshot()));
        }
    }
    // All segments of the snapshot are freed, and recycled or removed.
    log.delete_stream(deleted).unwrap().wait().unwrap();
    log.trim(kept, 300).unwrap().wait().unwrap();
    let other = log.stream("other").unwrap();
    for n in 0..600 {
        append(&log, other, n);
    }
    for (n, snapshot) in taken {
        let copy = tempfile::tempdir().unwrap();
        write(&snapshot, copy.path());
        let copy = open(copy.path());
        let expected: Vec<u8> = (0..n).map(|n| u8::try_from(n % 251).unwrap()).collect();
        assert_eq!(records(&copy, "kept"), Some(expected.clone()));
        assert_eq!(records(&copy, "deleted"), Some(expected));
        assert_eq!(records(&copy, "other"), None);
        assert_eq!(copy.volume_stats().volume, log.volume_stats().volume);
        // The copy is a working log.
        append(&copy, copy.find("kept").unwrap(), 5);
    }
}
