//! Taps: live samples of records for people who look at a running server.
//!
//! Invariants:
//! - Without an open tap, a record costs a relaxed load per step.
//! - A tap never slows records: a sample that its queue or its rate does not admit is lost and counted.
//! - Memory of a tap is bounded by `QUEUE_SAMPLES` and `QUEUE_BYTES`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use forebay_model::{SinkId, SinkKey, SourceKey};
use forebay_record::{RecordContext, RecordError, RequestInfo};
use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

/// Samples waiting for their reader.
const QUEUE_SAMPLES: usize = 1024;
/// Bytes of samples waiting for their reader.
const QUEUE_BYTES: usize = 8 << 20;
/// Bytes of a body or cell in a sample; the rest is cut.
pub const SAMPLE_BYTES_MAX: usize = 64 << 10;
/// How often the rate of a tap is refilled.
const REFILL: Duration = Duration::from_millis(50);

/// Step of a record at which it is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapStage {
    /// As received, before any mapping.
    Received,
    /// As a row or message in a block.
    Row,
    /// Rejected by a mapping.
    Rejected,
}

/// Records that a tap samples.
#[derive(Clone, Debug)]
pub struct TapSelection {
    pub source: SourceKey,
    /// `None`: all sinks of the source.
    pub sink: Option<SinkId>,
    pub stage: TapStage,
    /// Every how many records are sampled, from 1.
    pub every: u64,
    /// Maximum samples per second.
    pub per_second: u64,
}

/// A record or row.
#[derive(Clone, Debug)]
pub struct RecordSample {
    pub stage: TapStage,
    pub sink: Option<SinkKey>,
    pub request: Arc<RequestInfo>,
    /// Line of its batch, from 1.
    pub line: Option<usize>,
    /// At most [`SAMPLE_BYTES_MAX`] of the body.
    pub body: Bytes,
    /// Bytes of the whole body.
    pub body_bytes: usize,
    /// Whether the record is of a batch.
    pub is_of_batch: bool,
    /// Cells of the row, or parts of the message.
    pub cells: Vec<(String, Vec<u8>)>,
    /// Why a mapping rejected it.
    pub error: Option<RecordError>,
    /// Whether it became a dead letter.
    pub is_kept: bool,
}

impl RecordSample {
    fn new(stage: TapStage, sink: Option<&SinkKey>, record: &RecordContext) -> Self {
        let body = record.body();
        // A slice would hold the memory of a whole batch.
        let body_start = body.get(..SAMPLE_BYTES_MAX).unwrap_or(body);
        Self {
            stage,
            sink: sink.cloned(),
            request: Arc::clone(record.request()),
            line: record.line(),
            body: Bytes::copy_from_slice(body_start),
            body_bytes: body.len(),
            is_of_batch: record.is_of_batch(),
            cells: Vec::new(),
            error: None,
            is_kept: false,
        }
    }

    fn bytes(&self) -> usize {
        let cells: usize = self.cells.iter().map(|(n, c)| n.len() + c.len()).sum();
        let headers = self.request.headers.map();
        let headers: usize = headers
            .iter()
            .map(|(n, v)| n.as_str().len() + v.len())
            .sum();
        size_of::<Self>() + self.body.len() + cells + headers
    }
}

/// State that records and the reader of a tap share.
#[derive(Debug)]
struct TapQueue {
    selection: TapSelection,
    sender: mpsc::Sender<RecordSample>,
    bytes: AtomicUsize,
    /// Records that passed, for `every`.
    passed: AtomicU64,
    /// Samples that the rate still admits.
    left: AtomicU64,
    lost: AtomicU64,
    is_closed: AtomicBool,
}

impl TapQueue {
    fn selects(&self, stage: TapStage, source: &SourceKey, sink: Option<&SinkId>) -> bool {
        let selection = &self.selection;
        selection.stage == stage
            && selection.source == *source
            && (selection.sink.is_none() || sink.is_none() || selection.sink.as_ref() == sink)
    }

