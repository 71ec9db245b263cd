//! What is known of a topic's messages.

use crate::time::Timestamp;

/// Counts of a sink: *accepted = delivered + dead + discarded + lost + waiting*. They begin anew
/// when a deleted sink comes back after everything of it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStatistics {
    /// Messages that the log has taken.
    pub accepted: u64,
    /// Messages that the provider has confirmed.
    pub delivered: u64,
    /// Messages that it refused for good, and that are kept.
    pub dead: u64,
    /// Messages that it refused for good, and that were discarded since.
    pub discarded: u64,
    /// Messages that a damaged disk has taken.
    pub lost: u64,
    /// Messages that are not delivered yet.
    pub waiting: u64,
    /// Their bytes in the log.
    pub waiting_bytes: u64,
    /// When the oldest of them was received.
    pub oldest_at: Option<Timestamp>,
    /// Those of them that are with the provider.
    pub in_flight: u64,
    /// Failures after which messages were sent again, since the process was started.
    pub retries: u64,
    /// Whether messages are taken.
    pub state: TopicState,
}

/// Whether a topic's messages are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicState {
    /// Nothing was sent yet.
    Idle,
    /// The last that was sent was taken.
    Up,
    /// They are not taken.
    Down {
        /// Why.
        error: String,
        /// Since when.
        since: Timestamp,
    },
    /// Delivery is stopped.
    Paused,
}

impl TopicStatistics {
    /// Of a sink that never had a message.
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
