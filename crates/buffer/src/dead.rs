//! Dead letters: messages that the provider refused for good, with what it said.
//!
//! They are a stream of the same log. A letter is on disk before the cursor passes its message: so a
//! message is in its lane, or here, or (after a crash in between) in both.

use std::sync::Arc;

use bytes::Bytes;
use forebay_log::{Item, NewBlock, ReadError, Reader};

use crate::deliver::Redo;
use crate::event::Event;
use crate::frame::{self, Fields, Malformed};
use crate::lane::LaneCore;
use crate::message::Message;

/// The codec number of blocks of dead letters, version 1.
pub const CODEC_DEAD_LETTER: u8 = 33;

/// A message that was refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number among the dead letters.
    pub number: u64,
    /// The lane that it was in.
    pub lane: Arc<str>,
    /// Its topic.
    pub topic: Arc<str>,
    /// Its sequence in the lane.
    pub sequence: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// What the provider said last.
    pub error: String,
    /// When it was set aside, in milliseconds since 1970.
    pub at_ms: i64,
    /// The message.
    pub message: Message,
}

/// Sets a message aside; returns when that is on disk.
pub(crate) fn bury(lane: &Arc<LaneCore>, redo: &Redo) -> Result<(), String> {
    let shared = &lane.shared;
    let at_ms = shared.env.now_ms();
    let payload = encode(&lane.name, redo);
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
    lane.meters
        .dead
        .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    shared.tell(Event::DeadLetter {
        lane: lane.name.clone(),
        sequence: redo.delivery.sequence,
        error: redo.error.to_string(),
    });
    Ok(())
}

fn encode(lane: &str, redo: &Redo) -> Vec<u8> {
    let mut out = Vec::new();
    for text in [lane, redo.error.message.as_str()] {
        frame::varint(&mut out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
    frame::varint(&mut out, redo.delivery.sequence);
    frame::varint(&mut out, u64::from(redo.attempts));
    let message = &redo.delivery.message;
    let at = message.timestamp_ms.unwrap_or(0);
    frame::encode(&mut out, Some(&redo.delivery.topic), message, at, 0);
    out
}

fn decode(number: u64, at_ms: i64, payload: Bytes) -> Result<DeadLetter, Malformed> {
    let mut fields = Fields::new(payload);
    let len = fields.varint()?;
    let lane = fields.text(len)?;
    let len = fields.varint()?;
    let error = fields.text(len)?.to_string();
    let sequence = fields.varint()?;
    let attempts = u32::try_from(fields.varint()?).map_err(|_| Malformed)?;
    let (topic, message) = fields.message(0)?;
    Ok(DeadLetter {
        number,
        topic: topic.unwrap_or_else(|| lane.clone()),
        lane,
        sequence,
        attempts,
        error,
        at_ms,
        message,
    })
}

/// Reads dead letters, oldest first. What can't be read is left out.
pub(crate) struct Letters {
    reader: Option<Reader>,
    from: u64,
}

impl Letters {
    pub(crate) fn new(reader: Option<Reader>, from: u64) -> Self {
        Self { reader, from }
    }
}

impl Iterator for Letters {
    type Item = Result<DeadLetter, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let block = match self.reader.as_mut()?.next()? {
                Err(error) => return Some(Err(error)),
                Ok(Item::Gap(_)) => continue,
                Ok(Item::Block(block)) => block,
            };
            if block.first_seq < self.from || block.codec != CODEC_DEAD_LETTER {
                continue;
            }
            if let Ok(letter) = decode(block.first_seq, block.first_at_ms, block.payload) {
                return Some(Ok(letter));
            }
        }
    }
}
