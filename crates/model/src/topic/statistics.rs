//! Statistics of a topic.

use crate::time::Timestamp;

/// Message counts of a sink: *accepted = delivered + dead + discarded + lost + waiting*. They
/// restart from zero when a deleted sink is restored after everything of it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStatistics {
    /// Messages appended to the log.
    pub accepted: u64,
    /// Messages confirmed by the provider.
    pub delivered: u64,
    /// Dead letters.
    pub dead: u64,
    /// Dead letters that were discarded since.
    pub discarded: u64,
    /// Messages lost to disk corruption.
    pub lost: u64,
    /// Messages not delivered yet.
    pub waiting: u64,
    /// Bytes of the waiting messages in the log.
    pub waiting_bytes: u64,
    /// Receipt time of the oldest waiting message.
    pub oldest_at: Option<Timestamp>,
    /// Waiting messages that are in flight to the provider.
    pub in_flight: u64,
    /// Failures followed by a retry, since the process was started.
    pub retries: u64,
    /// Delivery state.
    pub state: TopicState,
}

/// Delivery state of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicState {
    /// Nothing was sent yet.
    Idle,
    /// The last message sent was accepted.
    Up,
    /// Messages are not accepted.
    Down {
        /// The error.
        error: String,
        /// Time of the first failure.
        since: Timestamp,
    },
    /// Delivery is paused.
    Paused,
}

impl TopicStatistics {
    /// Statistics of a sink without messages.
    pub const NOTHING: Self = Self {
        accepted: 0,
        delivered: 0,
        dead: 0,
        discarded: 0,
        lost: 0,
        waiting: 0,
        waiting_bytes: 0,
        oldest_at: None,
        in_flight: 0,
        retries: 0,
        state: TopicState::Idle,
    };
}
