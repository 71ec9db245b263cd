//! Messages that the provider has rejected for good: listed, replayed, dropped.
//!
//! Dead letters are numbered through all streams of a sink. An earlier stream gets no more once a
//! later one is delivered, so numbers are stable. The log frees them from the oldest on;
//! `acked_ranges.rs` records which of the others are resolved.

use forebay_buffer::DeadLetterMessage;
use forebay_log::StreamId;
use forebay_model::SinkKey;

use super::acked_ranges::{ACKED_MAX, AckedRanges};
use super::{SinkStream, TopicRegistry};
use crate::pipeline::BlockAppendError;
use crate::streams::TOPIC_DEAD_LETTER_PREFIX;

/// Selection of dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UndeliveredSelection {
    /// First number, and maximum count.
    From(u64, usize),
    /// Numbers, each of which must exist.
    These(Vec<u64>),
}

/// Error of an operation on a topic's dead letters.
#[derive(Debug, thiserror::Error)]
pub enum UndeliveredError {
    /// No such dead letter, or it was replayed or dropped.
    #[error("there is no dead letter {0}")]
    NotFound(u64),
    /// Too many dead letters are resolved between unresolved ones.
    #[error(
        "too many dead letters are resolved out of order (maximum {ACKED_MAX}); replay or drop the oldest ones first"
    )]
    TooScattered,
    /// The log can't be read or written.
    #[error("{0}")]
    Log(String),
    /// The log rejected the messages.
    #[error(transparent)]
    Append(#[from] BlockAppendError),
}

impl TopicRegistry {
    /// Lists dead letters of a sink from this number on, at most so many, the oldest first.
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

    /// Returns the selected dead letters, if they exist.
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

    /// Checks that so many more may be resolved: what is recorded of them is bounded. The oldest
    /// ones always may, since nothing is recorded of these.
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

    /// Appends the messages of dead letters to their sink's stream, in one step even if the process
    /// or the power fails. Returns their numbers. Blocks for some syncs.
    ///
    /// # Errors
    /// When one of them does not exist, or the log rejects the messages; those that are not in the
    /// stream stay dead letters.
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
        // The messages must stay in the stream until the dead letters are recorded as resolved.
        shared_topic.hold_statistics(Some(self.counts(sink)));
        let done = self.append_replay(&shared_topic, sink, acked, &dead_letters);
        if shared_topic.is_replaying() {
            // The outcome is unknown: it is checked again before anything is delivered.
            shared_topic.detach();
        }
        shared_topic.hold_statistics(None);
        drop(lock);
        self.wake.notify_one();
        done.map(|()| numbers)
    }

    /// Drops dead letters; returns their numbers when that is durable.
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
            // Nothing has to be recorded, and so nothing written: this frees space on a full
            // volume.
            self.trim_resolved(sink, &acked)?;
        } else {
            self.persist(&shared_topic, sink, acked)?;
        }
        Ok(numbers)
    }

    /// Frees the dead letters before the first unresolved one.
    pub(super) fn trim_resolved(
        &self,
        sink: &SinkKey,
        acked: &AckedRanges,
    ) -> Result<(), UndeliveredError> {
        let log = &self.deps.log;
        // Streams first: a dead letter that arrives meanwhile is not freed.
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

    /// Dead-letter streams, with the number of the first dead letter of each.
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
