//! What the management API asks of dead letters, answered by the data plane of this node.

use async_trait::async_trait;
use forebay_control::api::{Choice, Discard, KeptLetter, LetterFailure, Letters, Replay};
use forebay_flow::dead_letter::{DeadLetterError, DeadLetters, Kept, Which};
use forebay_meta::FileError;
use forebay_meta::repo::letters::LetterError;
use forebay_model::{LetterId, SinkKey, VolumeId};

/// The letters of this node's volume.
pub(crate) struct NodeLetters(pub(crate) DeadLetters);

impl NodeLetters {
    fn id(&self, number: u64) -> LetterId {
        LetterId {
            volume: self.0.volume.clone(),
            number,
        }
    }

    /// A letter of another volume is none of this node's.
    fn number(&self, id: &LetterId) -> Result<u64, LetterFailure> {
        let own: &VolumeId = &self.0.volume;
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
            client_ip: letter.request.client_ip.to_canonical().to_string(),
            headers: letter.request.headers.entries().to_vec(),
            line: letter.line,
            body: letter.body.clone(),
            column: letter.column.clone(),
            error: letter.error.clone(),
            message: letter.message.clone(),
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
        let which = Which::From(self.from(after)?, limit);
        let found = self.0.list(sink, which).await;
        let found = found.map_err(|e| self.failure(e))?;
        Ok(found.iter().map(|k| self.kept(k)).collect())
    }

    async fn get(&self, sink: &SinkKey, id: &LetterId) -> Result<KeptLetter, LetterFailure> {
        let which = Which::These(vec![self.number(id)?]);
        let found = self.0.list(sink, which).await;
        let found = found.map_err(|e| self.failure(e))?;
        let first = found.first().map(|k| self.kept(k));
        first.ok_or_else(|| LetterFailure::NotFound(id.clone()))
    }

    async fn replay(&self, sink: &SinkKey, which: &Choice) -> Result<Replay, LetterFailure> {
        let done = self.0.replay(sink, self.which(which)?).await;
        let done = done.map_err(|e| self.failure(e))?;
        let refused = done.refused.into_iter();
        Ok(Replay {
            replayed: done.replayed,
            refused: refused.map(|(n, why)| (self.id(n), why)).collect(),
            more_after: self.more_after(done.next),
        })
    }

    async fn discard(&self, sink: &SinkKey, which: &Choice) -> Result<Discard, LetterFailure> {
        let done = self.0.discard(sink, self.which(which)?).await;
        let done = done.map_err(|e| self.failure(e))?;
        Ok(Discard {
            dropped: done.dropped,
            more_after: self.more_after(done.next),
        })
    }
}
