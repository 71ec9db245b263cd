//! Messages that the provider has refused for good: looked at, sent again, forgotten.
//!
//! Letters are numbered through all streams of a sink. An earlier stream gets no more once a later one
//! is delivered, so numbers stay. The log frees from the oldest on; which of the others are done with
//! is in `settled.rs`.

use forebay_buffer::DeadLetter;
use forebay_log::StreamId;
use forebay_model::SinkKey;

use super::settled::{SETTLED_MAX, Settled};
use super::{Stream, Topics, UNDELIVERED};
use crate::pipeline::AppendError;

/// Which letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
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
        "too many single letters are done with between others ({SETTLED_MAX}); replay or drop the oldest ones first"
    )]
    TooScattered,
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
        let settled = self.seen(&self.place(sink), sink)?;
        self.read_letters(sink, &settled, from, limit)
    }

    fn read_letters(
        &self,
        sink: &SinkKey,
        settled: &Settled,
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
                let number = base + letter.number;
                if !settled.is_done(number) {
                    found.push(DeadLetter { number, ..letter });
                }
            }
        }
        Ok(found)
    }

    /// The letters that are meant, if they are there.
    fn chosen(
        &self,
        sink: &SinkKey,
        settled: &Settled,
        which: &Which,
    ) -> Result<Vec<DeadLetter>, UndeliveredError> {
        let mut wanted = match which {
            Which::From(from, limit) => return self.read_letters(sink, settled, *from, *limit),
            Which::These(numbers) => numbers.clone(),
        };
        wanted.sort_unstable();
        wanted.dedup();
        let one = |number| {
            let found = self.read_letters(sink, settled, number, 1)?;
            let found = found.into_iter().find(|letter| letter.number == number);
            found.ok_or(UndeliveredError::NotFound(number))
        };
        wanted.into_iter().map(one).collect()
    }

    /// Whether so many more may be done with: what is remembered of them is bounded. The oldest ones
    /// always may, since nothing is remembered of these.
    fn check_room(
        &self,
        sink: &SinkKey,
        settled: &Settled,
        letters: &[DeadLetter],
    ) -> Result<(), UndeliveredError> {
        let few = settled.done.len() + letters.len() <= SETTLED_MAX;
        if few || self.are_oldest(sink, settled, letters)? {
            Ok(())
        } else {
            Err(UndeliveredError::TooScattered)
        }
    }

    fn are_oldest(
        &self,
        sink: &SinkKey,
        settled: &Settled,
        letters: &[DeadLetter],
    ) -> Result<bool, UndeliveredError> {
        let oldest = self.read_letters(sink, settled, 0, letters.len())?;
        let numbers = |letters: &[DeadLetter]| letters.iter().map(|l| l.number).collect::<Vec<_>>();
        Ok(numbers(&oldest) == numbers(letters))
    }

    /// Puts the messages of letters at the end of their sink's stream: what is a letter before is a
    /// message after it, also when the process or the power goes in between. Returns the numbers of
    /// these letters. Blocks for some syncs.
    ///
    /// # Errors
    /// When one of them is not there, or the log takes nothing; what did not get into the stream is
    /// a letter then.
    pub fn replay(&self, sink: &SinkKey, which: &Which) -> Result<Vec<u64>, UndeliveredError> {
        let place = self.place(sink);
        let turn = place.turn();
        let settled = self.settled(&place, sink)?;
        let letters = self.chosen(sink, &settled, which)?;
        self.check_room(sink, &settled, &letters)?;
        let numbers = letters.iter().map(|l| l.number).collect();
        if letters.is_empty() {
            return Ok(numbers);
        }
        // What is in the stream must stay there until the letters are known to be done with.
        place.hold(Some(self.counts(sink)));
        let done = self.put_again(&place, sink, settled, &letters);
        if place.is_moving() {
            // That could not be found out: before anything is delivered it is tried again.
            place.leave();
        }
        place.hold(None);
        drop(turn);
        self.woken.notify_one();
        done.map(|()| numbers)
    }

    /// Forgets letters; returns their numbers when that is on disk.
    ///
    /// # Errors
    /// When one of them is not there, or the log takes nothing.
    pub fn discard(&self, sink: &SinkKey, which: &Which) -> Result<Vec<u64>, UndeliveredError> {
        let place = self.place(sink);
        let _turn = place.turn();
        let mut settled = self.settled(&place, sink)?;
        let letters = self.chosen(sink, &settled, which)?;
        self.check_room(sink, &settled, &letters)?;
        let are_oldest = self.are_oldest(sink, &settled, &letters)?;
        let numbers: Vec<u64> = letters.iter().map(|l| l.number).collect();
        settled.done.extend(&numbers);
        if are_oldest {
            // Nothing has to be remembered, and so nothing written: a volume that is full gets room.
            self.free(sink, &settled)?;
        } else {
            self.keep(&place, sink, settled)?;
        }
        Ok(numbers)
    }

    /// Frees the letters up to the first one that is there.
    pub(super) fn free(&self, sink: &SinkKey, settled: &Settled) -> Result<(), UndeliveredError> {
        let log = &self.deps.log;
        // Before the letters are read: one that comes meanwhile is not freed.
        let streams = self.letter_streams(sink);
        let first = self.read_letters(sink, settled, 0, 1)?;
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
    pub(super) fn letter_streams(&self, sink: &SinkKey) -> Vec<(u64, Stream)> {
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
