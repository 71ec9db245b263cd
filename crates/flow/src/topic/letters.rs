//! Messages that the provider has refused for good: looked at, sent again, forgotten.
//!
//! Invariant: a letter goes only after its message is in the stream again, or because somebody has
//! said so. A crash in between leaves the letter: the message may then come twice.
//!
//! Letters are numbered through all streams of a sink. An earlier stream gets no more once a later one
//! is delivered, so numbers stay. The log frees from the oldest on, so letters go in that order.

use forebay_buffer::{DeadLetter, encode_apart};
use forebay_log::StreamId;
use forebay_model::{Compression, SinkKey, Timestamp};
use forebay_record::SealedBlock;

use super::{Stream, Topics, UNDELIVERED};
use crate::pipeline::{AppendError, BlockToAppend, Outcome};

/// Why nothing more was done.
#[derive(Debug, thiserror::Error)]
pub enum UndeliveredError {
    /// No such letter, or it was replayed or dropped.
    #[error("there is no dead letter {0}")]
    NotFound(u64),
    /// Others are older.
    #[error("dead letters of a topic go from the oldest on, and {0} is older")]
    NotTheOldest(u64),
    /// The log can't be read or written.
    #[error("{0}")]
    Log(String),
    /// The log took no message.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl Topics {
    /// Letters of a sink from this number on, at most so many, the oldest first.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn undelivered(
        &self,
        sink: &SinkKey,
        from: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, UndeliveredError> {
        let log = &self.deps.log;
        let mut found = Vec::new();
        for (base, stream) in self.letter_streams(sink) {
            let from = from.saturating_sub(base);
            for letter in forebay_buffer::dead_letters(log, &stream.stats.name, from) {
                if found.len() == limit {
                    return Ok(found);
                }
                let letter = letter.map_err(|e| UndeliveredError::Log(e.to_string()))?;
                found.push(DeadLetter {
                    number: base + letter.number,
                    ..letter
                });
            }
        }
        Ok(found)
    }

    /// These letters, if they are the oldest ones; all up to `limit` without numbers.
    ///
    /// # Errors
    /// When one of them is not there, or an older one is not among them.
    pub fn oldest_undelivered(
        &self,
        sink: &SinkKey,
        numbers: Option<&[u64]>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, UndeliveredError> {
        let Some(numbers) = numbers else {
            return self.undelivered(sink, 0, limit);
        };
        let mut wanted = numbers.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let oldest = self.undelivered(sink, 0, wanted.len())?;
        for (i, &number) in wanted.iter().enumerate() {
            match oldest.get(i) {
                Some(letter) if letter.number == number => {}
                Some(letter) if letter.number < number => {
                    let is_there = self.undelivered(sink, number, 1)?;
                    return Err(match is_there.first() {
                        Some(found) if found.number == number => {
                            UndeliveredError::NotTheOldest(letter.number)
                        }
                        _ => UndeliveredError::NotFound(number),
                    });
                }
                _ => return Err(UndeliveredError::NotFound(number)),
            }
        }
        Ok(oldest)
    }

    /// Puts a letter's message at the end of its sink's stream, and forgets the letter.
    ///
    /// # Errors
    /// When the log takes nothing; the letter is there then.
    pub async fn replay_undelivered(
        self: &std::sync::Arc<Self>,
        sink: &SinkKey,
        letter: &DeadLetter,
    ) -> Result<(), UndeliveredError> {
        let at = letter.message.timestamp_ms.unwrap_or(letter.at_ms);
        let mut payload = Vec::new();
        encode_apart(&mut payload, &letter.topic, &letter.message, at);
        let block = BlockToAppend {
            sealed: SealedBlock {
                raw_len: payload.len(),
                payload,
                records: 1,
            },
            first_at: Timestamp::from_millis(at),
            last_at: Timestamp::from_millis(at),
            compression: Compression::None,
        };
        match self.writer(sink)?.append(block)?.await {
            Outcome::Stored => {}
            Outcome::Refused(error) => return Err(error.into()),
            Outcome::Unknown(cause) => return Err(UndeliveredError::Log(cause.to_string())),
        }
        self.forget_undelivered(sink, letter.number + 1).await
    }

    /// Forgets the letters of a sink below a number; returns when that is on disk.
    ///
    /// # Errors
    /// When the log takes nothing.
    pub async fn forget_undelivered(
        &self,
        sink: &SinkKey,
        below: u64,
    ) -> Result<(), UndeliveredError> {
        let log = &self.deps.log;
        let failed = |e: String| UndeliveredError::Log(e);
        for (base, stream) in self.letter_streams(sink) {
            let up_to = below.saturating_sub(base).min(stream.stats.next_seq);
            if up_to > stream.stats.trimmed_to {
                let id: StreamId = stream.stats.id;
                let ticket = log.trim(id, up_to).map_err(|e| failed(e.to_string()))?;
                ticket.await.map_err(|e| failed(e.to_string()))?;
            }
        }
        Ok(())
    }

    /// Streams of letters, with the number that the first one of each has.
    fn letter_streams(&self, sink: &SinkKey) -> Vec<(u64, Stream)> {
        let streams = self.streams(UNDELIVERED).remove(sink).unwrap_or_default();
        let mut base = 0;
        let numbered = streams.into_iter().map(|stream| {
            let first = base;
            base += stream.stats.next_seq;
            (first, stream)
        });
        numbered.collect()
    }
}
