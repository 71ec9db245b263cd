//! Between a pipeline and the disk: the real log, whose blocks wait at a gate; and disks and logs
//! that report a sync that did not happen.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_ingest::pipeline::{
    AppendOutcome, Appender, BlockAppendError, BlockStream, BlockTicket, BlockToAppend, LocalLog,
};
use forebay_log::{Env, EnvFile, FileAccess, LockGuard, MemEnv};
use forebay_meta::catalog::stored::dead_letters::DeadLetterCounts;
use forebay_model::{SinkKey, SliceKey, Statistics, VolumeId};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::gate::{Gates, Step};

/// Log of the node, as pipelines use it.
#[derive(Debug)]
pub(crate) struct SimAppender {
    pub(crate) log: LocalLog,
    pub(crate) gates: Gates,
    /// Deliberate bug: reports a block as stored as soon as it is appended.
    pub(crate) acknowledges_early: bool,
}

impl Appender for SimAppender {
    fn open(&self, slice: &SliceKey) -> Result<Arc<dyn BlockStream>, BlockAppendError> {
        Ok(Arc::new(SimStream {
            stream: self.log.open(slice)?,
            slice: slice.to_string(),
            gates: self.gates.clone(),
            acknowledges_early: self.acknowledges_early,
        }))
    }

    fn dead_letters(&self, sink: &SinkKey) -> Arc<dyn BlockStream> {
        Arc::new(SimStream {
            stream: self.log.dead_letters(sink),
            slice: sink.to_string(),
            gates: self.gates.clone(),
            acknowledges_early: self.acknowledges_early,
        })
    }

    fn dead_letter_bytes(&self, sink: &SinkKey) -> u64 {
        self.log.dead_letter_bytes(sink)
    }

    fn dead_letter_counts(&self) -> Vec<(SinkKey, VolumeId, DeadLetterCounts)> {
        self.log.dead_letter_counts()
    }

    fn statistics(&self, slice: &SliceKey) -> Option<Statistics> {
        self.log.statistics(slice)
    }

    fn close(&self, slice: &SliceKey) -> BoxFuture<'static, Result<Statistics, BlockAppendError>> {
        let (gates, name) = (self.gates.clone(), slice.to_string());
        let close = self.log.close(slice);
        async move {
            gates.pass(Step::Close, &name).await;
            close.await
        }
        .boxed()
    }
}

#[derive(Debug)]
struct SimStream {
    stream: Arc<dyn BlockStream>,
    slice: String,
    gates: Gates,
    acknowledges_early: bool,
}

impl BlockStream for SimStream {
    fn append(&self, block: BlockToAppend) -> Result<BlockTicket, BlockAppendError> {
        let ticket = self.stream.append(block)?;
        if self.acknowledges_early {
            return Ok(async { AppendOutcome::Stored }.boxed());
        }
        let (gates, slice) = (self.gates.clone(), self.slice.clone());
        Ok(async move {
            // The log has no thread: waiting for a ticket writes and syncs.
            gates.pass(Step::Sync, &slice).await;
            ticket.await
        }
        .boxed())
    }
}

/// A disk whose syncs do nothing and report success.
pub(crate) struct NeverSyncs(pub(crate) MemEnv);

struct NeverSynced(Arc<dyn EnvFile>);

impl Env for NeverSyncs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn open(&self, path: &Path, access: FileAccess) -> io::Result<Arc<dyn EnvFile>> {
        let file = self.0.open(path, access)?;
        Ok(Arc::new(NeverSynced(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        self.0.lock(path)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.0.free_bytes(dir)
    }

    fn now_ms(&self) -> i64 {
        self.0.now_ms()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn random(&self) -> u64 {
        self.0.random()
    }
}

impl EnvFile for NeverSynced {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.0.write_at(bufs, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}
