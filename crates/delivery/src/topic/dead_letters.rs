//! Messages that the provider has rejected for good: listed, replayed, dropped.
//!
//! Dead letters are numbered through all streams of a sink. An earlier stream gets no more once a
//! later one is delivered, so numbers are stable. The log frees them from the oldest on;
//! `acked_ranges.rs` records which of the others are resolved.

use std::collections::BTreeMap;

use bytes::Bytes;
use forebay_buffer::{DeadLetterMessage, MessageHeader};
use forebay_log::Block;
use forebay_model::{
    CauseReport, DeadLetterEdit, DeadLetterFacts, DeadLetterFilter, DeadLetterQuery,
    DeadLetterReplay, DiscardReport, ReplayReport, SinkKey, Timestamp,
};

use super::acked_ranges::{ACKED_RANGES_MAX, log_failed};
use super::replay_state::AckedRanges;
use super::{SinkStream, TopicRegistry};
use crate::dead_letter::{
    BlockContent, DeadLetterError, DeadLetterReader, SELECTION_MAX, SelectedDeadLetters,
    StoredDeadLetter,
};
use forebay_ingest::streams::TOPIC_DEAD_LETTER_PREFIX;

/// Error name of a message that its provider rejected.
const MESSAGE_REJECTED: &str = "messageRejected";

type SelectedMessages = SelectedDeadLetters<DeadLetterMessage>;

impl BlockContent for DeadLetterMessage {
    fn decode(block: Block) -> Result<Vec<Self>, DeadLetterError> {
        Ok(Self::from_block(block).into_iter().collect())
    }

    fn facts(&self) -> DeadLetterFacts<'_> {
        let received = self.message.timestamp_ms.unwrap_or(self.at_ms);
        let message = format!(
            "topic \"{}\" rejected it {} times: {}",
            self.topic, self.attempts, self.error
        );
        DeadLetterFacts {
            received: Timestamp::from_millis(received),
            column: "value",
            error: MESSAGE_REJECTED,
            message: message.into(),
            body: self.message.payload.as_deref().unwrap_or_default(),
        }
    }

    fn edit(&mut self, edit: &DeadLetterEdit) -> Result<(), String> {
        if let Some(body) = &edit.body {
            self.message.payload = Some(Bytes::from(body.clone()));
        }
        let text = |value: &Option<Bytes>| {
            String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned()
        };
        let shown = self.message.headers.iter();
        let shown: BTreeMap<String, String> = shown
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect();
        if let Some(headers) = edit.headers.as_ref().filter(|h| **h != shown) {
            let header = |(name, value): (&String, &String)| -> MessageHeader {
                (name.as_str().into(), Some(Bytes::from(value.clone())))
            };
            self.message.headers = headers.iter().map(header).collect();
        }
        Ok(())
    }
}

impl TopicRegistry {
    /// Lists unresolved dead letters of a sink, at most `limit` and [`SELECTION_MAX`], with the last
    /// one that was read if there are more. Blocks: it reads files.
    pub fn list(
        &self,
        sink: &SinkKey,
        query: &DeadLetterQuery,
        limit: usize,
    ) -> Result<(Vec<StoredDeadLetter<DeadLetterMessage>>, Option<u64>), DeadLetterError> {
        let acked = self.cached_ranges(&self.shared_topic(sink), sink)?;
        let found = self.read(sink, &acked, |reader| reader.select(query, limit))?;
        Ok((found.dead_letters, found.more_after))
    }

    /// Counts unresolved dead letters by their causes. Blocks: it reads files.
    pub fn causes(
        &self,
        sink: &SinkKey,
        after: Option<u64>,
        filter: &DeadLetterFilter,
    ) -> Result<CauseReport, DeadLetterError> {
        let acked = self.cached_ranges(&self.shared_topic(sink), sink)?;
        self.read(sink, &acked, |reader| {
            reader.causes::<DeadLetterMessage>(after, filter)
        })
    }

    fn read<T>(
        &self,
        sink: &SinkKey,
        acked: &AckedRanges,
        read: impl FnOnce(&DeadLetterReader<'_>) -> Result<T, DeadLetterError>,
    ) -> Result<T, DeadLetterError> {
        let streams = self.dead_letter_streams(sink);
        let streams: Vec<_> = streams
            .iter()
            .map(|(base, s)| (*base, s.stats.id))
            .collect();
        read(&DeadLetterReader {
            log: &self.deps.log,
            streams: &streams,
            resolved: &acked.resolved,
        })
    }

    /// The dead letters of a replay, with their edits.
    fn select_for(
        &self,
        sink: &SinkKey,
        acked: &AckedRanges,
        replay: &DeadLetterReplay,
    ) -> Result<(SelectedMessages, Vec<(u64, String)>), DeadLetterError> {
        let mut found = self.read(sink, acked, |reader| {
            if replay.edits.is_empty() {
                reader.select(&replay.query, SELECTION_MAX)
            } else {
                reader.select_unresolved(replay.edits.keys().copied())
            }
        })?;
        let rejected = found.edit(&replay.edits);
        Ok((found, rejected))
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
        replay: &DeadLetterReplay,
    ) -> Result<ReplayReport, DeadLetterError> {
        let shared_topic = self.shared_topic(sink);
        let lock = shared_topic.lock();
        let acked = self.acked_ranges(&shared_topic, sink)?;
        let (found, rejected) = self.select_for(sink, &acked, replay)?;
        resolve(&acked, &found)?;
        let report = ReplayReport {
            replayed: found.dead_letters.len() as u64,
            rejected,
            skipped: found.skipped,
            rows: Vec::new(),
            more_after: found.more_after,
        };
        if found.dead_letters.is_empty() || replay.dry_run {
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
        query: &DeadLetterQuery,
    ) -> Result<DiscardReport, DeadLetterError> {
        let shared_topic = self.shared_topic(sink);
        let _lock = shared_topic.lock();
        let acked = self.acked_ranges(&shared_topic, sink)?;
        let found: SelectedMessages =
            self.read(sink, &acked, |reader| reader.select(query, SELECTION_MAX))?;
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
