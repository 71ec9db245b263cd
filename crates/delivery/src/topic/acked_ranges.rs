//! Resolved dead letters of topics, and atomic replay.
//!
//! Invariant: a dead letter that is replayed is a dead letter or a message, never both and never
//! neither.
//!
//! A replay syncs three blocks: that dead letters are *moving*, and from which sequence on their
//! messages are to be found; the messages, each with the number of its dead letter; that the dead
//! letters are resolved. Nothing is removed from the stream meanwhile: what is delivered stays
//! there until the dead letters are resolved. A process that ends in between leaves *moving*
//! behind, and the next one checks which of the messages exist before it delivers anything: their
//! dead letters are resolved, the others are still dead letters.
//!
//! The last block of a stream of the sink holds all of it. It is in the log and not in the store,
//! since what it must agree with is in the log (`docs/adr/1532-…`).

use std::collections::BTreeSet;

use bytes::Bytes;
use forebay_buffer::{
    CODEC_MESSAGE_REPLAYED, DeadLetterMessage, encode_replayed, replayed_dead_letter,
};
use forebay_log::{NewBlock, ReadItem, StreamId};
use forebay_model::SinkKey;

use super::TopicRegistry;
use super::replay_state::{AckedRanges, PendingReplay};
use super::shared_topic::SharedTopic;
use crate::dead_letter::{DeadLetterError, StoredDeadLetter, unreadable};
use forebay_ingest::pipeline::BlockAppendError;
use forebay_ingest::streams::{CODEC_RESOLVED, TOPIC_RESOLVED_PREFIX};

/// Maximum of resolved ranges between unresolved dead letters.
pub(super) const ACKED_RANGES_MAX: usize = 10_000;

impl TopicRegistry {
    /// Returns the known state of a sink's dead letters, perhaps with an interrupted replay not
    /// completed.
    pub(super) fn cached_ranges(
        &self,
        shared_topic: &SharedTopic,
        sink: &SinkKey,
    ) -> Result<AckedRanges, DeadLetterError> {
        // Replaced as a whole.
        let mut known = shared_topic.acked.lock();
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let mut acked = self.load(sink)?;
        for (base, stream) in self.dead_letter_streams(sink) {
            acked.resolved.resolve(base, base + stream.stats.trimmed_to);
        }
        *known = Some(acked.clone());
        Ok(acked)
    }

    /// As [`Self::cached_ranges`], with an interrupted replay completed. The caller holds the
    /// sink's lock.
    pub(super) fn acked_ranges(
        &self,
        shared_topic: &SharedTopic,
        sink: &SinkKey,
    ) -> Result<AckedRanges, DeadLetterError> {
        let mut acked = self.cached_ranges(shared_topic, sink)?;
        let Some(pending_replay) = acked.pending_replay.take() else {
            return Ok(acked);
        };
        let moved = self.appended_dead_letters(&pending_replay)?;
        acked.replayed += moved.len() as u64;
        for number in moved {
            acked.resolved.resolve(number, number + 1);
        }
        self.persist(shared_topic, sink, acked)
    }

    /// Dead letters whose messages are in the stream.
    fn appended_dead_letters(
        &self,
        pending_replay: &PendingReplay,
    ) -> Result<BTreeSet<u64>, DeadLetterError> {
        let log = &self.deps.log;
        let mut moved = BTreeSet::new();
        let Some(id) = log.find(&pending_replay.stream) else {
            return Ok(moved);
        };
        for item in log.reader(id, pending_replay.from).map_err(unreadable)? {
            if let ReadItem::Block(block) = item.map_err(unreadable)?
                && block.codec == CODEC_MESSAGE_REPLAYED
            {
                let dead_letter = replayed_dead_letter(&block.payload);
                moved.extend(dead_letter.filter(|l| pending_replay.dead_letters.contains(l)));
            }
        }
        Ok(moved)
    }

