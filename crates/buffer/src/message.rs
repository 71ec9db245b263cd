//! Messages.

use std::sync::Arc;

use bytes::Bytes;

/// Name and optional value of a header.
pub type MessageHeader = (Arc<str>, Option<Bytes>);

/// A message. Key, payload and header values are arbitrary bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Messages with the same key stay in order where the provider splits a topic (Kafka
    /// partitions).
    pub key: Option<Bytes>,
    /// The content. `None` differs from empty: a tombstone in Kafka.
    pub payload: Option<Bytes>,
    /// Headers in order; names may repeat.
    pub headers: Vec<MessageHeader>,
    /// Event time in milliseconds since 1970. `None`: the time of the write, by the kernel's coarse
    /// clock (a few milliseconds early).
    pub timestamp_ms: Option<i64>,
}

impl Message {
    /// A message without a key.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: Some(payload.into()),
            ..Self::default()
        }
    }

    /// A message with a key.
    pub fn keyed(key: impl Into<Bytes>, payload: impl Into<Bytes>) -> Self {
        Self {
            key: Some(key.into()),
            ..Self::new(payload)
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Bytes>) -> Self {
        self.headers.push((Arc::from(name), Some(value.into())));
        self
    }

    /// Sets the time in milliseconds since 1970.
    #[must_use]
    pub fn at(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// Bytes of key, payload and headers.
    pub fn len(&self) -> usize {
        let part = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter().map(|(n, v)| n.len() + part(v));
        part(&self.key) + part(&self.payload) + headers.sum::<usize>()
    }

    /// Whether key, payload and headers are empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A message on its way to a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageDelivery {
    /// Topic of the message.
    pub topic: Arc<str>,
    /// Number of the message in its partition. Every repeat has the same sequence, so that a
    /// provider can recognize it.
    pub sequence: u64,
    /// The message, with its time set.
    pub message: Message,
}
