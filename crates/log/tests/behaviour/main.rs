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
use std::task::{Context, Poll, Waker};
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
