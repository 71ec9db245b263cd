//! Delivery alone: the way out of a stream of a log that someone else writes.
//!
//! Invariants are those of `deliver.rs`. The writer's blocks are of [`CODEC_MESSAGES_STANDALONE`], and
//! it calls [`DeliveryWorker::wake`] when one is committed; the stream's trim mark is the cursor, and moves
//! only here.
//!
//! [`CODEC_MESSAGES_STANDALONE`]: crate::CODEC_MESSAGES_STANDALONE

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use forebay_log::{Env, Log, LogAppendError, LogReadError, StreamId};

use crate::config::BufferConfig;
use crate::dead_letter::{DeadLetterMessage, DeadLetterReader};
use crate::delivery_loop::DeliveryLoop;
use crate::error::BufferOpenError;
use crate::partition::PartitionState;
use crate::provider::Provider;
use crate::shared::BufferState;
use crate::stats::PartitionStats;
use crate::sync::lock;
use crate::threads;

/// Where messages are, and what their provider is told about it.
#[derive(Clone, Debug)]
pub struct StreamBinding {
    /// The stream of the messages; it is made if it is not there.
    pub stream: String,
    /// The stream of dead letters; it is made if it is not there.
    pub dead: String,
    /// The lane's name, see [`Partition`](crate::Partition): with a provider that keeps the cursor it has to be
    /// a topic.
    pub partition: Arc<str>,
    /// The lane's `buffer`: no other stream has the same one, this has it for ever.
    pub id: u64,
}

/// Delivers a stream, in order, until it is closed. Has a thread.
pub struct DeliveryWorker {
    partition: Arc<PartitionState>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for DeliveryWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet")
            .field("lane", &self.partition.name)
            .finish_non_exhaustive()
    }
}

impl DeliveryWorker {
    /// Begins to deliver. Of `config`, what is about delivery counts: batches, what is in flight,
    /// the window of repeats, waits and attempts.
    ///
    /// # Errors
    /// A setting that is out of range, a log that takes nothing, or no thread.
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

    /// Something was committed to the stream.
    pub fn wake(&self) {
        self.partition.wake_worker();
    }

    /// While it is held the cursor on disk stays where it is: what was handed to the log since then can
    /// be read there. What is delivered meanwhile comes again after a crash.
    pub fn hold_cursor(&self, held: bool) {
        self.partition.hold(held);
    }

    /// Figures; counters are since this was opened, and nothing was written through it.
    #[must_use]
    pub fn stats(&self) -> PartitionStats {
        self.partition.measure();
        PartitionStats::from_state(&self.partition)
    }

    /// Tells it to stop, and does not wait.
    pub fn stop(&self) {
        self.partition.stop();
    }

    /// Stops, and returns when what is with the provider has its answer or is given up, and the
    /// cursor is on disk. What was not delivered stays in the stream.
    pub fn close(&self) {
        self.partition.stop();
        if let Some(thread) = lock(&self.thread).take() {
            // What a panic has left was told when it happened.
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
            allowed: format!("a stream that the log takes ({e})"),
        })
}

/// Dead letters of a stream of a log, from this number on, oldest first; none if there is no such
/// stream.
///
/// # Errors
/// An item is an error when the disk can't be read.
pub fn dead_letters(
    log: &Log,
    stream: &str,
    from: u64,
) -> impl Iterator<Item = Result<DeadLetterMessage, LogReadError>> + use<> {
    let reader = log.find(stream).and_then(|id| log.reader(id, from).ok());
    DeadLetterReader::new(reader, from)
}
