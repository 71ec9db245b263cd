//! Delivery alone: the way out of a stream of a log that someone else writes.
//!
//! Invariants are those of `deliver.rs`. The writer's blocks are of [`CODEC_MESSAGES_STANDALONE`], and
//! it calls [`DeliveryWorker::wake`] when one is committed; the stream's trim mark is the cursor, and moves
//! only here.
//!
//! [`CODEC_MESSAGES_STANDALONE`]: crate::CODEC_MESSAGES_APART

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use forebay_log::{AppendError, Env, Log, ReadError, StreamId};

use crate::config::BufferConfig;
use crate::dead::{DeadLetter, Letters};
use crate::deliver::Deliverer;
use crate::error::OpenError;
use crate::lane::LaneCore;
use crate::provider::Provider;
use crate::shared::Shared;
use crate::stats::LaneStats;
use crate::sync::lock;
use crate::worker;

/// Where messages are, and what their provider is told about it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The stream of the messages; it is made if it is not there.
    pub stream: String,
    /// The stream of dead letters; it is made if it is not there.
    pub dead: String,
    /// The lane's name, see [`Partition`](crate::Partition): with a provider that keeps the cursor it has to be
    /// a topic.
    pub lane: Arc<str>,
    /// The lane's `buffer`: no other stream has the same one, this has it for ever.
    pub id: u64,
}

/// Delivers a stream, in order, until it is closed. Has a thread.
pub struct Outlet {
    lane: Arc<LaneCore>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet")
            .field("lane", &self.lane.name)
            .finish_non_exhaustive()
    }
}

impl Outlet {
    /// Begins to deliver. Of `config`, what is about delivery counts: batches, what is in flight,
    /// the window of repeats, waits and attempts.
    ///
    /// # Errors
    /// A setting that is out of range, a log that takes nothing, or no thread.
    pub fn open(
        log: &Log,
        env: Arc<dyn Env>,
        place: &Place,
        config: BufferConfig,
        provider: Arc<dyn Provider>,
    ) -> Result<Self, OpenError> {
        config.validate()?;
        let stream = open_stream(log, &place.stream)?;
        let dead = open_stream(log, &place.dead)?;
        let shared = Shared::beside(env, log.clone(), config, provider, dead, place.id);
        let lane = Arc::new(LaneCore::new(Arc::new(shared), place.lane.clone(), stream));
        lane.measure();
        let thread = worker::deliver(Deliverer::new(lane.clone())).map_err(OpenError::Thread)?;
        Ok(Self {
            lane,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Something was committed to the stream.
    pub fn wake(&self) {
        self.lane.ring();
    }

    /// While it is held the cursor on disk stays where it is: what was handed to the log since then can
    /// be read there. What is delivered meanwhile comes again after a crash.
    pub fn hold_cursor(&self, held: bool) {
        self.lane.hold(held);
    }

    /// Figures; counters are since this was opened, and nothing was written through it.
    #[must_use]
    pub fn stats(&self) -> LaneStats {
        self.lane.measure();
        LaneStats::of(&self.lane)
    }

    /// Tells it to stop, and does not wait.
    pub fn stop(&self) {
        self.lane.stop();
    }

    /// Stops, and returns when what is with the provider has its answer or is given up, and the
    /// cursor is on disk. What was not delivered stays in the stream.
    pub fn close(&self) {
        self.lane.stop();
        if let Some(thread) = lock(&self.thread).take() {
            // What a panic has left was told when it happened.
            drop(thread.join());
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.close();
    }
}

fn open_stream(log: &Log, name: &str) -> Result<StreamId, OpenError> {
    log.stream(name)
        .map_err(|e: AppendError| OpenError::Config {
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
) -> impl Iterator<Item = Result<DeadLetter, ReadError>> + use<> {
    let reader = log.find(stream).and_then(|id| log.reader(id, from).ok());
    Letters::new(reader, from)
}
