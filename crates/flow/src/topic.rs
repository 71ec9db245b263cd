//! Sinks that are topics: their messages wait in streams of the node's log, in one block and under
//! one sync with whatever else comes in, and are delivered from there by the message buffer's
//! outlets.
//!
//! Invariants:
//! - A sink has at most one stream that takes messages; those before it are closed, and delivered
//!   first. A stream is closed when its sink is deleted, and removed when it is closed and all of
//!   it is delivered or set aside: so nothing that was accepted goes with it.
//! - A stream's name is never used again: a provider that keeps the cursor knows it by that.
//! - A dead letter that is replayed is a letter or a message, never both and never neither
//!   (`settled.rs`): so it is counted once.
//! - *accepted = delivered + dead + discarded + lost + waiting*, per sink, at any time: all of it is
//!   counted by the log.

mod acked_ranges;
mod config;
mod dead_letters;
mod reconciler;
mod statistics;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forebay_buffer::Provider;
use forebay_log::{Env, Log, StreamStats};
use forebay_model::{Clock, SinkKey, TopicSink};
use tokio::sync::Notify;

pub use config::TopicConfig;
pub use dead_letters::{UndeliveredError, UndeliveredSelection};
use reconciler::SharedTopic;
use stream::TopicStream;

use crate::pipeline::{BlockAppendError, BlockStream};
use crate::streams::{TOPIC_DEAD_LETTER_PREFIX, TOPIC_PREFIX, TOPIC_RESOLVED_PREFIX};

/// Gives the provider of a topic, or says why there is none.
pub type ConnectProvider =
    Arc<dyn Fn(&TopicSink) -> Result<Arc<dyn Provider>, String> + Send + Sync>;

/// What topics need.
#[derive(Clone)]
pub struct TopicDeps {
    /// The log of this node's volume.
    pub log: Log,
    /// Its time.
    pub env: Arc<dyn Env>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Bounds of delivery.
    pub config: TopicConfig,
    /// The providers that this server has.
    pub connect: ConnectProvider,
}

/// All topics of a node.
pub struct TopicRegistry {
    deps: TopicDeps,
    shared_topics: Mutex<BTreeMap<SinkKey, Arc<SharedTopic>>>,
    /// A message came for which there is no outlet.
    wake: Arc<Notify>,
}

impl fmt::Debug for TopicRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics").finish_non_exhaustive()
    }
}

/// A sink's stream.
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

/// By sink, from the oldest stream to the newest.
type SinkStreams = BTreeMap<SinkKey, Vec<SinkStream>>;

impl TopicRegistry {
    /// On a log.
    #[must_use]
    pub fn new(deps: TopicDeps) -> Arc<Self> {
        Arc::new(Self {
            deps,
            shared_topics: Mutex::default(),
            wake: Arc::default(),
        })
    }

    /// The way into a sink's stream.
    ///
    /// # Errors
    /// When the log takes nothing.
    pub fn writer(
        self: &Arc<Self>,
        sink: &SinkKey,
    ) -> Result<Arc<dyn BlockStream>, BlockAppendError> {
        let health = self.deps.log.health();
        health.map_err(|latched| {
            BlockAppendError::from(forebay_log::LogAppendError::Latched(latched))
        })?;
        Ok(Arc::new(TopicStream::new(Arc::clone(self), sink.clone())))
    }

    /// The stream that a sink's messages go into: the one that is open, or a new one.
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
            if let Some((sink, number)) = parse(&stats.name, prefix) {
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

    fn shared_topics(&self) -> MutexGuard<'_, BTreeMap<SinkKey, Arc<SharedTopic>>> {
        // A map is whole between any two of its calls.
        self.shared_topics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn shared_topic(&self, sink: &SinkKey) -> Arc<SharedTopic> {
        let mut shared_topics = self.shared_topics();
        let shared_topic = shared_topics.entry(sink.clone());
        Arc::clone(
            shared_topic.or_insert_with(|| Arc::new(SharedTopic::new(Arc::clone(&self.wake)))),
        )
    }
}

fn parse(name: &str, prefix: &str) -> Option<(SinkKey, u64)> {
    let (sink, number) = name.strip_prefix(prefix)?.rsplit_once('/')?;
    Some((sink.parse().ok()?, number.parse().ok()?))
}

/// The sink whose messages or dead letters a stream holds, if it is such a stream.
pub(crate) fn topic_sink(stream: &str) -> Option<SinkKey> {
    let mut prefixes = [
        TOPIC_PREFIX,
        TOPIC_DEAD_LETTER_PREFIX,
        TOPIC_RESOLVED_PREFIX,
    ]
    .iter();
    let found = prefixes.find_map(|prefix| parse(stream, prefix));
    found.map(|(sink, _)| sink)
}

/// The stream of dead letters that belongs to a stream of messages.
fn undelivered(messages: &str) -> String {
    let rest = messages.strip_prefix(TOPIC_PREFIX).unwrap_or(messages);
    format!("{TOPIC_DEAD_LETTER_PREFIX}{rest}")
}