    /// Runs a replay. The caller holds the sink's lock, and what is in the stream.
    pub(super) fn append_replay(
        &self,
        shared_topic: &SharedTopic,
        sink: &SinkKey,
        mut acked: AckedRanges,
        dead_letters: &[StoredDeadLetter<DeadLetterMessage>],
    ) -> Result<(), DeadLetterError> {
        let log = &self.deps.log;
        let stream = self.open_stream(sink);
        let id = log.stream(&stream).map_err(BlockAppendError::from)?;
        self.check_waiting(id)?;
        acked.pending_replay = Some(PendingReplay {
            stream,
            from: log.committed(id).unwrap_or_default(),
            dead_letters: dead_letters.iter().map(|l| l.number).collect(),
        });
        self.persist(shared_topic, sink, acked)?;
        let appended = self.append_dead_letters(id, dead_letters);
        // Whatever was accepted: the messages in the stream are those that were moved.
        let acked = self.acked_ranges(shared_topic, sink)?;
        appended?;
        match dead_letters
            .iter()
            .find(|l| !acked.resolved.contains(l.number))
        {
            None => Ok(()),
            Some(dead_letter) => Err(log_failed(format_args!(
                "dead letter {} was not accepted",
                dead_letter.number
            ))),
        }
    }

    fn append_dead_letters(
        &self,
        id: StreamId,
        dead_letters: &[StoredDeadLetter<DeadLetterMessage>],
    ) -> Result<(), DeadLetterError> {
        let mut tickets = Vec::with_capacity(dead_letters.len());
        for stored in dead_letters {
            let letter = &stored.dead_letter;
            let at = letter.message.timestamp_ms.unwrap_or(letter.at_ms);
            let mut payload = Vec::new();
            encode_replayed(
                &mut payload,
                stored.number,
                &letter.topic,
                &letter.message,
                at,
            );
            let block = new_block(id, CODEC_MESSAGE_REPLAYED, at, payload);
            match self.deps.log.append_wait(block) {
                Ok(ticket) => tickets.push(Ok(ticket)),
                Err(error) => {
                    tickets.push(Err(DeadLetterError::from(BlockAppendError::from(error))));
                    break;
                }
            }
        }
        let mut all = Ok(());
        for ticket in tickets {
            let done = ticket.and_then(|t| t.wait().map_err(log_failed));
            all = all.and(done.map(drop));
        }
        all
    }

    /// Writes the state, and frees resolved dead letters from the oldest on. Returns the state as
    /// it is then.
    pub(super) fn persist(
        &self,
        shared_topic: &SharedTopic,
        sink: &SinkKey,
        acked: AckedRanges,
    ) -> Result<AckedRanges, DeadLetterError> {
        let log = &self.deps.log;
        let id = log.stream(&name(sink)).map_err(BlockAppendError::from)?;
        let payload = serde_json::to_vec(&acked).map_err(log_failed)?;
        let block = new_block(id, CODEC_RESOLVED, self.deps.env.now_ms(), payload);
        let ticket = log.append_wait(block).map_err(BlockAppendError::from)?;
        let written = ticket.wait().map_err(log_failed)?;
        shared_topic.cache_ranges(acked.clone());
        // The response waits for neither: what is not freed now is freed the next time.
        if let Err(error) = log.trim(id, written.first_seq) {
            tracing::warn!(%sink, %error, "freeing an earlier state of dead letters failed");
        }
        if let Err(error) = self.trim_resolved(sink, &acked) {
            tracing::warn!(%sink, %error, "freeing resolved dead letters failed");
        }
        Ok(acked)
    }

    fn load(&self, sink: &SinkKey) -> Result<AckedRanges, DeadLetterError> {
        let log = &self.deps.log;
        let Some(stats) = log.find(&name(sink)).and_then(|id| log.stats(id)) else {
            return Ok(AckedRanges::default());
        };
        let Some(last) = stats.next_seq.checked_sub(1) else {
            return Ok(AckedRanges::default());
        };
        let mut found = None;
        for item in log.reader(stats.id, last).map_err(unreadable)? {
            if let ReadItem::Block(block) = item.map_err(unreadable)?
                && block.codec == CODEC_RESOLVED
            {
                found = Some(serde_json::from_slice(&block.payload).map_err(unreadable)?);
            }
        }
        if found.is_none() {
            tracing::error!(%sink, "dead-letter state lost to disk corruption: resolved dead letters may reappear");
        }
        Ok(found.unwrap_or_default())
    }
}

fn name(sink: &SinkKey) -> String {
    format!("{TOPIC_RESOLVED_PREFIX}{sink}/0")
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

/// The log cannot be written.
pub(super) fn log_failed(error: impl std::fmt::Display) -> DeadLetterError {
    BlockAppendError::Other(error.to_string().into()).into()
}
