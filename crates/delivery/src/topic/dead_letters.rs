//! Messages that the provider has rejected for good: listed, replayed, dropped.
//!
//! Dead letters are numbered through all streams of a sink. An earlier stream gets no more once a
//! later one is delivered, so numbers are stable. The log frees them from the oldest on;
//! `acked_ranges.rs` records which of the others are resolved.

use forebay_buffer::DeadLetterMessage;
use forebay_log::Block;
use forebay_model::{DeadLetterSelection, DiscardReport, ReplayReport, SinkKey};

use super::acked_ranges::{ACKED_RANGES_MAX, log_failed};
use super::replay_state::AckedRanges;
use super::{SinkStream, TopicRegistry};
use crate::dead_letter::{
    BlockContent, DeadLetterError, DeadLetterReader, SELECTION_MAX, SelectedDeadLetters,
    StoredDeadLetter,
};
use forebay_ingest::streams::TOPIC_DEAD_LETTER_PREFIX;

type SelectedMessages = SelectedDeadLetters<DeadLetterMessage>;

impl BlockContent for DeadLetterMessage {
    fn decode(block: Block) -> Result<Vec<Self>, DeadLetterError> {
        Ok(Self::from_block(block).into_iter().collect())
    }

    fn size(&self) -> usize {
        self.message.len()
    }
}

impl TopicRegistry {
    /// Lists unresolved dead letters of a sink, at most `limit` and [`SELECTION_MAX`]. Blocks: it
    /// reads files.
    pub fn list(
        &self,
        sink: &SinkKey,
        selection: &DeadLetterSelection,
        limit: usize,
    ) -> Result<Vec<StoredDeadLetter<DeadLetterMessage>>, DeadLetterError> {
        let acked = self.cached_ranges(&self.shared_topic(sink), sink)?;
        Ok(self.select(sink, &acked, selection, limit)?.dead_letters)
    }

    fn select(
        &self,
        sink: &SinkKey,
        acked: &AckedRanges,
        selection: &DeadLetterSelection,
        max: usize,
    ) -> Result<SelectedMessages, DeadLetterError> {
        let streams = self.dead_letter_streams(sink);
        let streams: Vec<_> = streams
            .iter()
            .map(|(base, s)| (*base, s.stats.id))
            .collect();
        let reader = DeadLetterReader {
            log: &self.deps.log,
            streams: &streams,
            resolved: &acked.resolved,
        };
        reader.select(selection, max)
    }

    /// Appends the messages of dead letters to their sink's stream, at most [`SELECTION_MAX`] per
    /// call, in one step even if the process or the power fails. Blocks for some syncs.
    ///
    /// # Errors
    /// When one of them does not exist, or the log rejects the messages; those that are not in the
    /// stream stay dead letters.
    pub fn replay(
        &self,
        sink: &SinkKey,
        selection: &DeadLetterSelection,
    ) -> Result<ReplayReport, DeadLetterError> {
        let shared_topic = self.shared_topic(sink);
        let lock = shared_topic.lock();
        let acked = self.acked_ranges(&shared_topic, sink)?;
        let found = self.select(sink, &acked, selection, SELECTION_MAX)?;
        resolve(&acked, &found)?;
        let report = ReplayReport {
            replayed: found.dead_letters.len() as u64,
            rejected: Vec::new(),
            more_after: found.more_after,
        };
        if found.dead_letters.is_empty() {
            return Ok(report);
        }
        // The messages must stay in the stream until the dead letters are recorded as resolved.
        shared_topic.hold_statistics(Some(self.counts(sink)));
        let done = self.append_replay(&shared_topic, sink, acked, &found.dead_letters);
        if shared_topic.is_replaying() {
            // The outcome is unknown: it is checked again before anything is delivered.
            shared_topic.detach();
        }
        shared_topic.hold_statistics(None);
        drop(lock);
        self.wake.notify_one();
        done.map(|()| report)
    }

    /// Drops dead letters, at most [`SELECTION_MAX`] per call; returns when that is durable.
    pub fn discard(
        &self,
        sink: &SinkKey,
        selection: &DeadLetterSelection,
    ) -> Result<DiscardReport, DeadLetterError> {
        let shared_topic = self.shared_topic(sink);
        let _lock = shared_topic.lock();
        let acked = self.acked_ranges(&shared_topic, sink)?;
        let found = self.select(sink, &acked, selection, SELECTION_MAX)?;
        let acked = resolve(&acked, &found)?;
        let last = found.numbers().max();
        if last.is_none_or(|number| number < acked.resolved.floor()) {
            // The trim says it all, and nothing is written: this frees space on a full volume.
            self.trim_resolved(sink, &acked)?;
            shared_topic.cache_ranges(acked);
        } else {
            self.persist(&shared_topic, sink, acked)?;
        }
        Ok(DiscardReport {
            dropped: found.dead_letters.len() as u64,
            more_after: found.more_after,
        })
    }

    /// Frees the dead letters before the first unresolved one.
    pub(super) fn trim_resolved(
        &self,
        sink: &SinkKey,
        acked: &AckedRanges,
    ) -> Result<(), DeadLetterError> {
        let log = &self.deps.log;
        for (base, stream) in self.dead_letter_streams(sink) {
            let resolved = acked.resolved.floor().saturating_sub(base);
            let up_to = resolved.min(stream.stats.next_seq);
            if up_to > stream.stats.trimmed_to {
                let ticket = log.trim(stream.stats.id, up_to).map_err(log_failed)?;
                ticket.wait().map_err(log_failed)?;
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

/// The state with these dead letters resolved.
fn resolve(acked: &AckedRanges, found: &SelectedMessages) -> Result<AckedRanges, DeadLetterError> {
    let mut acked = acked.clone();
    for number in found.numbers() {
        acked.resolved.resolve(number, number + 1);
    }
    for (from, to) in &found.lost {
        acked.resolved.resolve(*from, *to);
    }
    if acked.resolved.scattered() > ACKED_RANGES_MAX {
        return Err(DeadLetterError::TooScattered(ACKED_RANGES_MAX));
    }
    Ok(acked)
}
