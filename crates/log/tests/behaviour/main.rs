//! The guarantees of the log, one per test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod opening;
mod scarce;
mod space;
mod streams;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use forebay_log::inspect::LogInspection;
use forebay_log::{
    CommitError, DiskCall, Env, Log, LogAppendError, LogConfig, LogOpenError, MemEnv, NewBlock,
    ReadItem, StdEnv, StreamId, SyncPolicy,
};

const DIR: &str = "/data";
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn manual() -> LogConfig {
    LogConfig {
        segment_size: 8192,
        preallocate_step: 2048,
        min_free_bytes: 0,
        manual: true,
        ..LogConfig::default()
    }
}

fn open(env: &MemEnv, config: LogConfig) -> Log {
    Log::open(Arc::new(env.clone()), Path::new(DIR), config)
        .unwrap()
        .0
}

fn block(stream: StreamId, payload: &[u8]) -> NewBlock {
    NewBlock {
        stream,
        records: 1,
        codec: 0,
        raw_len: 5,
        first_at_ms: 100,
        last_at_ms: 200,
        payload: Bytes::copy_from_slice(payload),
    }
}

fn payloads(log: &Log, stream: StreamId) -> Vec<Bytes> {
    let items = log.reader(stream, 0).unwrap().map(Result::unwrap);
    let payload = |item| match item {
        ReadItem::Block(block) => block.payload,
        ReadItem::Gap(gap) => panic!("{gap:?}"),
    };
    items.map(payload).collect()
}

fn segment_files(env: &MemEnv) -> usize {
    let is_segment = |p: &PathBuf| p.to_str().unwrap().contains("segment-");
    env.files().iter().filter(|(p, _)| is_segment(p)).count()
}

/// Holds a handle of the log until it is woken.
struct LastHandle {
    _log: Log,
}

impl Wake for LastHandle {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn the_last_handle_may_be_dropped_by_a_waker_that_the_writer_calls() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig {
        sync_interval: Duration::from_millis(50),
        min_free_bytes: 0,
        ..LogConfig::default()
    };
    let opened = || Log::open(Arc::new(StdEnv::new()), dir.path(), config.clone());
    let (log, _) = opened().unwrap();
    let stream = log.stream("s").unwrap();
    log.append(block(stream, b"first")).unwrap().wait().unwrap();
    // Waits for the interval.
    let mut ticket = Box::pin(log.append(block(stream, b"second")).unwrap());
    let holder = Waker::from(Arc::new(LastHandle { _log: log }));
    let polled = ticket.as_mut().poll(&mut Context::from_waker(&holder));
    assert!(polled.is_pending());
    drop(holder);
    // The writer shuts the log down, which ends its lock.
    let (log, report) = loop {
        match opened() {
            Ok(opened) => break opened,
            Err(LogOpenError::Locked { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(payloads(&log, stream), ["first", "second"]);
    assert_eq!(report.scanned, 0, "the open segment was sealed");
}
