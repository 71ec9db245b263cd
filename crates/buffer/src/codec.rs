//! Encoding of messages in blocks, as in `docs/formats/messages.md`.
//!
//! Numbers are LEB128 varints. An optional part of `n` bytes begins with `n + 1`, a missing one is
//! 0. A message of 100 bytes has an overhead of five bytes.

use std::sync::Arc;

use bytes::Bytes;

use crate::message::{Message, MessageDelivery};

/// Codec number of blocks of messages, version 1, uncompressed.
pub const CODEC_MESSAGES: u8 = 32;
/// Codec number of blocks of standalone messages: each has its absolute time, so that it can be
/// encoded before its block is known.
pub const CODEC_MESSAGES_STANDALONE: u8 = 34;

/// Appends a message of `topic` for a block of [`CODEC_MESSAGES_STANDALONE`]. A message without a
/// time gets `timestamp_ms` (milliseconds since 1970).
pub fn encode_standalone(out: &mut Vec<u8>, topic: &str, message: &Message, timestamp_ms: i64) {
    let at = message.timestamp_ms.unwrap_or(timestamp_ms);
    encode(out, Some(topic), message, at, 0);
}

/// Codec number of a block with one replayed dead letter: its number, then the message as in
/// [`CODEC_MESSAGES_STANDALONE`]. The number shows which dead letter was replayed.
pub const CODEC_MESSAGE_REPLAYED: u8 = 35;

/// Appends the payload of a block of [`CODEC_MESSAGE_REPLAYED`].
pub fn encode_replayed(
    out: &mut Vec<u8>,
    dead_letter: u64,
    topic: &str,
    message: &Message,
    timestamp_ms: i64,
) {
    varint(out, dead_letter);
    encode_standalone(out, topic, message, timestamp_ms);
}

/// Number of the dead letter that a block of [`CODEC_MESSAGE_REPLAYED`] replays; `None` for another
/// payload.
pub fn replayed_dead_letter(payload: &Bytes) -> Option<u64> {
    MessageFieldReader::new(payload.clone()).varint().ok()
}

/// Appends a message. `topic` is `None` when it is the name of the partition; `last_ms` is the time
/// of the previous message, 0 for the first.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    topic: Option<&str>,
    message: &Message,
    timestamp_ms: i64,
    last_ms: i64,
) {
    let ms = zigzag(timestamp_ms.wrapping_sub(last_ms));
    if topic.is_none() && ms < 0x80 && message.headers.is_empty() {
        // Fast path of most messages.
        let ms = u8::try_from(ms).unwrap_or(0);
        out.extend_from_slice(&[0, ms, 0]);
        part(out, message.key.as_deref());
        part(out, message.payload.as_deref());
        return;
    }
    part(out, topic.map(str::as_bytes));
    varint(out, ms);
    varint(out, message.headers.len() as u64);
    for (name, value) in &message.headers {
        varint(out, name.len() as u64);
        out.extend_from_slice(name.as_bytes());
        part(out, value.as_deref());
    }
    part(out, message.key.as_deref());
    part(out, message.payload.as_deref());
}

/// Upper bound of the bytes that [`encode`] appends for a message of this length.
pub(crate) fn encoded_len(topic: Option<&str>, message: &Message, len: usize) -> usize {
    let numbers = 10 * (5 + 2 * message.headers.len());
    topic.map_or(0, str::len) + len + numbers
}

fn part(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.push(0),
        Some(bytes) => {
            varint(out, bytes.len() as u64 + 1);
            out.extend_from_slice(bytes);
        }
    }
}

pub(crate) fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(u8::try_from(n & 0x7f).unwrap_or(0) | 0x80);
        n >>= 7;
    }
    out.push(u8::try_from(n).unwrap_or(0));
}

fn zigzag(n: i64) -> u64 {
    (n.cast_unsigned() << 1) ^ (n >> 63).cast_unsigned()
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -((n & 1).cast_signed())
}

/// A block whose content does not match its codec, although the log's checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the block holds no messages of version 1")]
pub(crate) struct MalformedMessage;

/// Reads the fields of a block; byte fields share its memory. Numbers are read in place, because
/// sharing costs a reference count and most fields are numbers.
pub(crate) struct MessageFieldReader {
    bytes: Bytes,
    at: usize,
}

