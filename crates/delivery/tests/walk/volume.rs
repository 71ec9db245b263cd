//! A real log, in a directory of its own or on a disk in memory.

use std::path::Path;
use std::sync::Arc;

use forebay_ingest::pipeline::{Appender, LocalLog};
use forebay_log::{Env, Log, LogConfig, MemEnv, ReadItem, StdEnv};
use forebay_model::{BlockCompression, SliceKey, VolumeId};
use forebay_record::block::decode;
use tempfile::TempDir;

#[derive(Clone, Debug)]
pub(crate) struct Volume {
    pub(crate) log: Log,
    appender: Arc<LocalLog>,
    dir: Arc<TempDir>,
}

pub(crate) fn volume_id() -> VolumeId {
    VolumeId("vol".to_owned())
}

fn small() -> LogConfig {
    LogConfig {
        segment_size: 8 << 20,
        preallocate_step: 1 << 20,
        min_free_bytes: 0,
        spare_segments: 0,
        ..LogConfig::default()
    }
}

impl Volume {
    pub(crate) fn new() -> Self {
        Self::with(small())
    }

    /// A log that works on the waiting thread, so that time can be paused.
    pub(crate) fn manual() -> Self {
        Self::with(LogConfig {
            manual: true,
            ..small()
        })
    }

    fn with(config: LogConfig) -> Self {
        let dir = Arc::new(TempDir::new().unwrap());
        Self::open(dir, config)
    }

    /// On a disk with injected failures.
    pub(crate) fn on(disk: &MemEnv) -> Self {
        let dir = Arc::new(TempDir::new().unwrap());
        Self::open_on(Arc::new(disk.clone()), dir, small())
    }

    fn open(dir: Arc<TempDir>, config: LogConfig) -> Self {
        Self::open_on(Arc::new(StdEnv::new()), dir, config)
    }

    fn open_on(env: Arc<dyn Env>, dir: Arc<TempDir>, config: LogConfig) -> Self {
        let path: &Path = dir.path();
        let (log, report) = Log::open(env, path, config).unwrap();
        assert!(report.is_clean());
        Self {
            appender: Arc::new(LocalLog::new(log.clone(), volume_id())),
            log,
            dir,
        }
    }

    /// The same directory, reopened by another process: the log must not be in use.
    pub(crate) fn reopen(self) -> Self {
        let Self { log, appender, dir } = self;
        drop((log, appender));
        Self::open(dir, small())
    }

    /// The same on a disk in memory, after its process or its machine has ended.
    pub(crate) fn reopen_on(self, disk: &MemEnv) -> Self {
        let Self { log, appender, dir } = self;
        drop((log, appender));
        Self::open_on(Arc::new(disk.clone()), dir, small())
    }

    pub(crate) fn shared(&self) -> Arc<dyn Appender> {
        Arc::<LocalLog>::clone(&self.appender)
    }

    /// Rows of a slice, as CSV lines, from what is committed.
    pub(crate) async fn rows(&self, slice: &SliceKey) -> Vec<String> {
        rows(&self.log, slice)
    }
}

pub(crate) fn rows(log: &Log, slice: &SliceKey) -> Vec<String> {
    let Some(stream) = log.find(&slice.to_string()) else {
        return Vec::new();
    };
    // A stream is declared together with its first block.
    let Ok(reader) = log.reader(stream, 0) else {
        return Vec::new();
    };
    let mut text = String::new();
    let mut records = 0;
    for item in reader {
        let ReadItem::Block(block) = item.unwrap() else {
            panic!("lost records");
        };
        let compression = match block.codec {
            0 => BlockCompression::None,
            codec => {
                assert_eq!(codec, 1);
                BlockCompression::Gzip { level: 1 }
            }
        };
        let raw = decode(&block.payload, compression, block.raw_len as usize);
        text.push_str(&String::from_utf8(raw.unwrap()).unwrap());
        records += block.records as usize;
    }
    let rows: Vec<_> = text.lines().map(str::to_owned).collect();
    assert_eq!(rows.len(), records);
    rows
}
