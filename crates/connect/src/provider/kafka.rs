//! Apache Kafka, by librdkafka.
//!
//! The producer is idempotent, waits for all in-sync replicas and never gives up a message by
//! itself: as long as the process lives, messages of a partition stay in order and are delivered
//! exactly once, through any number of broker outages. After a crash, unacknowledged messages are
//! delivered again, unless [`KafkaConfig::transactions`] is on: then the cursor is committed in the
//! transaction of the messages, as the offset of a consumer group, and readers of committed
//! messages (`isolation.level=read_committed`) get each message once.

mod client_context;
mod error;
mod producer;
mod reports;
mod security;
mod settings;
mod transaction;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use forebay_buffer::{Partition, Provider, ProviderConnection, SendError};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

pub use self::security::{
    ClientIdentity, KafkaSecurity, KafkaTlsConfig, PemSource, SaslConfig, SaslMechanism,
};

pub use error::KafkaConfigError;

use client_context::KafkaClientConfig;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KafkaCompression {
    None,
    /// Fast; about half the size.
    #[default]
    Lz4,
    /// Slow; small.
    Gzip,
    /// Similar to lz4.
    Snappy,
}

impl KafkaCompression {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
        }
    }
}

#[derive(Clone)]
pub struct KafkaConfig {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// Default: lz4.
    pub compression: KafkaCompression,
    /// Time to wait for further messages of a request. Default 5 ms.
    pub linger: Duration,
    /// Commit the cursor in the transaction of the messages: exactly-once delivery for readers of
    /// committed messages. The cursor is stored as an offset of the partition's topic, so a group
    /// of topics must be named after one of them. Default: off.
    pub transactions: bool,
    /// Limit of a transaction, and of any other request to the broker. Default 30 s.
    pub timeout: Duration,
    /// Encryption and authentication. Default: none.
    pub security: KafkaSecurity,
    /// Additional librdkafka settings, such as `client.id`. They override the provider's, under any
    /// of their names.
    pub settings: BTreeMap<String, String>,
}

/// Only the names of the additional settings, as values may be secrets.
impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("compression", &self.compression)
            .field("linger", &self.linger)
            .field("transactions", &self.transactions)
            .field("timeout", &self.timeout)
            .field("security", &self.security)
            .field("settings", &self.settings.keys())
            .finish()
    }
}

impl KafkaConfig {
    /// Default settings for these brokers.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            compression: KafkaCompression::default(),
            linger: Duration::from_millis(5),
            transactions: false,
            timeout: Duration::from_secs(30),
            security: KafkaSecurity::default(),
            settings: BTreeMap::new(),
        }
    }
}

pub struct KafkaProvider {
    client: KafkaClientConfig,
    transactions: bool,
    timeout: Duration,
    name: String,
}

impl KafkaProvider {
    /// Validates the settings and reads the certificate files. The brokers need not be reachable.
    pub fn new(config: KafkaConfig) -> Result<Self, KafkaConfigError> {
        let client = config.client()?;
        // Doesn't connect; rejects unknown settings.
        client.config.create_native_config()?;
        let _probe: rdkafka::producer::BaseProducer = client.config.create()?;
        Ok(Self {
            client,
            transactions: config.transactions,
            timeout: config.timeout,
            name: format!("kafka {}", config.brokers),
        })
    }
}

impl KafkaConfig {
    /// Settings of every producer.
    fn client(&self) -> Result<KafkaClientConfig, KafkaConfigError> {
        let mut client = ClientConfig::new();
        client
            .set_log_level(RDKafkaLogLevel::Info)
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "forebay-buffer")
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // No timeout: a message that the client gave up could be overtaken by later ones.
            .set("message.timeout.ms", "0")
            // The buffer limits the messages in flight by its own settings.
            .set("queue.buffering.max.messages", "10000000")
            .set("queue.buffering.max.kbytes", "2097151")
            .set("linger.ms", self.linger.as_millis().to_string())
            .set("compression.type", self.compression.name())
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000");
        self.security.apply(&mut client)?;
        for (name, value) in settings::resolved(&self.settings)? {
            client.set(name, value);
        }
        let protocol = client.get("security.protocol").unwrap_or("plaintext");
        Ok(KafkaClientConfig {
            is_secured: !protocol.eq_ignore_ascii_case("plaintext"),
            token_file: match &self.security.sasl {
                Some(SaslConfig::Token { file }) => Some(file.clone()),
                _ => None,
            },
            config: client,
        })
    }
}

impl Provider for KafkaProvider {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self, partition: &Partition) -> Result<Box<dyn ProviderConnection>, SendError> {
        if self.transactions {
            let client = self.client.clone();
            let opened = transaction::TransactionalProducer::open(client, partition, self.timeout)?;
            return Ok(Box::new(opened));
        }
        Ok(Box::new(producer::StreamingProducer::open(&self.client)?))
    }

    fn keeps_cursor(&self) -> bool {
        self.transactions
    }
}