    /// Whether the next record is a sample.
    fn admit(&self) -> bool {
        let every = self.selection.every;
        if every > 1 && !self.passed.fetch_add(1, Relaxed).is_multiple_of(every) {
            return false;
        }
        let less = |left: u64| left.checked_sub(1);
        // Without the load, many records would contend for nothing.
        if self.left.load(Relaxed) == 0 || self.left.fetch_update(Relaxed, Relaxed, less).is_err() {
            self.lost.fetch_add(1, Relaxed);
            return false;
        }
        true
    }

    fn offer(&self, sample: RecordSample) {
        let bytes = sample.bytes();
        let before = self.bytes.fetch_add(bytes, Relaxed);
        if before + bytes > QUEUE_BYTES || self.sender.try_send(sample).is_err() {
            self.bytes.fetch_sub(bytes, Relaxed);
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

/// A sample, and the taps that it is for.
#[derive(Debug)]
pub(crate) struct TappedRecord {
    taps: Vec<Arc<TapQueue>>,
    sample: RecordSample,
}

impl TappedRecord {
    /// Hands the sample to its taps.
    pub(crate) fn offer(self) {
        let mut taps = self.taps.into_iter();
        let last = taps.next_back();
        for tap in taps {
            tap.offer(self.sample.clone());
        }
        if let Some(tap) = last {
            tap.offer(self.sample);
        }
    }

    /// As [`Self::offer`]; the record was or was not kept as a dead letter.
    pub(crate) fn with_kept(mut self, is_kept: bool) -> Self {
        self.sample.is_kept = is_kept && self.sample.error.is_some();
        self
    }
}

/// The open taps of a process.
#[derive(Debug, Default)]
pub struct RecordTaps {
    open: AtomicUsize,
    taps: RwLock<Vec<Arc<TapQueue>>>,
    is_closed: AtomicBool,
}

/// A tap that could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TapOpenError {
    #[error("{0} taps are open, which is the maximum")]
    TooMany(usize),
    #[error("the server is stopping")]
    Stopping,
}

impl RecordTaps {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Whether any tap is open.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Relaxed) > 0
    }

