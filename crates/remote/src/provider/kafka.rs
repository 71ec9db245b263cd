//! Apache Kafka, through librdkafka.
//!
//! The producer is idempotent, waits for all in-sync replicas, and never gives a message up by
//! itself: so messages of a partition stay in order and come once, however often the broker goes
//! and comes back, as long as the process lives. After a crash of the process the unconfirmed ones
//! come twice, unless [`KafkaConfig::transactions`] is on: then the cursor is committed together
//! with the messages, as the offset of a consumer group, and readers of committed messages
//! (`isolation.level=read_committed`) see each message once.

mod client_context;
mod producer;
mod security;
mod settings;
mod transaction;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use forebay_buffer::{Partition, Provider, ProviderConnection, SendError};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

pub use self::security::{
    ClientIdentity, KafkaSecurity, KafkaTlsConfig, PemSource, SaslConfig, SaslMechanism,
};

/// How messages are compressed on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KafkaCompression {
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

/// Settings of the provider.
#[derive(Clone)]
pub struct KafkaConfig {
    /// `host:port`, several with commas between them.
    pub brokers: String,
    /// How messages are compressed. Default: lz4.
    pub compression: KafkaCompression,
    /// How long the client waits for more messages to send together. Default 5 ms.
    pub linger: Duration,
    /// Messages and the cursor are committed together: nothing comes twice for readers of committed
    /// messages. The cursor is kept as an offset of the lane's topic: a group of topics has to have
    /// the name of one of them. Default: off.
    pub transactions: bool,
    /// How long a transaction, and anything else that is asked of the broker, may take. Default
    /// 30 s.
    pub timeout: Duration,
    /// Encryption and authentication. Default: none.
    pub security: KafkaSecurity,
    /// Further settings of librdkafka, by their names, such as `client.id`. They come last, and take
    /// the place of ours under whichever of its names one is given.
    pub settings: BTreeMap<String, String>,
}

/// Of the further settings the names alone: a value may be a secret.
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
    /// The defaults, for these brokers.
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

/// A setting that can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct KafkaConfigError {
    /// Its name in librdkafka.
    pub setting: String,
    /// What is wrong with it. Never its value, which may be a secret.
    pub problem: String,
}

impl KafkaConfigError {
    fn new(setting: &str, problem: impl fmt::Display) -> Self {
        Self {
            setting: setting.to_owned(),
            problem: problem.to_string(),
        }
    }
}

impl From<KafkaError> for KafkaConfigError {
    fn from(error: KafkaError) -> Self {
        match error {
            KafkaError::ClientConfig(_, problem, name, _value) => Self::new(&name, problem),
            other => Self::new("kafka", other),
        }
    }
}

/// What a client is made of.
#[derive(Clone)]
struct KafkaClientConfig {
    config: ClientConfig,
    token_file: Option<PathBuf>,
    /// It may be refused.
    is_secured: bool,
}

/// Sends messages to Kafka.
pub struct KafkaProvider {
    client: KafkaClientConfig,
    transactions: bool,
    timeout: Duration,
    name: String,
}

impl KafkaProvider {
    /// Checks the settings, and reads the files of certificates. The brokers need not be there yet.
    ///
    /// # Errors
    /// Which setting can't be, and why.
    pub fn new(config: KafkaConfig) -> Result<Self, KafkaConfigError> {
        let client = config.client()?;
        // Makes no connection, and refuses what it does not know.
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
            // For ever: a message that the client gave up could be overtaken by those behind it.
            .set("message.timeout.ms", "0")
            // The buffer bounds what is under way, by its own settings.
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

/// No connection, for a reason that may pass.
fn failed(error: KafkaError) -> SendError {
    SendError::retry(error.to_string())
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