impl MessageFieldReader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left().is_empty()
    }

    fn left(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub(crate) fn varint(&mut self) -> Result<u64, MalformedMessage> {
        let mut value = 0;
        for (i, &byte) in self.left().iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f)
                .checked_shl(u32::try_from(7 * i).map_err(|_| MalformedMessage)?)
                .ok_or(MalformedMessage)?;
            if byte < 0x80 {
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(MalformedMessage)
    }

    pub(crate) fn take(&mut self, len: u64) -> Result<Bytes, MalformedMessage> {
        let len = usize::try_from(len).map_err(|_| MalformedMessage)?;
        if len > self.left().len() {
            return Err(MalformedMessage);
        }
        let start = self.at;
        self.at += len;
        Ok(self.bytes.slice(start..self.at))
    }

    pub(crate) fn part(&mut self) -> Result<Option<Bytes>, MalformedMessage> {
        match self.varint()? {
            0 => Ok(None),
            n => self.take(n - 1).map(Some),
        }
    }

    pub(crate) fn text(&mut self, len: u64) -> Result<Arc<str>, MalformedMessage> {
        let bytes = self.take(len)?;
        std::str::from_utf8(&bytes)
            .map(Arc::from)
            .map_err(|_| MalformedMessage)
    }

    /// One message, and its topic unless that is the name of the partition.
    pub(crate) fn message(
        &mut self,
        last_ms: i64,
    ) -> Result<(Option<Arc<str>>, Message), MalformedMessage> {
        let topic = match self.varint()? {
            0 => None,
            n => Some(self.text(n - 1)?),
        };
        let timestamp_ms = last_ms.wrapping_add(unzigzag(self.varint()?));
        let count = self.varint()?;
        // A header takes at least two bytes: a wrong count must not allocate memory.
        if count > self.left().len() as u64 / 2 {
            return Err(MalformedMessage);
        }
        let mut headers = Vec::new();
        for _ in 0..count {
            let len = self.varint()?;
            headers.push((self.text(len)?, self.part()?));
        }
        let message = Message {
            headers,
            key: self.part()?,
            payload: self.part()?,
            timestamp_ms: Some(timestamp_ms),
        };
        Ok((topic, message))
    }
}

/// The messages of a block, in order.
pub(crate) struct MessageDecoder {
    fields: MessageFieldReader,
    partition_topic: Arc<str>,
    next_seq: u64,
    last_ms: i64,
    /// Whether each message has an absolute time.
    standalone: bool,
}

impl MessageDecoder {
    pub(crate) fn new(payload: Bytes, first_seq: u64, partition_topic: Arc<str>) -> Self {
        Self {
            fields: MessageFieldReader::new(payload),
            partition_topic,
            next_seq: first_seq,
            last_ms: 0,
            standalone: false,
        }
    }

    /// Decodes a block of [`CODEC_MESSAGES_STANDALONE`].
    pub(crate) fn standalone(payload: Bytes, first_seq: u64, partition_topic: Arc<str>) -> Self {
        Self {
            standalone: true,
            ..Self::new(payload, first_seq, partition_topic)
        }
    }

    /// Decodes a block of [`CODEC_MESSAGE_REPLAYED`].
    pub(crate) fn replayed(payload: Bytes, first_seq: u64, partition_topic: Arc<str>) -> Self {
        let mut decoder = Self::standalone(payload, first_seq, partition_topic);
        // After an invalid number decoding the message fails.
        decoder.fields.varint().ok();
        decoder
    }

    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }
}

impl Iterator for MessageDecoder {
    type Item = Result<MessageDelivery, MalformedMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.fields.is_empty() {
            return None;
        }
        let (topic, message) = match self.fields.message(self.last_ms) {
            Ok(read) => read,
            Err(e) => return Some(Err(e)),
        };
        if !self.standalone {
            self.last_ms = message.timestamp_ms.unwrap_or(0);
        }
        let sequence = self.next_seq;
        self.next_seq += 1;
        Some(Ok(MessageDelivery {
            topic: topic.unwrap_or_else(|| self.partition_topic.clone()),
            sequence,
            message,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Option<Bytes>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from))
    }

