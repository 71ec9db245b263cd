//! Dead letters of this node, for the management API.

use std::sync::Arc;

use async_trait::async_trait;
use forebay_buffer::DeadLetterMessage;
use forebay_control::api::{
    DeadLetterEntry, DeadLetterSelection, DeadLetterService, DeadLetterServiceError,
    DiscardSummary, ReplaySummary,
};
use forebay_delivery::dead_letter::{DeadLetterError, SinkDeadLetters, StoredDeadLetter};
use forebay_delivery::topic::TopicRegistry;
use forebay_meta::FileError;
use forebay_meta::catalog::dead_letters::DeadLetterResolveError;
use forebay_model::{DeadLetterId, SinkKey, Timestamp, VolumeId};
use forebay_record::DeadLetter;

/// Dead letters on this node's volume: records that a mapping rejected (tables), messages that the
/// provider rejected (topics).
pub(crate) struct NodeDeadLetters {
    pub(crate) tables: SinkDeadLetters,
    pub(crate) topics: Arc<TopicRegistry>,
}

impl NodeDeadLetters {
    fn id(&self, number: u64) -> DeadLetterId {
        DeadLetterId {
            volume: self.tables.volume.clone(),
            number,
        }
    }

    /// Rejects ids of another volume.
    fn number(&self, id: &DeadLetterId) -> Result<u64, DeadLetterServiceError> {
        let own: &VolumeId = &self.tables.volume;
        if id.volume == *own {
            Ok(id.number)
        } else {
            Err(DeadLetterServiceError::NotFound(id.clone()))
        }
    }

    fn selection(
        &self,
        selection: &DeadLetterSelection,
    ) -> Result<forebay_model::DeadLetterSelection, DeadLetterServiceError> {
        selection.try_map(|id| self.number(id))
    }

    fn sink_dead_letter(&self, stored: &StoredDeadLetter<DeadLetter>) -> DeadLetterEntry {
        let dead_letter = &stored.dead_letter;
        DeadLetterEntry {
            id: self.id(stored.number),
            received_at: dead_letter.request.received,
            // A row has no request of its own.
            client_ip: match &dead_letter.row {
                Some(_) => String::new(),
                None => dead_letter.request.client_ip.to_canonical().to_string(),
            },
            headers: dead_letter.request.headers.entries().to_vec(),
            line: dead_letter.line,
            body: dead_letter.body.clone(),
            column: dead_letter.column.clone(),
            error: dead_letter.error.clone(),
            message: dead_letter.message.clone(),
        }
    }

    async fn is_topic(&self, sink: &SinkKey) -> Result<bool, DeadLetterServiceError> {
        let found = self.tables.repo.sink(sink).await;
        let found = found.map_err(|e| DeadLetterServiceError::Unavailable(e.to_string()))?;
        Ok(found.target.topic().is_some())
    }

