//! Reads the messages of a partition's stream, block by block.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use forebay_log::{BlockReader, LogReadError, ReadItem};

use crate::codec::{
    CODEC_MESSAGE_REPLAYED, CODEC_MESSAGES, CODEC_MESSAGES_STANDALONE, MessageDecoder,
};
use crate::event::BufferEvent;
use crate::message::MessageDelivery;
use crate::partition::PartitionState;

/// Reads a partition; holds one block in memory.
pub(crate) struct PartitionReader {
    partition: Arc<PartitionState>,
    reader: Option<BlockReader>,
    block: Option<(MessageDecoder, u64)>,
    /// Sequence of the next message.
    next: u64,
    failed: bool,
}

impl PartitionReader {
    pub(crate) fn new(partition: Arc<PartitionState>, from: u64) -> Self {
        Self {
            partition,
            reader: None,
            block: None,
            next: from,
            failed: false,
        }
    }

    pub(crate) fn position(&self) -> u64 {
        self.next
    }

    /// Whether the last read failed.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    pub(crate) fn has_more(&self) -> bool {
        self.next < self.partition.end()
    }

    /// Skips the messages below `sequence`; returns their count.
    pub(crate) fn skip_to(&mut self, sequence: u64) -> u64 {
        let skipped = sequence.saturating_sub(self.next);
        if skipped > 0 {
            self.next = sequence;
            self.block = None;
            self.reader = None;
        }
        skipped
    }

    /// The available next messages, within the limits. The first is returned however large.
    pub(crate) fn take(&mut self, messages: usize, bytes: usize) -> Vec<MessageDelivery> {
        let mut taken = Vec::new();
        let mut size = 0;
        while taken.len() < messages && size < bytes {
            let Some(delivery) = self.next_message() else {
                break;
            };
            size += delivery.message.len();
            taken.push(delivery);
        }
        taken
    }

    fn next_message(&mut self) -> Option<MessageDelivery> {
        loop {
            let Some((decoder, end)) = &mut self.block else {
                if !self.next_block() {
                    return None;
                }
                continue;
            };
            let (end, at) = (*end, decoder.next_seq());
            match decoder.next() {
                Some(Ok(delivery)) if delivery.sequence < self.next => {}
                Some(Ok(delivery)) if delivery.sequence < end => {
                    self.next = delivery.sequence + 1;
                    return Some(delivery);
                }
                None if at == end => self.block = None,
                _ => {
                    // A right checksum and wrong content: another program wrote the block.
                    self.block = None;
                    self.lost(end);
                }
            }
        }
    }

    /// Reads the next block; `false` if there is none yet.
    fn next_block(&mut self) -> bool {
        self.failed = false;
        if self.reader.is_none() {
            match self
                .partition
                .shared
                .log
                .reader(self.partition.stream, self.next)
            {
                Ok(reader) => self.reader = Some(reader),
                Err(_) => return false,
            }
        }
        let item = self.reader.as_mut().and_then(Iterator::next);
        self.count_dropped();
        match item {
            None => false,
            Some(Ok(ReadItem::Block(block))) => {
                if block.first_seq > self.next {
                    self.lost(block.first_seq);
                }
                let end = block.next_seq();
                let topic = self.partition.name.clone();
                let decoder = match block.codec {
                    CODEC_MESSAGES => MessageDecoder::new(block.payload, block.first_seq, topic),
                    CODEC_MESSAGES_STANDALONE => {
                        MessageDecoder::standalone(block.payload, block.first_seq, topic)
                    }
                    CODEC_MESSAGE_REPLAYED => {
                        MessageDecoder::replayed(block.payload, block.first_seq, topic)
                    }
                    _ => {
                        self.lost(end);
                        return true;
                    }
                };
                self.block = Some((decoder, end));
                true
            }
            Some(Ok(ReadItem::Gap(gap))) => {
                self.lost(gap.first_seq + gap.records);
                true
            }
            Some(Err(error)) => {
                self.failed = true;
                if matches!(error, LogReadError::UnknownStream) {
                    self.reader = None;
                }
                tracing::warn!(partition = %self.partition.name, %error, "reading the buffer failed; retrying");
                false
            }
        }
    }

    /// Counts messages that were trimmed before they were read: they were dropped.
    fn count_dropped(&mut self) {
        let trimmed = self.partition.stats().map_or(0, |s| s.trimmed_to);
        let dropped = trimmed.saturating_sub(self.next);
        if dropped > 0 {
            self.next = trimmed;
            self.partition
                .meters
                .dropped
                .fetch_add(dropped, Ordering::Relaxed);
        }
    }

    fn lost(&mut self, until: u64) {
        let messages = until.saturating_sub(self.next);
        if messages == 0 {
            return;
        }
        let sequence = self.next;
        self.next = until;
        self.partition
            .meters
            .lost
            .fetch_add(messages, Ordering::Relaxed);
        self.partition.shared.report(BufferEvent::Lost {
            partition: self.partition.name.clone(),
            sequence,
            messages,
        });
    }
}
