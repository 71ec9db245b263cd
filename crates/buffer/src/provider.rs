//! The seam to whoever takes the messages.

use std::sync::Arc;
use std::time::Duration;

use crate::message::MessageDelivery;

/// Where messages go: Kafka, an HTTP endpoint, a file.
///
/// One connection is opened for each lane, and lanes are served in parallel.
pub trait Provider: Send + Sync + 'static {
    /// A name for logs and errors, such as `kafka localhost:9092`.
    fn name(&self) -> &str;

    /// Opens a connection for a lane. Called again, after a wait, when it fails, and after
    /// [`ProviderConnection::abort`].
    ///
    /// # Errors
    /// Why not; [`SendError::rejected`] is treated as [`SendError::retry`] here.
    fn open(&self, partition: &Partition) -> Result<Box<dyn ProviderConnection>, SendError>;

    /// How long to wait after a failure, if the provider knows better than the buffer's settings.
    fn retry_wait(&self) -> Option<Duration> {
        None
    }

    /// Whether a connection keeps the cursor, together with the messages
    /// ([`ProviderConnection::cursor`]). Such a provider works in [`BufferMode::Always`](crate::BufferMode) only.
    fn keeps_cursor(&self) -> bool {
        false
    }
}

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Name of the topic or of the group.
    pub name: Arc<str>,
    /// The buffer's id: chosen when its directory was made, the same ever after.
    pub buffer: u64,
}

/// A connection, used by one thread.
pub trait ProviderConnection: Send {
    /// Sends messages, in order, and says what became of each: by `done`, now or later, from any
    /// thread. Further batches may come before that, as many as [`ProviderConnection::pipeline`] says.
    ///
    /// Once a message has failed that may be taken later, no message behind it may be taken: that
    /// would be out of order.
    fn send(&mut self, batch: &MessageBatch, done: Ack);

    /// How many batches may be under way.
    fn pipeline(&self) -> usize {
        1
    }

    /// Gives up everything that is under way: each `done` has to be called soon. The connection is
    /// closed after it.
    fn abort(&mut self) {}

    /// Where to go on, if the provider keeps that with the messages: everything below was taken.
    ///
    /// # Errors
    /// When it can't be asked.
    fn cursor(&mut self) -> Result<Option<u64>, SendError> {
        Ok(None)
    }

    /// Why it can't be reached just now, if it knows.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Pushes out what it holds back for better batches.
    fn flush(&mut self, _limit: Duration) {}

    /// Ends it.
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

    /// The messages, in order; one at least.
    #[must_use]
    pub fn messages(&self) -> &[MessageDelivery] {
        &self.messages
    }

    /// The sequence after the last message: the cursor, once the batch is taken. Everything below
    /// the first message was taken, or set aside as a dead letter, before the batch is sent.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.messages.last().map_or(0, |m| m.sequence + 1)
    }
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SendError {
    pub(crate) message: String,
    pub(crate) rejected: bool,
    pub(crate) after: Option<Duration>,
}

impl SendError {
    /// It may be taken later.
    #[must_use]
    pub fn retry(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            rejected: false,
            after: None,
        }
    }

    /// It may be taken after so long: the provider said so.
    #[must_use]
    pub fn retry_after(message: impl Into<String>, after: Duration) -> Self {
        Self {
            after: Some(after),
            ..Self::retry(message)
        }
    }

    /// This message is refused for good; others may be taken.
    #[must_use]
    pub fn rejected(message: impl Into<String>) -> Self {
        Self {
            rejected: true,
            ..Self::retry(message)
        }
    }

    /// Whether the message is refused for good.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        self.rejected
    }
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BatchOutcome {
    Taken,
    Each(Vec<Result<(), SendError>>),
}

/// Whoever hears what became of a batch.
pub(crate) trait AckSink: Send + Sync {
    fn receive(&self, batch: u64, outcome: BatchOutcome);
}

/// Says what became of a batch. Dropped without a word it means: not known, send it again.
#[must_use = "the batch is waited for until this is called"]
pub struct Ack {
    pub(crate) to: Option<Arc<dyn AckSink>>,
    pub(crate) batch: u64,
    pub(crate) len: usize,
}

impl std::fmt::Debug for Ack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Done")
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

impl Ack {
    /// All were taken.
    pub fn taken(self) {
        self.report(BatchOutcome::Taken);
    }

    /// None was taken.
    pub fn failed(self, error: &SendError) {
        let each = vec![Err(error.clone()); self.len];
        self.report(BatchOutcome::Each(each));
    }

    /// One result for each message, in order. A missing one means: not known, send it again.
    pub fn each(self, mut results: Vec<Result<(), SendError>>) {
        if results.len() >= self.len && results.iter().all(Result::is_ok) {
            return self.taken();
        }
        let unknown = || {
            Err(SendError::retry(
                "the provider has not said what became of it",
            ))
        };
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
            let error = SendError::retry("the provider has dropped the batch");
            to.receive(self.batch, BatchOutcome::Each(vec![Err(error); self.len]));
        }
    }
}
