//! Apache Kafka, through librdkafka.
//!
//! The producer is idempotent, waits for all in-sync replicas, and never gives a message up by
//! itself: so messages of a partition stay in order and come once, however often the broker goes
//! and comes back, as long as the process lives. After a crash of the process the unconfirmed ones
//! come twice, unless [`KafkaConfig::transactions`] is on: then the cursor is committed together
//! with the messages, as the offset of a consumer group, and readers of committed messages
//! (`isolation.level=read_committed`) see each message once.

mod producer;
mod transaction;

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_buffer::{Connection, Lane, Provider, SendError};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// How messages are compressed on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Fast, and about half the size.
    #[default]
    Lz4,
    /// Slow and small.
    Gzip,
    /// As lz4.
    Snappy,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
        }
    }
}

/// Settings of the provider.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `host:port`, several with commas between them.
    pub brokers: String,
    /// How messages are compressed. Default: lz4.
    pub compression: Compression,
    /// How long the client waits for more messages to send together. Default 5 ms.
    pub linger: Duration,
    /// Messages and the cursor are committed together: nothing comes twice for readers of committed
    /// messages. The cursor is kept as an offset of the lane's topic: a group of topics has to have
    /// the name of one of them. Default: off.
    pub transactions: bool,
    /// How long a transaction, and anything else that is asked of the broker, may take. Default
    /// 30 s.
    pub timeout: Duration,
    /// Further settings of librdkafka, by their names, such as `security.protocol` or
    /// `sasl.username`. They come last. Encryption needs a librdkafka that was built with it.
    pub settings: BTreeMap<String, String>,
}

impl KafkaConfig {
    /// The defaults, for these brokers.
    #[must_use]
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            compression: Compression::default(),
            linger: Duration::from_millis(5),
            transactions: false,
            timeout: Duration::from_secs(30),
            settings: BTreeMap::new(),
        }
    }
}

/// Sends messages to Kafka.
pub struct KafkaProvider {
    config: KafkaConfig,
    name: String,
}

impl KafkaProvider {
    /// Checks the settings. The brokers need not be there yet.
    ///
    /// # Errors
    /// What librdkafka says about a setting.
    pub fn new(config: KafkaConfig) -> Result<Self, KafkaError> {
        let provider = Self {
            name: format!("kafka {}", config.brokers),
            config,
        };
        // Makes no connection, and refuses what it does not know.
        provider.client().create_native_config()?;
        let _probe: rdkafka::producer::BaseProducer = provider.client().create()?;
        Ok(provider)
    }

    /// Settings of every producer.
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.config.brokers)
            .set("client.id", "forebay-buffer")
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // For ever: a message that the client gave up could be overtaken by those behind it.
            .set("message.timeout.ms", "0")
            // The buffer bounds what is under way, by its own settings.
            .set("queue.buffering.max.messages", "10000000")
            .set("queue.buffering.max.kbytes", "2097151")
            .set("linger.ms", self.config.linger.as_millis().to_string())
            .set("compression.type", self.config.compression.name())
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000");
        for (name, value) in &self.config.settings {
            client.set(name, value);
        }
        client
    }
}

impl Provider for KafkaProvider {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self, lane: &Lane) -> Result<Box<dyn Connection>, SendError> {
        let opened: Result<Box<dyn Connection>, KafkaError> = if self.config.transactions {
            let timeout = self.config.timeout;
            transaction::Transactional::open(self.client(), lane, timeout).map(|c| Box::new(c) as _)
        } else {
            producer::Streaming::open(&self.client()).map(|c| Box::new(c) as _)
        };
        opened.map_err(|e| SendError::retry(e.to_string()))
    }

    fn keeps_cursor(&self) -> bool {
        self.config.transactions
    }
}

/// What an error means for the message that had it.
fn send_error(error: &KafkaError) -> SendError {
    use RDKafkaErrorCode as Code;
    let for_good = matches!(
        error.rdkafka_error_code(),
        Some(
            Code::MessageSizeTooLarge
                | Code::InvalidMessage
                | Code::InvalidMessageSize
                | Code::InvalidTimestamp
                | Code::InvalidRecord
                | Code::InvalidTopic
                | Code::PolicyViolation
        )
    );
    if for_good {
        SendError::rejected(error.to_string())
    } else {
        SendError::retry(error.to_string())
    }
}
