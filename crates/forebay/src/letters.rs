//! What the management API asks of dead letters, answered by the data plane of this node.

use std::sync::Arc;

use async_trait::async_trait;
use forebay_buffer::DeadLetter;
use forebay_control::api::{Choice, Discard, KeptLetter, LetterFailure, Letters, Replay};
use forebay_flow::dead_letter::{DeadLetterError, DeadLetters, Kept, Which};
use forebay_flow::topic::{self, Topics, UndeliveredError};
use forebay_meta::FileError;
use forebay_meta::repo::letters::LetterError;
use forebay_model::{LetterId, SinkKey, Timestamp, VolumeId};

/// Letters that are looked at in one call.
const AT_ONCE: usize = 1000;

/// The letters of this node's volume: of tables, records that a mapping has refused; of topics,
/// messages that the provider has.
pub(crate) struct NodeLetters {
    pub(crate) tables: DeadLetters,
    pub(crate) topics: Arc<Topics>,
}

impl NodeLetters {
    fn id(&self, number: u64) -> LetterId {
        LetterId {
            volume: self.tables.volume.clone(),
            number,
        }
    }

    /// A letter of another volume is none of this node's.
    fn number(&self, id: &LetterId) -> Result<u64, LetterFailure> {
        let own: &VolumeId = &self.tables.volume;
        if id.volume == *own {
            Ok(id.number)
        } else {
            Err(LetterFailure::NotFound(id.clone()))
        }
    }

    fn from(&self, after: Option<&LetterId>) -> Result<u64, LetterFailure> {
        let number = after.map(|id| self.number(id)).transpose()?;
        Ok(number.map_or(0, |n| n.saturating_add(1)))
    }

    fn which(&self, choice: &Choice) -> Result<Which, LetterFailure> {
        Ok(match choice {
            Choice::After(after) => Which::From(self.from(after.as_ref())?, usize::MAX),
            Choice::These(ids) => {
                let numbers: Result<_, _> = ids.iter().map(|id| self.number(id)).collect();
                Which::These(numbers?)
            }
        })
    }

    fn more_after(&self, next: Option<u64>) -> Option<LetterId> {
        next.map(|n| self.id(n.saturating_sub(1)))
    }

    fn kept(&self, kept: &Kept) -> KeptLetter {
        let letter = &kept.letter;
        KeptLetter {
            id: self.id(kept.number),
            received_at: letter.request.received,
            // A row is no request's any more.
            client_ip: match &letter.row {
                Some(_) => String::new(),
                None => letter.request.client_ip.to_canonical().to_string(),
            },
            headers: letter.request.headers.entries().to_vec(),
            line: letter.line,
            body: letter.body.clone(),
            column: letter.column.clone(),
            error: letter.error.clone(),
            message: letter.message.clone(),
        }
    }

    async fn is_topic(&self, sink: &SinkKey) -> Result<bool, LetterFailure> {
        let found = self.tables.repo.sink(sink).await;
        let found = found.map_err(|e| LetterFailure::Unavailable(e.to_string()))?;
        Ok(found.target.topic().is_some())
    }

    /// The letters of a topic that are meant.
    fn which_of_topic(&self, choice: &Choice) -> Result<topic::Which, LetterFailure> {
        Ok(match choice {
            Choice::After(after) => topic::Which::From(self.from(after.as_ref())?, AT_ONCE),
            Choice::These(ids) => {
                let numbers: Result<_, _> = ids.iter().map(|id| self.number(id)).collect();
                topic::Which::These(numbers?)
            }
        })
    }

    /// Does something with letters of a topic, which waits for the disk. It is seen to its end also
    /// when nobody waits for the answer any more.
    async fn with_topic(
        &self,
        act: impl FnOnce(&Topics) -> Result<Vec<u64>, UndeliveredError> + Send + 'static,
    ) -> Result<Vec<u64>, LetterFailure> {
        let topics = Arc::clone(&self.topics);
        let done = tokio::task::spawn_blocking(move || act(&topics)).await;
        let done = done.map_err(|e| LetterFailure::Internal(e.to_string()))?;
        done.map_err(|e| self.undelivered(e))
    }

    fn more_topics(&self, choice: &Choice, done: &[u64]) -> Option<LetterId> {
        let last = *done.last().filter(|_| done.len() == AT_ONCE)?;
        matches!(choice, Choice::After(_)).then(|| self.id(last))
    }

    fn of_topic(&self, letter: &DeadLetter) -> KeptLetter {
        let message = &letter.message;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let header = |(name, value): &forebay_buffer::Header| {
            let value = value.as_deref().map(text).unwrap_or_default();
            (name.to_string(), value)
        };
        KeptLetter {
            id: self.id(letter.number),
            received_at: Timestamp::from_millis(message.timestamp_ms.unwrap_or(letter.at_ms)),
            client_ip: String::new(),
            headers: message.headers.iter().map(header).collect(),
            line: None,
            body: message.payload.clone().unwrap_or_default(),
            column: "value".to_owned(),
            error: "messageRefused".to_owned(),
            message: format!(
                "topic \"{}\" refused it {} times: {}",
                letter.topic, letter.attempts, letter.error
            ),
        }
    }

