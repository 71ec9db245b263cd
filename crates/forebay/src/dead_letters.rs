//! Dead letters of this node, for the management API.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use forebay_buffer::DeadLetterMessage;
use forebay_control::api::{
    DeadLetterEntries, DeadLetterEntry, DeadLetterQuery, DeadLetterReplay, DeadLetterSelection,
    DeadLetterService, DeadLetterServiceError, DiscardSummary, ReplaySummary,
};
use forebay_delivery::dead_letter::{
    BlockContent, DeadLetterError, SinkDeadLetters, StoredDeadLetter,
};
use forebay_delivery::topic::TopicRegistry;
use forebay_meta::FileError;
use forebay_meta::catalog::dead_letters::DeadLetterResolveError;
use forebay_model::{CauseReport, DeadLetterFilter, DeadLetterId, SinkKey, VolumeId};
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

    /// The parts of an entry that tables and topics have in common.
    fn entry<T: BlockContent>(&self, stored: &StoredDeadLetter<T>) -> DeadLetterEntry {
        let facts = stored.dead_letter.facts();
        DeadLetterEntry {
            id: self.id(stored.number),
            received_at: facts.received,
            client_ip: String::new(),
            headers: Vec::new(),
            line: None,
            body: Bytes::copy_from_slice(facts.body),
            column: facts.column.to_owned(),
            error: facts.error.to_owned(),
            cause: facts.cause(),
            message: facts.message.into_owned(),
        }
    }

    fn sink_dead_letter(&self, stored: &StoredDeadLetter<DeadLetter>) -> DeadLetterEntry {
        let dead_letter = &stored.dead_letter;
        DeadLetterEntry {
            // A row has no request of its own.
            client_ip: match &dead_letter.row {
                Some(_) => String::new(),
                None => dead_letter.request.client_ip.to_canonical().to_string(),
            },
            headers: dead_letter.request.headers.entries().to_vec(),
            line: dead_letter.line,
            ..self.entry(stored)
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
        query: &DeadLetterQuery,
        limit: usize,
    ) -> Result<DeadLetterEntries, DeadLetterServiceError> {
        let query = query.try_map(|id| self.number(id))?;
        let (entries, more_after) = if self.is_topic(sink).await? {
            let key = sink.clone();
            let found = self.with_topic(move |t| t.list(&key, &query, limit));
            let (found, more_after) = found.await?;
            let entries = found.iter().map(|l| self.topic_dead_letter(l));
            (entries.collect(), more_after)
        } else {
            let found = self.tables.list(sink, &query, limit).await;
            let (found, more_after) = found.map_err(|e| self.failure(e))?;
            let entries = found.iter().map(|l| self.sink_dead_letter(l));
            (entries.collect(), more_after)
        };
        Ok(DeadLetterEntries {
            entries,
            more_after: more_after.map(|number| self.id(number)),
        })
    }

    fn topic_dead_letter(&self, stored: &StoredDeadLetter<DeadLetterMessage>) -> DeadLetterEntry {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let header = |(name, value): &forebay_buffer::MessageHeader| {
            let value = value.as_deref().map(text).unwrap_or_default();
            (name.to_string(), value)
        };
        let headers = &stored.dead_letter.message.headers;
        DeadLetterEntry {
            headers: headers.iter().map(header).collect(),
            ..self.entry(stored)
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
        query: &DeadLetterQuery,
        limit: usize,
    ) -> Result<DeadLetterEntries, DeadLetterServiceError> {
        self.select(sink, query, limit).await
    }

    async fn causes(
        &self,
        sink: &SinkKey,
        after: Option<&DeadLetterId>,
        filter: &DeadLetterFilter,
    ) -> Result<CauseReport<DeadLetterId>, DeadLetterServiceError> {
        let after = after.map(|id| self.number(id)).transpose()?;
        let report = if self.is_topic(sink).await? {
            let (key, filter) = (sink.clone(), filter.clone());
            self.with_topic(move |t| t.causes(&key, after, &filter))
                .await?
        } else {
            let report = self.tables.causes(sink, after, filter).await;
            report.map_err(|e| self.failure(e))?
        };
        Ok(report.map(|number| self.id(number)))
    }

    async fn get(
        &self,
        sink: &SinkKey,
        id: &DeadLetterId,
    ) -> Result<DeadLetterEntry, DeadLetterServiceError> {
        let query = DeadLetterSelection::These(vec![id.clone()]).into();
        let mut found = self.select(sink, &query, 1).await?.entries;
        found
            .pop()
            .ok_or_else(|| DeadLetterServiceError::NotFound(id.clone()))
    }

    async fn replay(
        &self,
        sink: &SinkKey,
        replay: &DeadLetterReplay,
    ) -> Result<ReplaySummary, DeadLetterServiceError> {
        let replay = replay.try_map(|id| self.number(id))?;
        let report = if self.is_topic(sink).await? {
            let key = sink.clone();
            self.with_topic(move |t| t.replay(&key, &replay)).await?
        } else {
            let done = self.tables.replay(sink, &replay).await;
            done.map_err(|e| self.failure(e))?
        };
        Ok(report.map(|number| self.id(number)))
    }

    async fn discard(
        &self,
        sink: &SinkKey,
        query: &DeadLetterQuery,
    ) -> Result<DiscardSummary, DeadLetterServiceError> {
        let query = query.try_map(|id| self.number(id))?;
        let report = if self.is_topic(sink).await? {
            let key = sink.clone();
            self.with_topic(move |t| t.discard(&key, &query)).await?
        } else {
            let done = self.tables.discard(sink, &query).await;
            done.map_err(|e| self.failure(e))?
        };
        Ok(report.map(|number| self.id(number)))
    }
}