    /// Number of open taps.
    pub fn count(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Opens a tap, if fewer than `max` are open. Dropping the reader closes it.
    ///
    /// # Errors
    /// When `max` taps are open, or after [`Self::close`].
    pub fn open(
        self: &Arc<Self>,
        selection: TapSelection,
        max: usize,
    ) -> Result<TapReader, TapOpenError> {
        let mut taps = self.taps.write();
        if self.is_closed.load(Relaxed) {
            return Err(TapOpenError::Stopping);
        }
        if taps.len() >= max {
            return Err(TapOpenError::TooMany(max));
        }
        let (sender, receiver) = mpsc::channel(QUEUE_SAMPLES);
        let refill = selection.refill();
        let queue = Arc::new(TapQueue {
            left: AtomicU64::new(refill),
            selection,
            sender,
            bytes: AtomicUsize::new(0),
            passed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
        });
        taps.push(Arc::clone(&queue));
        self.open.store(taps.len(), Relaxed);
        let mut ticks = interval(REFILL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Ok(TapReader {
            taps: Arc::clone(self),
            refilled: Instant::now(),
            queue,
            receiver,
            ticks,
        })
    }

    /// Ends all taps; no more are opened.
    pub fn close(&self) {
        let mut taps = self.taps.write();
        self.is_closed.store(true, Relaxed);
        for tap in taps.drain(..) {
            tap.is_closed.store(true, Relaxed);
        }
        self.open.store(0, Relaxed);
    }

    fn remove(&self, queue: &Arc<TapQueue>) {
        let mut taps = self.taps.write();
        taps.retain(|tap| !Arc::ptr_eq(tap, queue));
        self.open.store(taps.len(), Relaxed);
    }

    /// Taps that sample the next record of this step.
    fn admitting(
        &self,
        stage: TapStage,
        source: &SourceKey,
        sink: Option<&SinkId>,
    ) -> Vec<Arc<TapQueue>> {
        let taps = self.taps.read();
        let selected = taps
            .iter()
            .filter(|t| t.selects(stage, source, sink) && t.admit());
        selected.cloned().collect()
    }

    /// Offers a received record.
    pub(crate) fn received(
        &self,
        source: &SourceKey,
        record: impl FnOnce() -> Option<RecordContext>,
    ) {
        let taps = self.admitting(TapStage::Received, source, None);
        if let Some(record) = taps.first().and_then(|_| record()) {
            let sample = RecordSample::new(TapStage::Received, None, &record);
            TappedRecord { taps, sample }.offer();
        }
    }

    /// Samples a row of a sink, if a tap wants it. `cells` returns its cells.
    pub(crate) fn row(
        &self,
        sink: &SinkKey,
        record: &RecordContext,
        cells: impl FnOnce() -> Vec<(String, Vec<u8>)>,
    ) -> Option<TappedRecord> {
        let taps = self.admitting(TapStage::Row, &sink.source, Some(&sink.sink));
        taps.first()?;
        let mut cells = cells();
        for (_, cell) in &mut cells {
            cell.truncate(SAMPLE_BYTES_MAX);
        }
        let sample = RecordSample {
            cells,
            ..RecordSample::new(TapStage::Row, Some(sink), record)
        };
        Some(TappedRecord { taps, sample })
    }

    /// Samples a record that the mapping of a sink rejected, if a tap wants it.
    pub(crate) fn rejected(
        &self,
        sink: &SinkKey,
        record: &RecordContext,
        error: &RecordError,
    ) -> Option<TappedRecord> {
        let taps = self.admitting(TapStage::Rejected, &sink.source, Some(&sink.sink));
        taps.first()?;
        let sample = RecordSample {
            error: Some(error.clone()),
            ..RecordSample::new(TapStage::Rejected, Some(sink), record)
        };
        Some(TappedRecord { taps, sample })
    }
}

impl TapSelection {
    /// Samples per refill, at least one.
    fn refill(&self) -> u64 {
        let millis = u64::try_from(REFILL.as_millis()).unwrap_or(1);
        (self.per_second * millis).div_ceil(1000).max(1)
    }
}

/// Event of a tap, for its reader.
#[derive(Debug)]
pub enum TapEvent {
    Sample(Box<RecordSample>),
    /// Nothing for a moment.
    Idle,
}

/// The reading end of a tap.
#[derive(Debug)]
pub struct TapReader {
    taps: Arc<RecordTaps>,
    queue: Arc<TapQueue>,
    receiver: mpsc::Receiver<RecordSample>,
    ticks: Interval,
    refilled: Instant,
}

impl TapReader {
    /// The next sample; `None` when the server stops.
    pub async fn next(&mut self) -> Option<TapEvent> {
        if self.queue.is_closed.load(Relaxed) {
            return None;
        }
        tokio::select! {
            biased;
            _ = self.ticks.tick() => {
                self.refill();
                match self.receiver.try_recv() {
                    Ok(sample) => Some(self.taken(sample)),
                    Err(_) => Some(TapEvent::Idle),
                }
            }
            sample = self.receiver.recv() => sample.map(|s| self.taken(s)),
        }
    }

    fn taken(&self, sample: RecordSample) -> TapEvent {
        self.queue.bytes.fetch_sub(sample.bytes(), Relaxed);
        TapEvent::Sample(Box::new(sample))
    }

    /// Admits more samples. A reader that was away gets those of one refill, not of all that time.
    fn refill(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.refilled) >= REFILL / 2 {
            self.refilled = now;
            self.queue
                .left
                .store(self.queue.selection.refill(), Relaxed);
        }
    }

    /// Samples that were lost: above the rate, or not read in time.
    pub fn lost(&self) -> u64 {
        self.queue.lost.load(Relaxed)
    }
}

impl Drop for TapReader {
    fn drop(&mut self) {
        self.taps.remove(&self.queue);
    }
}

#[cfg(test)]
mod tests;
