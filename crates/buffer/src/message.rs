//! The message: what a program writes and a provider delivers.

use std::sync::Arc;

use bytes::Bytes;

/// A header of a message: a name and any bytes, or none.
pub type MessageHeader = (Arc<str>, Option<Bytes>);

/// A message. Key, payload and the values of headers are any bytes: newlines, NUL, UTF-8 or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Messages with the same key stay in order also where the provider splits a topic (a
    /// partition of Kafka).
    pub key: Option<Bytes>,
    /// The content. `None` is not empty: Kafka calls it a tombstone.
    pub payload: Option<Bytes>,
    /// Headers, in order; a name may come twice.
    pub headers: Vec<MessageHeader>,
    /// When it happened, in milliseconds since 1970. `None`: when it is written, or a few milliseconds
    /// before (the kernel's coarse clock).
    pub timestamp_ms: Option<i64>,
}

impl Message {
    /// A message without a key.
    #[must_use]
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: Some(payload.into()),
            ..Self::default()
        }
    }

    /// A message with a key.
    #[must_use]
    pub fn keyed(key: impl Into<Bytes>, payload: impl Into<Bytes>) -> Self {
        Self {
            key: Some(key.into()),
            ..Self::new(payload)
        }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Bytes>) -> Self {
        self.headers.push((Arc::from(name), Some(value.into())));
        self
    }

    /// With this time, in milliseconds since 1970.
    #[must_use]
    pub fn at(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// Bytes of key, payload and headers.
    #[must_use]
    pub fn len(&self) -> usize {
        let part = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter().map(|(n, v)| n.len() + part(v));
        part(&self.key) + part(&self.payload) + headers.sum::<usize>()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A message on its way to a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageDelivery {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number within the lane: a topic, or a group of topics. It is the same each time that
    /// the message is sent, so a provider may use it to recognise repeats.
    pub sequence: u64,
    /// The message; its time is always set.
    pub message: Message,
}