    /// Runs an operation on dead letters of a topic, which waits for the disk. It completes even if
    /// the caller is cancelled.
    async fn with_topic<T: Send + 'static>(
        &self,
        act: impl FnOnce(&TopicRegistry) -> Result<T, DeadLetterError> + Send + 'static,
    ) -> Result<T, DeadLetterServiceError> {
        let topics = Arc::clone(&self.topics);
        let done = tokio::task::spawn_blocking(move || act(&topics)).await;
        let done = done.map_err(|e| DeadLetterServiceError::Internal(e.to_string()))?;
        done.map_err(|e| self.failure(e))
    }

    async fn select(
        &self,
        sink: &SinkKey,
        selection: &DeadLetterSelection,
        limit: usize,
    ) -> Result<Vec<DeadLetterEntry>, DeadLetterServiceError> {
        let selection = self.selection(selection)?;
        if self.is_topic(sink).await? {
            let key = sink.clone();
            let found = self.with_topic(move |t| t.list(&key, &selection, limit));
            let found = found.await?;
            return Ok(found.iter().map(|l| self.topic_dead_letter(l)).collect());
        }
        let found = self.tables.list(sink, &selection, limit).await;
        let found = found.map_err(|e| self.failure(e))?;
        Ok(found.iter().map(|l| self.sink_dead_letter(l)).collect())
    }

    fn topic_dead_letter(&self, stored: &StoredDeadLetter<DeadLetterMessage>) -> DeadLetterEntry {
        let dead_letter = &stored.dead_letter;
        let message = &dead_letter.message;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let header = |(name, value): &forebay_buffer::MessageHeader| {
            let value = value.as_deref().map(text).unwrap_or_default();
            (name.to_string(), value)
        };
        DeadLetterEntry {
            id: self.id(stored.number),
            received_at: Timestamp::from_millis(message.timestamp_ms.unwrap_or(dead_letter.at_ms)),
            client_ip: String::new(),
            headers: message.headers.iter().map(header).collect(),
            line: None,
            body: message.payload.clone().unwrap_or_default(),
            column: "value".to_owned(),
            error: "messageRejected".to_owned(),
            message: format!(
                "topic \"{}\" rejected it {} times: {}",
                dead_letter.topic, dead_letter.attempts, dead_letter.error
            ),
        }
    }

    fn failure(&self, error: DeadLetterError) -> DeadLetterServiceError {
        match error {
            DeadLetterError::NotFound(number) => DeadLetterServiceError::NotFound(self.id(number)),
            DeadLetterError::State(DeadLetterResolveError::AlreadyResolved(number)) => {
                DeadLetterServiceError::NotFound(self.id(number))
            }
            e @ (DeadLetterError::TooMuch
            | DeadLetterError::TooScattered(_)
            | DeadLetterError::State(DeadLetterResolveError::TooScattered)) => {
                DeadLetterServiceError::Rejected(e.to_string())
            }
            DeadLetterError::State(DeadLetterResolveError::File(
                e @ (FileError::SinkNotActive(_) | FileError::SliceLimit(_)),
            )) => DeadLetterServiceError::Rejected(e.to_string()),
            DeadLetterError::State(DeadLetterResolveError::File(e)) if e.is_retryable() => {
                DeadLetterServiceError::Unavailable(e.to_string())
            }
            DeadLetterError::Append(e) => DeadLetterServiceError::Unavailable(e.to_string()),
            e => DeadLetterServiceError::Internal(e.to_string()),
        }
    }
}

#[async_trait]
impl DeadLetterService for NodeDeadLetters {
    async fn list(
        &self,
        sink: &SinkKey,
        after: Option<&DeadLetterId>,
        limit: usize,
    ) -> Result<Vec<DeadLetterEntry>, DeadLetterServiceError> {
        let selection = DeadLetterSelection::After(after.cloned());
        self.select(sink, &selection, limit).await
    }

    async fn get(
        &self,
        sink: &SinkKey,
        id: &DeadLetterId,
    ) -> Result<DeadLetterEntry, DeadLetterServiceError> {
        let selection = DeadLetterSelection::These(vec![id.clone()]);
        let mut found = self.select(sink, &selection, 1).await?;
        found
            .pop()
            .ok_or_else(|| DeadLetterServiceError::NotFound(id.clone()))
    }

    async fn replay(
        &self,
        sink: &SinkKey,
        selection: &DeadLetterSelection,
    ) -> Result<ReplaySummary, DeadLetterServiceError> {
        let selection = self.selection(selection)?;
        let report = if self.is_topic(sink).await? {
            let key = sink.clone();
            self.with_topic(move |t| t.replay(&key, &selection)).await?
        } else {
            let done = self.tables.replay(sink, &selection).await;
            done.map_err(|e| self.failure(e))?
        };
        Ok(report.map(|number| self.id(number)))
    }

    async fn discard(
        &self,
        sink: &SinkKey,
        selection: &DeadLetterSelection,
    ) -> Result<DiscardSummary, DeadLetterServiceError> {
        let selection = self.selection(selection)?;
        let report = if self.is_topic(sink).await? {
            let key = sink.clone();
            self.with_topic(move |t| t.discard(&key, &selection))
                .await?
        } else {
            let done = self.tables.discard(sink, &selection).await;
            done.map_err(|e| self.failure(e))?
        };
        Ok(report.map(|number| self.id(number)))
    }
}
