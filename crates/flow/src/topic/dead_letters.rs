//! Messages that the provider has refused for good: looked at, sent again, forgotten.
//!
//! Letters are numbered through all streams of a sink. An earlier stream gets no more once a later one
//! is delivered, so numbers stay. The log frees from the oldest on; which of the others are done with
//! is in `settled.rs`.

use forebay_buffer::DeadLetterMessage;
use forebay_log::StreamId;
use forebay_model::SinkKey;

use super::acked_ranges::{ACKED_MAX, AckedRanges};
use super::{SinkStream, TopicRegistry};
use crate::pipeline::BlockAppendError;
use crate::streams::TOPIC_DEAD_LETTER_PREFIX;

/// Which letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UndeliveredSelection {
    /// From this number on, at most so many.
    From(u64, usize),
    /// These.
    These(Vec<u64>),
}

/// Why nothing more was done.
#[derive(Debug, thiserror::Error)]
pub enum UndeliveredError {
    /// No such letter, or it was replayed or dropped.
    #[error("there is no dead letter {0}")]
    NotFound(u64),
    /// Too many letters are left between others.
    #[error(
        "too many single letters are done with between others ({ACKED_MAX}); replay or drop the oldest ones first"
    )]
    TooScattered,
    /// The log can't be read or written.
    #[error("{0}")]
    Log(String),
    /// The log took no message.
    #[error(transparent)]
    Append(#[from] BlockAppendError),
}

impl TopicRegistry {
    /// Letters of a sink from this number on, at most so many, the oldest first.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn undelivered(
        &self,
        sink: &SinkKey,
        from: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetterMessage>, UndeliveredError> {
        let acked = self.cached_ranges(&self.shared_topic(sink), sink)?;
        self.read_dead_letters(sink, &acked, from, limit)
    }