    fn undelivered(&self, error: UndeliveredError) -> LetterFailure {
        match error {
            UndeliveredError::NotFound(number) => LetterFailure::NotFound(self.id(number)),
            e @ UndeliveredError::TooScattered => LetterFailure::Refused(e.to_string()),
            e => LetterFailure::Unavailable(e.to_string()),
        }
    }

    fn failure(&self, error: DeadLetterError) -> LetterFailure {
        match error {
            DeadLetterError::NotFound(number) => LetterFailure::NotFound(self.id(number)),
            DeadLetterError::Letter(LetterError::Done(number)) => {
                LetterFailure::NotFound(self.id(number))
            }
            e @ (DeadLetterError::TooMuch | DeadLetterError::Letter(LetterError::TooScattered)) => {
                LetterFailure::Refused(e.to_string())
            }
            DeadLetterError::Letter(LetterError::File(
                e @ (FileError::SinkNotActive(_) | FileError::SliceLimit(_)),
            )) => LetterFailure::Refused(e.to_string()),
            DeadLetterError::Letter(LetterError::File(e)) if e.is_retryable() => {
                LetterFailure::Unavailable(e.to_string())
            }
            DeadLetterError::Append(e) => LetterFailure::Unavailable(e.to_string()),
            e => LetterFailure::Internal(e.to_string()),
        }
    }
}

#[async_trait]
impl Letters for NodeLetters {
    async fn list(
        &self,
        sink: &SinkKey,
        after: Option<&LetterId>,
        limit: usize,
    ) -> Result<Vec<KeptLetter>, LetterFailure> {
        if self.is_topic(sink).await? {
            let found = self.topics.undelivered(sink, self.from(after)?, limit);
            let found = found.map_err(|e| self.undelivered(e))?;
            return Ok(found.iter().map(|l| self.of_topic(l)).collect());
        }
        let which = Which::From(self.from(after)?, limit);
        let found = self.tables.list(sink, which).await;
        let found = found.map_err(|e| self.failure(e))?;
        Ok(found.iter().map(|k| self.kept(k)).collect())
    }

    async fn get(&self, sink: &SinkKey, id: &LetterId) -> Result<KeptLetter, LetterFailure> {
        if self.is_topic(sink).await? {
            let number = self.number(id)?;
            let found = self.topics.undelivered(sink, number, 1);
            let found = found.map_err(|e| self.undelivered(e))?;
            let found = found.first().filter(|l| l.number == number);
            return found.map_or_else(
                || Err(LetterFailure::NotFound(id.clone())),
                |l| Ok(self.of_topic(l)),
            );
        }
        let which = Which::These(vec![self.number(id)?]);
        let found = self.tables.list(sink, which).await;
        let found = found.map_err(|e| self.failure(e))?;
        let first = found.first().map(|k| self.kept(k));
        first.ok_or_else(|| LetterFailure::NotFound(id.clone()))
    }

    async fn replay(&self, sink: &SinkKey, which: &Choice) -> Result<Replay, LetterFailure> {
        if self.is_topic(sink).await? {
            let (key, chosen) = (sink.clone(), self.which_of_topic(which)?);
            let done = self.with_topic(move |t| t.replay(&key, &chosen)).await?;
            return Ok(Replay {
                replayed: done.len() as u64,
                refused: Vec::new(),
                more_after: self.more_topics(which, &done),
            });
        }
        let done = self.tables.replay(sink, self.which(which)?).await;
        let done = done.map_err(|e| self.failure(e))?;
        let refused = done.refused.into_iter();
        Ok(Replay {
            replayed: done.replayed,
            refused: refused.map(|(n, why)| (self.id(n), why)).collect(),
            more_after: self.more_after(done.next),
        })
    }

    async fn discard(&self, sink: &SinkKey, which: &Choice) -> Result<Discard, LetterFailure> {
        if self.is_topic(sink).await? {
            let (key, chosen) = (sink.clone(), self.which_of_topic(which)?);
            let done = self.with_topic(move |t| t.discard(&key, &chosen)).await?;
            return Ok(Discard {
                dropped: done.len() as u64,
                more_after: self.more_topics(which, &done),
            });
        }
        let done = self.tables.discard(sink, self.which(which)?).await;
        let done = done.map_err(|e| self.failure(e))?;
        Ok(Discard {
            dropped: done.dropped,
            more_after: self.more_after(done.next),
        })
    }
}
