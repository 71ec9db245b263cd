//! Dead letters: messages that the provider rejected for good, with its error.
//!
//! They are a stream of the same log. A dead letter is on disk before the cursor passes its
//! message, so a message is in its partition or here, or in both after a crash in between.

use std::sync::Arc;

use bytes::Bytes;
use forebay_log::{Block, BlockReader, LogReadError, NewBlock, ReadItem};

use crate::codec::{self, MalformedMessage, MessageFieldReader};
use crate::delivery_loop::RetryEntry;
use crate::event::BufferEvent;
use crate::message::Message;
use crate::partition::PartitionState;

/// Codec number of blocks of dead letters, version 1.
pub const CODEC_DEAD_LETTER: u8 = 33;

/// A message that the provider rejected for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterMessage {
    /// Number of the dead letter in its stream.
    pub number: u64,
    /// Partition of the message.
    pub partition: Arc<str>,
    /// Topic of the message.
    pub topic: Arc<str>,
    /// Sequence of the message in its partition.
    pub sequence: u64,
    /// Delivery attempts.
    pub attempts: u32,
    /// The provider's last error.
    pub error: String,
    /// Time at which it became a dead letter, in milliseconds since 1970.
    pub at_ms: i64,
    /// The message.
    pub message: Message,
}

/// Writes a message to the dead letters and returns when it is on disk.
pub(crate) fn move_to_dlq(
    partition: &Arc<PartitionState>,
    retry: &RetryEntry,
) -> Result<(), String> {
    let shared = &partition.shared;
    let at_ms = shared.env.now_ms();
    let payload = encode(&partition.name, retry);
    let ticket = shared.log.append(NewBlock {
        stream: shared.dead,
        records: 1,
        codec: CODEC_DEAD_LETTER,
        raw_len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        first_at_ms: at_ms,
        last_at_ms: at_ms,
        payload: Bytes::from(payload),
    });
    let ticket = ticket.map_err(|e| e.to_string())?;
    ticket.wait().map_err(|e| e.to_string())?;
    partition
        .meters
        .dead
        .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    shared.report(BufferEvent::DeadLetter {
        partition: partition.name.clone(),
        sequence: retry.delivery.sequence,
        error: retry.error.to_string(),
    });
    Ok(())
}

fn encode(partition: &str, retry: &RetryEntry) -> Vec<u8> {
    let mut out = Vec::new();
    for text in [partition, retry.error.message.as_str()] {
        codec::varint(&mut out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
    codec::varint(&mut out, retry.delivery.sequence);
    codec::varint(&mut out, u64::from(retry.attempts));
    let message = &retry.delivery.message;
    let at = message.timestamp_ms.unwrap_or(0);
    codec::encode(&mut out, Some(&retry.delivery.topic), message, at, 0);
    out
}

impl DeadLetterMessage {
    /// Decodes a block of a stream of dead letters; `None` if it is not one of them.
    pub fn from_block(block: Block) -> Option<Self> {
        let is_dead_letter = block.codec == CODEC_DEAD_LETTER;
        is_dead_letter.then(|| Self::decode(block).ok()).flatten()
    }

    fn decode(block: Block) -> Result<Self, MalformedMessage> {
        let mut fields = MessageFieldReader::new(block.payload);
        let len = fields.varint()?;
        let partition = fields.text(len)?;
        let len = fields.varint()?;
        let error = fields.text(len)?.to_string();
        let sequence = fields.varint()?;
        let attempts = u32::try_from(fields.varint()?).map_err(|_| MalformedMessage)?;
        let (topic, message) = fields.message(0)?;
        Ok(Self {
            number: block.first_seq,
            topic: topic.unwrap_or_else(|| partition.clone()),
            partition,
            sequence,
            attempts,
            error,
            at_ms: block.first_at_ms,
            message,
        })
    }
}

/// Reads dead letters, oldest first, skipping unreadable ones.
pub(crate) struct DeadLetterReader {
    reader: Option<BlockReader>,
    from: u64,
}

impl DeadLetterReader {
    pub(crate) fn new(reader: Option<BlockReader>, from: u64) -> Self {
        Self { reader, from }
    }
}

impl Iterator for DeadLetterReader {
    type Item = Result<DeadLetterMessage, LogReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let block = match self.reader.as_mut()?.next()? {
                Err(error) => return Some(Err(error)),
                Ok(ReadItem::Gap(_)) => continue,
                Ok(ReadItem::Block(block)) => block,
            };
            if block.first_seq >= self.from
                && let Some(dead_letter) = DeadLetterMessage::from_block(block)
            {
                return Some(Ok(dead_letter));
            }
        }
    }
}
