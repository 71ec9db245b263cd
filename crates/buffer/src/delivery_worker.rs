//! Delivery from a stream that another component writes.
//!
//! The invariants are those of `delivery_loop.rs`. The writer appends blocks of
//! [`CODEC_MESSAGES_STANDALONE`] and calls [`DeliveryWorker::wake`] after each commit. The stream's
//! trim position is the cursor; only the worker moves it.
//!
//! [`CODEC_MESSAGES_STANDALONE`]: crate::CODEC_MESSAGES_STANDALONE

use std::sync::Arc;
use std::thread::JoinHandle;

use forebay_log::{Env, Log, LogAppendError, StreamId};
use parking_lot::Mutex;

use crate::config::BufferConfig;
use crate::delivery_loop::DeliveryLoop;
use crate::error::BufferOpenError;
use crate::partition::PartitionState;
use crate::provider::Provider;
use crate::shared::BufferState;
use crate::stats::PartitionStats;
use crate::threads;

/// The streams of a worker and the identity that its provider sees.
#[derive(Clone, Debug)]
pub struct StreamBinding {
    /// Stream of the messages, created if missing.
    pub stream: String,
    /// Stream of the dead letters, created if missing.
    pub dead: String,
    /// Name of the [`Partition`](crate::Partition); must be a topic if the provider stores the
    /// cursor.
    pub partition: Arc<str>,
    /// Id of the partition's `buffer`, unique to this stream and constant.
    pub id: u64,
}

/// Delivers a stream in order, on its own thread, until it is closed.
pub struct DeliveryWorker {
    partition: Arc<PartitionState>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for DeliveryWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliveryWorker")
            .field("partition", &self.partition.name)
            .finish_non_exhaustive()
    }
}

impl DeliveryWorker {
    /// Starts to deliver. Uses the delivery settings of `config`: batches, limits in flight, repeat
    /// window, backoff and attempts.
    pub fn open(
        log: &Log,
        env: Arc<dyn Env>,
        binding: &StreamBinding,
        config: BufferConfig,
        provider: Arc<dyn Provider>,
    ) -> Result<Self, BufferOpenError> {
        config.validate()?;
        let stream = open_stream(log, &binding.stream)?;
        let dead = open_stream(log, &binding.dead)?;
        let shared = BufferState::for_stream(env, log.clone(), config, provider, dead, binding.id);
        let partition = Arc::new(PartitionState::new(
            Arc::new(shared),
            binding.partition.clone(),
            stream,
        ));
        partition.measure();
        let thread = threads::spawn_delivery(DeliveryLoop::new(partition.clone()))
            .map_err(BufferOpenError::Thread)?;
        Ok(Self {
            partition,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Wakes the worker after a commit to the stream.
    pub fn wake(&self) {
        self.partition.wake_worker();
    }

    /// Ends the backoff after a failure: messages that wait are sent now. The next failure begins with
    /// the shortest backoff. A delay that the provider has requested is enforced by the provider.
    pub fn retry_now(&self) {
        self.partition.retry_now();
    }

    /// Freezes the cursor on disk, or releases it. While it is frozen, messages appended since stay
    /// readable in the log; a crash repeats the messages delivered meanwhile.
    pub fn hold_cursor(&self, held: bool) {
        self.partition.hold(held);
    }

    /// Statistics since the worker was opened; `written` is 0.
    pub fn stats(&self) -> PartitionStats {
        self.partition.measure();
        PartitionStats::from_state(&self.partition)
    }

    /// Asks the worker to stop, without waiting.
    pub fn stop(&self) {
        self.partition.stop();
    }

    /// Stops the worker and returns when the messages in flight are acknowledged or aborted and the
    /// cursor is on disk. Undelivered messages stay in the stream.
    pub fn close(&self) {
        self.partition.stop();
        if let Some(thread) = self.thread.lock().take() {
            // A panic was reported when it happened.
            drop(thread.join());
        }
    }
}

impl Drop for DeliveryWorker {
    fn drop(&mut self) {
        self.close();
    }
}

fn open_stream(log: &Log, name: &str) -> Result<StreamId, BufferOpenError> {
    log.stream(name)
        .map_err(|e: LogAppendError| BufferOpenError::Config {
            name: "stream",
            value: name.to_owned(),
            allowed: format!("a stream that the log accepts ({e})"),
        })
}
