//! Dead letters of topics that are done with, and how a replay is one step.
//!
//! Invariant: a letter that is replayed is a letter or a message, never both and never neither.
//!
//! A replay is three blocks' syncs: that letters are *moving*, and from which sequence on their
//! messages are to be found; the messages, each with the number of its letter; that the letters are
//! done with. Nothing leaves the stream meanwhile: what is delivered stays there until the letters are
//! done with. A process that ends in between leaves *moving* behind, and the next one looks which of
//! the messages are there before it delivers anything: their letters are done with, the others still
//! letters.
//!
//! All of it is the last block of a stream of the sink: what is remembered is bounded by
//! [`ACKED_MAX`], since letters from the oldest on are freed by the log.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use bytes::Bytes;
use forebay_buffer::{CODEC_MESSAGE_AGAIN, DeadLetter, encode_again, letter_again};
use forebay_log::{Item, NewBlock, StreamId};
use forebay_model::SinkKey;
use serde::{Deserialize, Serialize};

use super::letters::UndeliveredError;
use super::outlets::Place;
use super::{SETTLED, Topics};
use crate::pipeline::AppendError;

/// Letters that are done with between others that are not, at most.
pub(super) const SETTLED_MAX: usize = 10_000;

/// The codec number of a block with a [`AckedRanges`], as JSON.
const CODEC_SETTLED: u8 = 36;

/// Which letters of a sink are done with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Settled {
    /// Letters that were ever sent again.
    pub(super) replayed: u64,
    /// Numbers of letters that are done with; those that the log has freed may be missing.
    pub(super) done: BTreeSet<u64>,
    /// A replay that has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) moving: Option<Moving>,
}

/// Letters on their way into a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Moving {
    /// Name of the stream.
    stream: String,
    /// No message of them is before this sequence.
    from: u64,
    letters: BTreeSet<u64>,
}

impl Settled {
    pub(super) fn is_done(&self, letter: u64) -> bool {
        self.done.contains(&letter)
    }
}

fn failed(error: impl std::fmt::Display) -> UndeliveredError {
    UndeliveredError::Log(error.to_string())
}

