//! State shared by all pipelines of a process: compressors, the memory limiter, and their tasks.

use std::fmt;
use std::sync::Arc;

use forebay_model::BlockCompression;
use forebay_record::BlockEncoder;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use crate::memory_limiter::MemoryLimiter;
use crate::metrics::{BLOCK_RAW_BYTES, BLOCK_ROWS, BLOCK_STORED_BYTES, PIPELINES};
use crate::tap::RecordTaps;

/// Idle compressors kept; more blocks are hardly ever compressed at a time.
const ENCODERS_KEPT: usize = 16;

#[derive(Debug)]
pub struct PipelineShared {
    pub(super) memory_limiter: Arc<MemoryLimiter>,
    pub(super) encoders: EncoderPool,
    pub(super) meters: PipelineMeters,
    pub(super) tasks: TaskTracker,
    pub(super) taps: Arc<RecordTaps>,
}

impl PipelineShared {
    /// Rows in flight are counted by `memory_limiter`.
    pub fn new(memory_limiter: Arc<MemoryLimiter>) -> Arc<Self> {
        Self::with_taps(memory_limiter, RecordTaps::new())
    }

    /// As [`Self::new`]; rows are offered to these taps.
    pub fn with_taps(memory_limiter: Arc<MemoryLimiter>, taps: Arc<RecordTaps>) -> Arc<Self> {
        Arc::new(Self {
            memory_limiter,
            encoders: EncoderPool::default(),
            meters: PipelineMeters::new(),
            tasks: TaskTracker::new(),
            taps,
        })
    }

    /// Ends all taps.
    pub fn close_taps(&self) {
        self.taps.close();
    }

    /// Waits until every block in flight has ended, which takes as long as the disk does. No more
    /// rows may arrive.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        // A restarted source may spawn again.
        self.tasks.reopen();
    }
}

/// Idle compressors: creating one costs more than compressing a small block.
#[derive(Debug, Default)]
pub(super) struct EncoderPool(Mutex<Vec<(BlockCompression, BlockEncoder)>>);

impl EncoderPool {
    pub(super) fn take(&self, compression: BlockCompression) -> std::io::Result<BlockEncoder> {
        let mut kept = self.0.lock();
        match kept.iter().rposition(|(c, _)| *c == compression) {
            Some(i) => Ok(kept.swap_remove(i).1),
            None => {
                drop(kept);
                BlockEncoder::new(compression)
            }
        }
    }

    pub(super) fn put(&self, compression: BlockCompression, encoder: BlockEncoder) {
        let mut kept = self.0.lock();
        if kept.len() == ENCODERS_KEPT {
            // The oldest may be of a codec that is no longer used.
            kept.remove(0);
        }
        kept.push((compression, encoder));
    }
}

/// Metric handles, so that a block does not look its metrics up by name.
pub(super) struct PipelineMeters {
    pub(super) block_rows: metrics::Histogram,
    pub(super) block_raw_bytes: metrics::Histogram,
    pub(super) block_stored_bytes: metrics::Counter,
    pub(super) pipelines: metrics::Gauge,
}

impl PipelineMeters {
    fn new() -> Self {
        Self {
            block_rows: metrics::histogram!(BLOCK_ROWS),
            block_raw_bytes: metrics::histogram!(BLOCK_RAW_BYTES),
            block_stored_bytes: metrics::counter!(BLOCK_STORED_BYTES),
            pipelines: metrics::gauge!(PIPELINES),
        }
    }
}

impl fmt::Debug for PipelineMeters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meters")
    }
}
