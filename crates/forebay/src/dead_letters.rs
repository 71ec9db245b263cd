//! Dead letters of this node, for the management API.

use std::sync::Arc;

use async_trait::async_trait;
use forebay_buffer::DeadLetterMessage;
use forebay_control::api::{
    DeadLetterEntry, DeadLetterSelection, DeadLetterService, DeadLetterServiceError,
    DiscardSummary, ReplaySummary,
};
use forebay_flow::dead_letter::{
    DeadLetterError, SinkDeadLetterSelection, SinkDeadLetters, StoredDeadLetter,
};
use forebay_flow::topic::{self, TopicRegistry, UndeliveredError};
use forebay_meta::FileError;
use forebay_meta::catalog::dead_letters::DeadLetterResolveError;
use forebay_model::{DeadLetterId, SinkKey, Timestamp, VolumeId};

/// Most dead letters read in one call.
const BATCH_MAX: usize = 1000;

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

    fn start_after(&self, after: Option<&DeadLetterId>) -> Result<u64, DeadLetterServiceError> {
        let number = after.map(|id| self.number(id)).transpose()?;
        Ok(number.map_or(0, |n| n.saturating_add(1)))
    }

    fn selection(
        &self,
        choice: &DeadLetterSelection,
    ) -> Result<SinkDeadLetterSelection, DeadLetterServiceError> {
        Ok(match choice {
            DeadLetterSelection::After(after) => {
                SinkDeadLetterSelection::From(self.start_after(after.as_ref())?, usize::MAX)
            }
            DeadLetterSelection::These(ids) => {
                let numbers: Result<_, _> = ids.iter().map(|id| self.number(id)).collect();
                SinkDeadLetterSelection::These(numbers?)
            }
        })
    }

    fn more_after(&self, next: Option<u64>) -> Option<DeadLetterId> {
        next.map(|n| self.id(n.saturating_sub(1)))
    }

    fn sink_dead_letter(&self, stored: &StoredDeadLetter) -> DeadLetterEntry {
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

    /// Selected dead letters of a topic.
    fn topic_selection(
        &self,
        choice: &DeadLetterSelection,
    ) -> Result<topic::UndeliveredSelection, DeadLetterServiceError> {
        Ok(match choice {
            DeadLetterSelection::After(after) => {
                topic::UndeliveredSelection::From(self.start_after(after.as_ref())?, BATCH_MAX)
            }
            DeadLetterSelection::These(ids) => {
                let numbers: Result<_, _> = ids.iter().map(|id| self.number(id)).collect();
                topic::UndeliveredSelection::These(numbers?)
            }
        })
    }

    /// Runs an operation on dead letters of a topic, which waits for the disk. It completes even if the
    /// caller is cancelled.
    async fn with_topic(
        &self,
        act: impl FnOnce(&TopicRegistry) -> Result<Vec<u64>, UndeliveredError> + Send + 'static,
    ) -> Result<Vec<u64>, DeadLetterServiceError> {
        let topics = Arc::clone(&self.topics);
        let done = tokio::task::spawn_blocking(move || act(&topics)).await;
        let done = done.map_err(|e| DeadLetterServiceError::Internal(e.to_string()))?;
        done.map_err(|e| self.topic_failure(e))
    }

    fn more_after_topic(&self, choice: &DeadLetterSelection, done: &[u64]) -> Option<DeadLetterId> {
        let last = *done.last().filter(|_| done.len() == BATCH_MAX)?;
        matches!(choice, DeadLetterSelection::After(_)).then(|| self.id(last))
    }

    fn topic_dead_letter(&self, dead_letter: &DeadLetterMessage) -> DeadLetterEntry {
        let message = &dead_letter.message;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let header = |(name, value): &forebay_buffer::MessageHeader| {
            let value = value.as_deref().map(text).unwrap_or_default();
            (name.to_string(), value)
        };
        DeadLetterEntry {
            id: self.id(dead_letter.number),
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

    fn topic_failure(&self, error: UndeliveredError) -> DeadLetterServiceError {
        match error {
            UndeliveredError::NotFound(number) => DeadLetterServiceError::NotFound(self.id(number)),
            e @ UndeliveredError::TooScattered => DeadLetterServiceError::Rejected(e.to_string()),
            e => DeadLetterServiceError::Unavailable(e.to_string()),
        }
    }

    fn sink_failure(&self, error: DeadLetterError) -> DeadLetterServiceError {
        match error {
            DeadLetterError::NotFound(number) => DeadLetterServiceError::NotFound(self.id(number)),
            DeadLetterError::State(DeadLetterResolveError::AlreadyResolved(number)) => {
                DeadLetterServiceError::NotFound(self.id(number))
            }
            e @ (DeadLetterError::TooMuch
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
        if self.is_topic(sink).await? {
            let found = self
                .topics
                .undelivered(sink, self.start_after(after)?, limit);
            let found = found.map_err(|e| self.topic_failure(e))?;
            return Ok(found.iter().map(|l| self.topic_dead_letter(l)).collect());
        }
        let which = SinkDeadLetterSelection::From(self.start_after(after)?, limit);
        let found = self.tables.list(sink, which).await;
        let found = found.map_err(|e| self.sink_failure(e))?;
        Ok(found.iter().map(|k| self.sink_dead_letter(k)).collect())
    }

    async fn get(
        &self,
        sink: &SinkKey,
        id: &DeadLetterId,
    ) -> Result<DeadLetterEntry, DeadLetterServiceError> {
        if self.is_topic(sink).await? {
            let number = self.number(id)?;
            let found = self.topics.undelivered(sink, number, 1);
            let found = found.map_err(|e| self.topic_failure(e))?;
            let found = found.first().filter(|l| l.number == number);
            return found.map_or_else(
                || Err(DeadLetterServiceError::NotFound(id.clone())),
                |l| Ok(self.topic_dead_letter(l)),
            );
        }
        let which = SinkDeadLetterSelection::These(vec![self.number(id)?]);
        let found = self.tables.list(sink, which).await;
        let found = found.map_err(|e| self.sink_failure(e))?;
        let first = found.first().map(|k| self.sink_dead_letter(k));
        first.ok_or_else(|| DeadLetterServiceError::NotFound(id.clone()))
    }

    async fn replay(
        &self,
        sink: &SinkKey,
        which: &DeadLetterSelection,
    ) -> Result<ReplaySummary, DeadLetterServiceError> {
        if self.is_topic(sink).await? {
            let (key, chosen) = (sink.clone(), self.topic_selection(which)?);
            let done = self.with_topic(move |t| t.replay(&key, &chosen)).await?;
            return Ok(ReplaySummary {
                replayed: done.len() as u64,
                rejected: Vec::new(),
                more_after: self.more_after_topic(which, &done),
            });
        }
        let done = self.tables.replay(sink, self.selection(which)?).await;
        let done = done.map_err(|e| self.sink_failure(e))?;
        let rejected = done.rejected.into_iter();
        Ok(ReplaySummary {
            replayed: done.replayed,
            rejected: rejected.map(|(n, why)| (self.id(n), why)).collect(),
            more_after: self.more_after(done.next),
        })
    }

    async fn discard(
        &self,
        sink: &SinkKey,
        which: &DeadLetterSelection,
    ) -> Result<DiscardSummary, DeadLetterServiceError> {
        if self.is_topic(sink).await? {
            let (key, chosen) = (sink.clone(), self.topic_selection(which)?);
            let done = self.with_topic(move |t| t.discard(&key, &chosen)).await?;
            return Ok(DiscardSummary {
                dropped: done.len() as u64,
                more_after: self.more_after_topic(which, &done),
            });
        }
        let done = self.tables.discard(sink, self.selection(which)?).await;
        let done = done.map_err(|e| self.sink_failure(e))?;
        Ok(DiscardSummary {
            dropped: done.dropped,
            more_after: self.more_after(done.next),
        })
    }
}
