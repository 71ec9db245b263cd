//! Transactional producer: a batch and the cursor behind it are committed together.
//!
//! The cursor is the committed offset of a consumer group without members, for the partition's
//! topic, partition 0. Opening a connection ends any transaction left by an earlier one and only
//! then reads the cursor: so it is the last committed one, and no earlier connection can commit
//! another.

use std::time::Duration;

use forebay_buffer::{Ack, MessageBatch, Partition, ProviderConnection, SendError};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer, PurgeConfig};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::client_context::{KafkaClientConfig, KafkaClientContext};
use super::error;
use super::reports::{DeliveryReports, ReportSlot, record};

/// Settings that every client of the cluster needs.
const CONNECTION: &[&str] = &[
    "bootstrap.servers",
    "broker.address.family",
    "client.id",
    "enable.sasl.oauthbearer.unsecure.jwt",
    "enable.ssl.certificate.verification",
    "sasl.mechanisms",
    "sasl.oauthbearer.config",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.curves.list",
    "ssl.crl.location",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.sigalgs.list",
];

/// A transactional producer of one partition, and the consumer group that stores its cursor.
pub(super) struct TransactionalProducer {
    producer: BaseProducer<KafkaClientContext>,
    consumer: BaseConsumer<KafkaClientContext>,
    topic: String,
    timeout: Duration,
    broken: bool,
}

impl TransactionalProducer {
    pub(super) fn open(
        mut client: KafkaClientConfig,
        partition: &Partition,
        timeout: Duration,
    ) -> Result<Self, SendError> {
        let id = format!(
            "forebay-buffer-{:016x}-{}",
            partition.buffer, partition.name
        );
        // By name: a list of all settings would omit the passwords.
        let mut consumer = ClientConfig::new();
        for name in CONNECTION {
            if let Some(value) = client.config.get(name) {
                consumer.set(*name, value);
            }
        }
        consumer
            .set("group.id", &id)
            .set("enable.auto.commit", "false");
        client.config.set("transactional.id", &id);
        client
            .config
            .set("transaction.timeout.ms", timeout.as_millis().to_string());
        let context = || KafkaClientContext::new(client.token_file.clone());
        let producer: BaseProducer<KafkaClientContext> = client
            .config
            .create_with_context(context())
            .map_err(error::failed)?;
        if client.is_secured {
            KafkaClientContext::handshake(producer.client(), || producer.poll(Duration::ZERO))?;
        }
        let ready = producer.init_transactions(timeout);
        ready.map_err(|error| {
            let trouble = producer.context().trouble();
            SendError::retry(trouble.unwrap_or_else(|| error.to_string()))
        })?;
        let consumer: BaseConsumer<KafkaClientContext> = consumer
            .create_with_context(context())
            .map_err(error::failed)?;
        if client.is_secured {
            // Without a subscription, polling serves token refreshes only.
            KafkaClientContext::handshake(consumer.client(), || {
                drop(consumer.poll(Duration::ZERO))
            })?;
        }
        Ok(Self {
            producer,
            consumer,
            topic: partition.name.to_string(),
            timeout,
            broken: false,
        })
    }

    /// Commits one transaction. After an error nothing was committed, or the outcome is unknown and
    /// the next connection reads the cursor.
    fn commit(
        &self,
        batch: &MessageBatch,
        reports: &std::sync::Arc<DeliveryReports>,
    ) -> Result<(), KafkaError> {
        self.producer.begin_transaction()?;
        for (index, delivery) in batch.messages().iter().enumerate() {
            let reports = reports.clone();
            let mut next = record(delivery, Box::new(ReportSlot { reports, index }));
            loop {
                match self.producer.send(next) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                        next = back;
                        self.producer.poll(Duration::from_millis(5));
                    }
                    Err((error, back)) => {
                        let slot = back.delivery_opaque;
                        slot.reports.set(slot.index, Err(error::send_error(&error)));
                        return Err(error);
                    }
                }
            }
        }
        self.producer.flush(self.timeout)?;
        if reports.results().iter().any(Result::is_err) {
            return Err(KafkaError::MessageProduction(RDKafkaErrorCode::PurgeQueue));
        }
        let group = self.consumer.group_metadata().ok_or(KafkaError::Canceled)?;
        let mut offsets = TopicPartitionList::new();
        let cursor = i64::try_from(batch.next_sequence()).unwrap_or(i64::MAX);
        offsets.add_partition_offset(&self.topic, 0, Offset::Offset(cursor))?;
        self.producer
            .send_offsets_to_transaction(&offsets, &group, self.timeout)?;
        self.producer.commit_transaction(self.timeout)
    }
}

impl ProviderConnection for TransactionalProducer {
    fn send(&mut self, batch: &MessageBatch, ack: Ack) {
        if self.broken {
            return ack.failed(&SendError::retry("the connection failed earlier"));
        }
        let reports = DeliveryReports::new(batch.messages().len(), None);
        let Err(error) = self.commit(batch, &reports) else {
            return ack.taken();
        };
        let topic = batch.messages().last().map_or("", |m| &*m.topic);
        let context = self.producer.context();
        let text = context
            .topic_trouble(self.producer.client(), topic)
            .unwrap_or_else(|| error.to_string());
        // The next connection finds out whether this was committed. After a rejected message the
        // transaction can be aborted and this connection reused.
        self.producer
            .purge(PurgeConfig::default().queue().inflight());
        self.producer.poll(Duration::ZERO);
        let rejected = reports
            .results()
            .iter()
            .any(|r| r.as_ref().is_err_and(SendError::is_rejected));
        let aborted = self.producer.abort_transaction(self.timeout);
        self.broken = !rejected || aborted.is_err();
        let again = |result: Result<(), SendError>| match result {
            Err(error) if error.is_rejected() => Err(error),
            _ => Err(SendError::retry(text.clone())),
        };
        ack.each(reports.results().into_iter().map(again).collect());
    }

    /// The last committed cursor.
    fn cursor(&mut self) -> Result<Option<u64>, SendError> {
        use RDKafkaErrorCode::{UnknownTopic, UnknownTopicOrPartition};
        let failed = |e: KafkaError| match e.rdkafka_error_code() {
            Some(UnknownTopic | UnknownTopicOrPartition) => {
                SendError::retry(format!("unknown topic {}", self.topic))
            }
            _ => SendError::retry(format!("can't read the cursor: {e}")),
        };
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition(&self.topic, 0);
        let offsets = self
            .consumer
            .committed_offsets(partitions, self.timeout)
            .map_err(failed)?;
        let found = offsets.find_partition(&self.topic, 0);
        let Some(found) = found else {
            return Ok(None);
        };
        found.error().map_err(failed)?;
        match found.offset() {
            Offset::Offset(cursor) => Ok(u64::try_from(cursor).ok()),
            _ => Ok(None),
        }
    }

    fn trouble(&self) -> Option<String> {
        self.producer.context().trouble()
    }

    fn close(self: Box<Self>) {
        self.producer
            .purge(PurgeConfig::default().queue().inflight());
    }
}