impl Topics {
    /// What is known of a sink's letters, a replay that was interrupted perhaps not seen to its end.
    pub(super) fn seen(&self, place: &Place, sink: &SinkKey) -> Result<Settled, UndeliveredError> {
        // Replaced as a whole.
        let mut known = place.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = Some(self.load(sink)?);
        }
        Ok(known.clone().unwrap_or_default())
    }

    /// The same; whoever has the sink's turn sees the end of a replay that was interrupted.
    pub(super) fn settled(
        &self,
        place: &Place,
        sink: &SinkKey,
    ) -> Result<Settled, UndeliveredError> {
        let mut settled = self.seen(place, sink)?;
        let Some(moving) = settled.moving.take() else {
            return Ok(settled);
        };
        let moved = self.moved(&moving)?;
        settled.replayed += moved.len() as u64;
        settled.done.extend(moved);
        self.keep(place, sink, settled)
    }

    /// Letters whose messages are in the stream.
    fn moved(&self, moving: &Moving) -> Result<BTreeSet<u64>, UndeliveredError> {
        let log = &self.deps.log;
        let mut moved = BTreeSet::new();
        let Some(id) = log.find(&moving.stream) else {
            return Ok(moved);
        };
        for item in log.reader(id, moving.from).map_err(failed)? {
            if let Item::Block(block) = item.map_err(failed)?
                && block.codec == CODEC_MESSAGE_AGAIN
            {
                let letter = letter_again(&block.payload);
                moved.extend(letter.filter(|l| moving.letters.contains(l)));
            }
        }
        Ok(moved)
    }

    /// The replay itself; whoever calls it has the sink's turn, and holds what is in the stream.
    pub(super) fn put_again(
        &self,
        place: &Place,
        sink: &SinkKey,
        mut settled: Settled,
        letters: &[DeadLetter],
    ) -> Result<(), UndeliveredError> {
        let log = &self.deps.log;
        let stream = self.open_stream(sink);
        let id = log.stream(&stream).map_err(AppendError::from)?;
        self.check_waiting(id)?;
        settled.moving = Some(Moving {
            stream,
            from: log.committed(id).unwrap_or_default(),
            letters: letters.iter().map(|l| l.number).collect(),
        });
        self.keep(place, sink, settled)?;
        let appended = self.append_letters(id, letters);
        // Whatever was taken: what is there is what was moved.
        let settled = self.settled(place, sink)?;
        appended?;
        match letters.iter().find(|l| !settled.is_done(l.number)) {
            None => Ok(()),
            Some(letter) => Err(failed(format_args!(
                "letter {} was not taken",
                letter.number
            ))),
        }
    }

    fn append_letters(&self, id: StreamId, letters: &[DeadLetter]) -> Result<(), UndeliveredError> {
        let mut tickets = Vec::with_capacity(letters.len());
        for letter in letters {
            let at = letter.message.timestamp_ms.unwrap_or(letter.at_ms);
            let mut payload = Vec::new();
            encode_again(
                &mut payload,
                letter.number,
                &letter.topic,
                &letter.message,
                at,
            );
            let block = new_block(id, CODEC_MESSAGE_AGAIN, at, payload);
            match self.deps.log.append_wait(block) {
                Ok(ticket) => tickets.push(Ok(ticket)),
                Err(error) => {
                    tickets.push(Err(UndeliveredError::from(AppendError::from(error))));
                    break;
                }
            }
        }
        let mut all = Ok(());
        for ticket in tickets {
            let done = ticket.and_then(|t| t.wait().map_err(failed));
            all = all.and(done.map(drop));
        }
        all
    }

    /// Writes it down, and frees what is done with from the oldest on. Returns it as it is then.
    pub(super) fn keep(
        &self,
        place: &Place,
        sink: &SinkKey,
        mut settled: Settled,
    ) -> Result<Settled, UndeliveredError> {
        let log = &self.deps.log;
        self.forget_freed(sink, &mut settled);
        let id = log.stream(&name(sink)).map_err(AppendError::from)?;
        let payload = serde_json::to_vec(&settled).map_err(failed)?;
        let block = new_block(id, CODEC_SETTLED, self.deps.env.now_ms(), payload);
        let ticket = log.append_wait(block).map_err(AppendError::from)?;
        let written = ticket.wait().map_err(failed)?;
        *place.settled.lock().unwrap_or_else(PoisonError::into_inner) = Some(settled.clone());
        // Neither is waited for by the answer: what is not freed now is freed the next time.
        if let Err(error) = log.trim(id, written.first_seq) {
            tracing::warn!(%sink, %error, "what was known of letters before could not be freed");
        }
        if let Err(error) = self.free(sink, &settled) {
            tracing::warn!(%sink, %error, "letters that are done with could not be freed");
        }
        Ok(settled)
    }

    /// Nothing has to be remembered of letters that the log has freed.
    fn forget_freed(&self, sink: &SinkKey, settled: &mut Settled) {
        for (base, stream) in self.letter_streams(sink) {
            let freed: Vec<u64> = settled
                .done
                .range(base..base + stream.stats.trimmed_to)
                .copied()
                .collect();
            for letter in freed {
                settled.done.remove(&letter);
            }
        }
    }

    fn load(&self, sink: &SinkKey) -> Result<Settled, UndeliveredError> {
        let log = &self.deps.log;
        let Some(stats) = log.find(&name(sink)).and_then(|id| log.stats(id)) else {
            return Ok(Settled::default());
        };
        let Some(last) = stats.next_seq.checked_sub(1) else {
            return Ok(Settled::default());
        };
        let mut found = None;
        for item in log.reader(stats.id, last).map_err(failed)? {
            if let Item::Block(block) = item.map_err(failed)?
                && block.codec == CODEC_SETTLED
            {
                found = Some(serde_json::from_slice(&block.payload).map_err(failed)?);
            }
        }
        if found.is_none() {
            tracing::error!(%sink, "a damaged disk has taken which dead letters are done with: some may come back");
        }
        Ok(found.unwrap_or_default())
    }
}

fn name(sink: &SinkKey) -> String {
    format!("{SETTLED}{sink}/0")
}

fn new_block(stream: StreamId, codec: u8, at_ms: i64, payload: Vec<u8>) -> NewBlock {
    NewBlock {
        stream,
        records: 1,
        codec,
        raw_len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        first_at_ms: at_ms,
        last_at_ms: at_ms,
        payload: Bytes::from(payload),
    }
}
