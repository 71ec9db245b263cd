//! Sinks that are topics: their messages wait in streams of the node's log, where they share group
//! commits with all other input, and the message buffer's delivery workers deliver them from there.
//!
//! Invariants:
//! - A sink has at most one stream that accepts messages; those before it are closed, and delivered
//!   first. A stream is closed when its sink is deleted, and removed when it is closed and all of
//!   it is delivered or dead: so no accepted message is removed with it.
//! - A stream's name is never reused: it identifies the stream to a provider that stores the
//!   cursor.
//! - A dead letter that is replayed is a dead letter or a message, never both and never neither
//!   (`acked_ranges.rs`): so it is counted once.
//! - *accepted = delivered + dead + discarded + lost + waiting*, per sink, at any time: all of it
//!   is counted by the log.

mod acked_ranges;
mod config;
mod dead_letters;
mod reconciler;
mod replay_state;
mod shared_topic;
mod statistics;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use forebay_buffer::Provider;
use forebay_log::{Env, Log, StreamStats};
use forebay_model::{Clock, SinkKey, TopicSink};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

pub use config::TopicConfig;
use shared_topic::SharedTopic;
use stream::TopicStream;

use forebay_ingest::pipeline::{BlockAppendError, BlockStream, TopicStreams};
use forebay_ingest::streams::{TOPIC_PREFIX, parse_topic_stream};

/// Connects to the provider of a topic, or returns why there is none.
pub type ConnectProvider =
    Arc<dyn Fn(&TopicSink) -> Result<Arc<dyn Provider>, String> + Send + Sync>;

/// Dependencies of a [`TopicRegistry`].
#[derive(Clone)]
pub struct TopicDeps {
    pub log: Log,
    /// Clock of the log.
    pub env: Arc<dyn Env>,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    pub config: TopicConfig,
    /// Connects to the providers of this server.
    pub connect: ConnectProvider,
}

/// All topics of a node.
pub struct TopicRegistry {
    deps: TopicDeps,
    shared_topics: Mutex<BTreeMap<SinkKey, Arc<SharedTopic>>>,
    /// Notified when a message arrives without a delivery worker.
    wake: Arc<Notify>,
}

impl fmt::Debug for TopicRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics").finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
struct SinkStream {
    number: u64,
    stats: StreamStats,
}

impl SinkStream {
    fn is_drained(&self) -> bool {
        self.stats.trimmed_to >= self.stats.next_seq
    }
}

/// Streams by sink, from the oldest to the newest.
type SinkStreams = BTreeMap<SinkKey, Vec<SinkStream>>;

impl TopicRegistry {
    pub fn new(deps: TopicDeps) -> Arc<Self> {
        Arc::new(Self {
            deps,
            shared_topics: Mutex::default(),
            wake: Arc::default(),
        })
    }

    /// Returns the open stream of a sink's messages, or a new one.
    fn open_stream(&self, sink: &SinkKey) -> String {
        let streams = self.streams(TOPIC_PREFIX).remove(sink).unwrap_or_default();
        if let Some(open) = streams.iter().rev().find(|s| !s.stats.closed) {
            return open.stats.name.clone();
        }
        let now = u64::try_from(self.deps.clock.now().as_millis()).unwrap_or_default();
        let last = streams.last().map_or(0, |s| s.number + 1);
        format!("{TOPIC_PREFIX}{sink}/{}", now.max(last))
    }

    fn streams(&self, prefix: &str) -> SinkStreams {
        let mut streams = SinkStreams::new();
        for stats in self.deps.log.streams() {
            if let Some((sink, number)) = parse_topic_stream(&stats.name, prefix) {
                streams
                    .entry(sink)
                    .or_default()
                    .push(SinkStream { number, stats });
            }
        }
        for of_sink in streams.values_mut() {
            of_sink.sort_by_key(|s| s.number);
        }
        streams
    }

    /// Sends the waiting messages of a sink now, without waiting for the end of a backoff.
    pub fn retry(&self, sink: &SinkKey) {
        self.shared_topic(sink).retry_now();
    }

    fn shared_topics(&self) -> MutexGuard<'_, BTreeMap<SinkKey, Arc<SharedTopic>>> {
        // A map is consistent between any two of its calls.
        self.shared_topics.lock()
    }

    fn shared_topic(&self, sink: &SinkKey) -> Arc<SharedTopic> {
        let mut shared_topics = self.shared_topics();
        let shared_topic = shared_topics.entry(sink.clone());
        Arc::clone(
            shared_topic.or_insert_with(|| Arc::new(SharedTopic::new(Arc::clone(&self.wake)))),
        )
    }
}

impl TopicStreams for TopicRegistry {
    fn open(self: Arc<Self>, sink: &SinkKey) -> Result<Arc<dyn BlockStream>, BlockAppendError> {
        let health = self.deps.log.health();
        health.map_err(|latched| {
            BlockAppendError::from(forebay_log::LogAppendError::Latched(latched))
        })?;
        Ok(Arc::new(TopicStream::new(self, sink.clone())))
    }
}
