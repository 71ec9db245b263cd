//! The traits that a message provider implements.

use std::sync::Arc;
use std::time::Duration;

use crate::message::MessageDelivery;

/// A destination of messages: Kafka, an HTTP endpoint, a file.
///
/// Each partition has its own connection; partitions are delivered in parallel.
pub trait Provider: Send + Sync + 'static {
    /// Name for logs and errors, such as `kafka localhost:9092`.
    fn name(&self) -> &str;

    /// Opens a connection for a partition. The buffer retries with backoff, and opens a new
    /// connection after [`ProviderConnection::abort`].
    ///
    /// # Errors
    /// [`SendError::rejected`] is treated as [`SendError::retry`].
    fn open(&self, partition: &Partition) -> Result<Box<dyn ProviderConnection>, SendError>;

    /// Wait after a failure that replaces the buffer's backoff.
    fn retry_wait(&self) -> Option<Duration> {
        None
    }

    /// Whether a connection stores the cursor together with the messages
    /// ([`ProviderConnection::cursor`]). Requires [`BufferMode::Always`](crate::BufferMode).
    fn keeps_cursor(&self) -> bool {
        false
    }
}

/// The partition that a connection delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Name of the topic or of the group.
    pub name: Arc<str>,
    /// The buffer's id, constant since its directory was created.
    pub buffer: u64,
}

/// A connection, used by one thread.
pub trait ProviderConnection: Send {
    /// Sends messages in order and reports the outcome of each through `ack`, now or later, from
    /// any thread. Up to [`ProviderConnection::pipeline`] batches may be in flight.
    ///
    /// After a message fails with [`SendError::retry`], no later message may be accepted: that
    /// would break the order.
    fn send(&mut self, batch: &MessageBatch, ack: Ack);

    /// Maximum batches in flight.
    fn pipeline(&self) -> usize {
        1
    }

    /// Aborts all batches in flight: each must be acknowledged soon. The connection is closed
    /// afterwards.
    fn abort(&mut self) {}

    /// The cursor that the provider stores, if any: it has accepted every message below.
    fn cursor(&mut self) -> Result<Option<u64>, SendError> {
        Ok(None)
    }

    /// The current connection error, if known.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Sends messages that wait for a larger batch.
    fn flush(&mut self, _limit: Duration) {}

    /// Closes the connection.
    fn close(self: Box<Self>) {}
}

/// Messages that are sent together. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MessageBatch {
    messages: Arc<Vec<MessageDelivery>>,
}

impl MessageBatch {
    pub(crate) fn new(messages: Vec<MessageDelivery>) -> Self {
        Self {
            messages: Arc::new(messages),
        }
    }

    /// The messages in order, at least one.
    pub fn messages(&self) -> &[MessageDelivery] {
        &self.messages
    }

    /// The sequence after the last message: the cursor once the batch is accepted. Every message
    /// before the batch was accepted or is a dead letter.
    pub fn next_sequence(&self) -> u64 {
        self.messages.last().map_or(0, |m| m.sequence + 1)
    }
}

/// Error of a provider that did not accept a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SendError {
    pub(crate) message: String,
    pub(crate) rejected: bool,
    pub(crate) after: Option<Duration>,
}

impl SendError {
    /// Temporary: the message is sent again.
    pub fn retry(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            rejected: false,
            after: None,
        }
    }

    /// Temporary: the message is sent again after this time.
    pub fn retry_after(message: impl Into<String>, after: Duration) -> Self {
        Self {
            after: Some(after),
            ..Self::retry(message)
        }
    }

    /// Permanent: the message is rejected for good.
    pub fn rejected(message: impl Into<String>) -> Self {
        Self {
            rejected: true,
            ..Self::retry(message)
        }
    }

    /// Whether the message was rejected for good.
    pub fn is_rejected(&self) -> bool {
        self.rejected
    }
}

/// Outcome of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BatchOutcome {
    Taken,
    Each(Vec<Result<(), SendError>>),
}

/// Receives the outcome of a batch.
pub(crate) trait AckSink: Send + Sync {
    fn receive(&self, batch: u64, outcome: BatchOutcome);
}

/// Acknowledges a batch. Dropping it means that the outcome is unknown: the batch is sent again.
#[must_use = "dropping an ack sends the batch again"]
pub struct Ack {
    pub(crate) to: Option<Arc<dyn AckSink>>,
    pub(crate) batch: u64,
    pub(crate) len: usize,
}

impl std::fmt::Debug for Ack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ack")
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

impl Ack {
    /// All messages were accepted.
    pub fn taken(self) {
        self.report(BatchOutcome::Taken);
    }

    /// No message was accepted.
    pub fn failed(self, error: &SendError) {
        let each = vec![Err(error.clone()); self.len];
        self.report(BatchOutcome::Each(each));
    }

    /// One result per message, in order. A message without a result is sent again.
    pub fn each(self, mut results: Vec<Result<(), SendError>>) {
        if results.len() >= self.len && results.iter().all(Result::is_ok) {
            return self.taken();
        }
        let unknown = || Err(SendError::retry("the provider reported no outcome"));
        results.resize_with(self.len, unknown);
        self.report(BatchOutcome::Each(results));
    }

    fn report(mut self, outcome: BatchOutcome) {
        if let Some(to) = self.to.take() {
            to.receive(self.batch, outcome);
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if let Some(to) = self.to.take() {
            let error = SendError::retry("the provider dropped the batch");
            to.receive(self.batch, BatchOutcome::Each(vec![Err(error); self.len]));
        }
    }
}

/// Health of a partition's provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderHealth {
    /// No message was sent yet.
    Unknown,
    /// The provider accepted the last batch.
    Up,
    /// The provider does not accept messages.
    Down {
        /// The last error.
        error: String,
        /// Start of the outage by the monotonic clock.
        since: Duration,
    },
}
