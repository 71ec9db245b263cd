//! Interface to the dead-letter queues. The binary implements it with the data plane, which this crate does
//! not know.

use async_trait::async_trait;
use bytes::Bytes;
use forebay_model::{DeadLetterId, SinkKey, Timestamp};

/// Access to dead letters.
#[async_trait]
pub trait DeadLetterService: Send + Sync {
    /// At most `limit` unresolved dead letters of a sink, after an id.
    async fn list(
        &self,
        sink: &SinkKey,
        after: Option<&DeadLetterId>,
        limit: usize,
    ) -> Result<Vec<DeadLetterEntry>, DeadLetterServiceError>;

    async fn get(
        &self,
        sink: &SinkKey,
        id: &DeadLetterId,
    ) -> Result<DeadLetterEntry, DeadLetterServiceError>;

    /// Processes dead letters again with the current mapping.
    async fn replay(
        &self,
        sink: &SinkKey,
        selection: &DeadLetterSelection,
    ) -> Result<ReplaySummary, DeadLetterServiceError>;

    /// Discards dead letters.
    async fn discard(
        &self,
        sink: &SinkKey,
        selection: &DeadLetterSelection,
    ) -> Result<DiscardSummary, DeadLetterServiceError>;
}

/// A record that a mapping rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterEntry {
    pub id: DeadLetterId,
    /// When the record was received.
    pub received_at: Timestamp,
    pub client_ip: String,
    /// Headers of its request.
    pub headers: Vec<(String, String)>,
    /// Line number in its batch, from 1.
    pub line: Option<usize>,
    pub body: Bytes,
    /// The column that failed.
    pub column: String,
    /// Name of the error.
    pub error: String,
    pub message: String,
}

pub type DeadLetterSelection = forebay_model::DeadLetterSelection<DeadLetterId>;
pub type ReplaySummary = forebay_model::ReplayReport<DeadLetterId>;
pub type DiscardSummary = forebay_model::DiscardReport<DeadLetterId>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeadLetterServiceError {
    /// Unknown id, or a resolved dead letter.
    #[error("Dead letter \"{0}\" not found in the sink.")]
    NotFound(DeadLetterId),
    /// Not possible in the present state; the user can change that.
    #[error("{0}")]
    Rejected(String),
    /// A retry may succeed.
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Internal(String),
}