    fn message() -> impl Strategy<Value = (Option<String>, Message)> {
        let headers = proptest::collection::vec((".{0,5}", bytes()), 0..3);
        let parts = (
            proptest::option::of(".{0,9}"),
            any::<i64>(),
            headers,
            bytes(),
            bytes(),
        );
        parts.prop_map(|(topic, ms, headers, key, payload)| {
            let named = |(name, value): (String, _)| (Arc::from(name), value);
            let headers = headers.into_iter().map(named).collect();
            (
                topic,
                Message {
                    key,
                    payload,
                    headers,
                    timestamp_ms: Some(ms),
                },
            )
        })
    }

    proptest! {
        #[test]
        fn decoding_returns_the_encoded_messages(messages in proptest::collection::vec(message(), 0..8)) {
            let mut out = Vec::new();
            let mut last = 0;
            for (topic, message) in &messages {
                let at = message.timestamp_ms.unwrap_or(0);
                let before = out.len();
                encode(&mut out, topic.as_deref(), message, at, last);
                prop_assert!(out.len() - before <= encoded_len(topic.as_deref(), message, message.len()));
                last = at;
            }
            let decoded: Result<Vec<_>, _> = MessageDecoder::new(Bytes::from(out), 7, Arc::from("partition")).collect();
            let decoded = decoded.unwrap();
            prop_assert_eq!(decoded.len(), messages.len());
            for (i, (got, (topic, message))) in decoded.iter().zip(&messages).enumerate() {
                prop_assert_eq!(got.sequence, 7 + i as u64);
                prop_assert_eq!(&*got.topic, topic.as_deref().unwrap_or("partition"));
                prop_assert_eq!(&got.message, message);
            }
        }

        #[test]
        fn arbitrary_bytes_decode_to_messages_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let all: Vec<_> = MessageDecoder::new(Bytes::from(bytes), 0, Arc::from("t"))
                .take_while(Result::is_ok)
                .collect();
            prop_assert!(all.len() <= 64);
        }
    }

    #[test]
    fn standalone_messages_have_absolute_times() {
        let mut out = Vec::new();
        for (topic, at) in [("a", 1_700_000_000_000), ("b", 1_600_000_000_000)] {
            encode_standalone(&mut out, topic, &Message::keyed("k", "v"), at);
        }
        let read: Vec<_> = MessageDecoder::standalone(Bytes::from(out), 4, Arc::from("partition"))
            .map(Result::unwrap)
            .map(|d| (d.topic.to_string(), d.sequence, d.message.timestamp_ms))
            .collect();
        let wanted = [
            ("a".to_owned(), 4, Some(1_700_000_000_000)),
            ("b".to_owned(), 5, Some(1_600_000_000_000)),
        ];
        assert_eq!(read, wanted);
    }

    #[test]
    fn a_replayed_message_has_the_number_of_its_dead_letter() {
        let mut out = Vec::new();
        encode_replayed(
            &mut out,
            300,
            "a",
            &Message::keyed("k", "v"),
            1_700_000_000_000,
        );
        let block = Bytes::from(out);
        assert_eq!(replayed_dead_letter(&block), Some(300));
        let read: Vec<_> = MessageDecoder::replayed(block, 4, Arc::from("partition"))
            .map(Result::unwrap)
            .map(|d| (d.topic.to_string(), d.sequence, d.message.payload))
            .collect();
        assert_eq!(read, [("a".to_owned(), 4, Some(Bytes::from("v")))]);
        assert_eq!(replayed_dead_letter(&Bytes::from_static(b"\xff")), None);
    }

    /// This block was written by version 1.
    #[test]
    fn a_block_of_version_1_is_readable() {
        let block: &[u8] =
            b"\x00\x80\xa0\xca\xb9\xf8\x62\x01\x01h\x03hv\x02k\x04a\nb\x03xy\x02\x00\x00\x00";
        let read: Vec<_> = MessageDecoder::new(Bytes::from_static(block), 0, Arc::from("t"))
            .collect::<Result<_, _>>()
            .unwrap();
        let first = Message::keyed("k", "a\nb")
            .header("h", "hv")
            .at(1_699_999_999_488);
        let second = Message {
            timestamp_ms: Some(1_699_999_999_489),
            ..Message::default()
        };
        assert_eq!(read.len(), 2, "{read:?}");
        assert_eq!(read[0].message.key, first.key);
        assert_eq!(read[0].message.payload, first.payload);
        assert_eq!(read[0].message.headers, first.headers);
        assert_eq!(
            (&*read[1].topic, &read[1].message.payload),
            ("xy", &second.payload)
        );
    }
}