    fn read_dead_letters(
        &self,
        sink: &SinkKey,
        acked: &AckedRanges,
        from: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetterMessage>, UndeliveredError> {
        let log = &self.deps.log;
        let mut found = Vec::new();
        for (base, stream) in self.dead_letter_streams(sink) {
            let from = from.saturating_sub(base);
            for dead_letter in forebay_buffer::dead_letters(log, &stream.stats.name, from) {
                if found.len() == limit {
                    return Ok(found);
                }
                let dead_letter = dead_letter.map_err(|e| UndeliveredError::Log(e.to_string()))?;
                let number = base + dead_letter.number;
                if !acked.is_acked(number) {
                    found.push(DeadLetterMessage {
                        number,
                        ..dead_letter
                    });
                }
            }
        }
        Ok(found)
    }

    /// The letters that are meant, if they are there.
    fn select(
        &self,
        sink: &SinkKey,
        acked: &AckedRanges,
        selection: &UndeliveredSelection,
    ) -> Result<Vec<DeadLetterMessage>, UndeliveredError> {
        let mut wanted = match selection {
            UndeliveredSelection::From(from, limit) => {
                return self.read_dead_letters(sink, acked, *from, *limit);
            }
            UndeliveredSelection::These(numbers) => numbers.clone(),
        };
        wanted.sort_unstable();
        wanted.dedup();
        let one = |number| {
            let found = self.read_dead_letters(sink, acked, number, 1)?;
            let found = found
                .into_iter()
                .find(|dead_letter| dead_letter.number == number);
            found.ok_or(UndeliveredError::NotFound(number))
        };
        wanted.into_iter().map(one).collect()
    }

    /// Whether so many more may be done with: what is remembered of them is bounded. The oldest ones
    /// always may, since nothing is remembered of these.
    fn check_capacity(
        &self,
        sink: &SinkKey,
        acked: &AckedRanges,
        dead_letters: &[DeadLetterMessage],
    ) -> Result<(), UndeliveredError> {
        let few = acked.resolved.len() + dead_letters.len() <= ACKED_MAX;
        if few || self.are_oldest(sink, acked, dead_letters)? {
            Ok(())
        } else {
            Err(UndeliveredError::TooScattered)
        }
    }

    fn are_oldest(
        &self,
        sink: &SinkKey,
        acked: &AckedRanges,
        dead_letters: &[DeadLetterMessage],
    ) -> Result<bool, UndeliveredError> {
        let oldest = self.read_dead_letters(sink, acked, 0, dead_letters.len())?;
        let numbers = |dead_letters: &[DeadLetterMessage]| {
            dead_letters.iter().map(|l| l.number).collect::<Vec<_>>()
        };
        Ok(numbers(&oldest) == numbers(dead_letters))
    }

    /// Puts the messages of letters at the end of their sink's stream: what is a letter before is a
    /// message after it, also when the process or the power goes in between. Returns the numbers of
    /// these letters. Blocks for some syncs.
    ///
    /// # Errors
    /// When one of them is not there, or the log takes nothing; what did not get into the stream is
    /// a letter then.
    pub fn replay(
        &self,
        sink: &SinkKey,
        selection: &UndeliveredSelection,
    ) -> Result<Vec<u64>, UndeliveredError> {
        let shared_topic = self.shared_topic(sink);
        let lock = shared_topic.lock();
        let acked = self.acked_ranges(&shared_topic, sink)?;
        let dead_letters = self.select(sink, &acked, selection)?;
        self.check_capacity(sink, &acked, &dead_letters)?;
        let numbers = dead_letters.iter().map(|l| l.number).collect();
        if dead_letters.is_empty() {
            return Ok(numbers);
        }
        // What is in the stream must stay there until the letters are known to be done with.
        shared_topic.hold_statistics(Some(self.counts(sink)));
        let done = self.append_replay(&shared_topic, sink, acked, &dead_letters);
        if shared_topic.is_replaying() {
            // That could not be found out: before anything is delivered it is tried again.
            shared_topic.detach();
        }
        shared_topic.hold_statistics(None);
        drop(lock);
        self.wake.notify_one();
        done.map(|()| numbers)
    }

    /// Forgets letters; returns their numbers when that is on disk.
    ///
    /// # Errors
    /// When one of them is not there, or the log takes nothing.
    pub fn discard(
        &self,
        sink: &SinkKey,
        selection: &UndeliveredSelection,
    ) -> Result<Vec<u64>, UndeliveredError> {
        let shared_topic = self.shared_topic(sink);
        let _lock = shared_topic.lock();
        let mut acked = self.acked_ranges(&shared_topic, sink)?;
        let dead_letters = self.select(sink, &acked, selection)?;
        self.check_capacity(sink, &acked, &dead_letters)?;
        let are_oldest = self.are_oldest(sink, &acked, &dead_letters)?;
        let numbers: Vec<u64> = dead_letters.iter().map(|l| l.number).collect();
        acked.resolved.extend(&numbers);
        if are_oldest {
            // Nothing has to be remembered, and so nothing written: a volume that is full gets room.
            self.trim_resolved(sink, &acked)?;
        } else {
            self.persist(&shared_topic, sink, acked)?;
        }
        Ok(numbers)
    }

    /// Frees the letters up to the first one that is there.
    pub(super) fn trim_resolved(
        &self,
        sink: &SinkKey,
        acked: &AckedRanges,
    ) -> Result<(), UndeliveredError> {
        let log = &self.deps.log;
        // Before the letters are read: one that comes meanwhile is not freed.
        let streams = self.dead_letter_streams(sink);
        let first = self.read_dead_letters(sink, acked, 0, 1)?;
        let first = first.first().map_or(u64::MAX, |l| l.number);
        for (base, stream) in streams {
            let up_to = first.saturating_sub(base).min(stream.stats.next_seq);
            if up_to > stream.stats.trimmed_to {
                let id: StreamId = stream.stats.id;
                let failed = |e: String| UndeliveredError::Log(e);
                let ticket = log.trim(id, up_to).map_err(|e| failed(e.to_string()))?;
                ticket.wait().map_err(|e| failed(e.to_string()))?;
            }
        }
        Ok(())
    }

    /// Streams of letters, with the number that the first one of each has.
    pub(super) fn dead_letter_streams(&self, sink: &SinkKey) -> Vec<(u64, SinkStream)> {
        let streams = self
            .streams(TOPIC_DEAD_LETTER_PREFIX)
            .remove(sink)
            .unwrap_or_default();
        let mut base = 0;
        let numbered = streams.into_iter().map(|stream| {
            let first = base;
            base += stream.stats.next_seq;
            (first, stream)
        });
        numbered.collect()
    }
}
