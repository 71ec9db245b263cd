//! Streaming producer: many batches in flight, each message acknowledged by a delivery report.

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{Ack, MessageBatch, MessageDelivery, ProviderConnection, SendError};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer, PurgeConfig, ThreadedProducer};

use super::client_context::{KafkaClientConfig, KafkaClientContext};
use super::error::{failed, send_error};
use super::reports::{DeliveryReports, ReportSlot, record};

/// Batches in flight: the buffer's limits on messages and bytes apply first.
const PIPELINE: usize = 1_000;
/// Interval of retries while the client's queue is full.
const QUEUE_FULL_POLL: Duration = Duration::from_millis(5);

/// Producer of one partition.
pub(super) struct StreamingProducer {
    producer: ThreadedProducer<KafkaClientContext>,
    given_up: bool,
    /// Topic of the last message.
    topic: Option<Arc<str>>,
}

impl StreamingProducer {
    pub(super) fn open(client: &KafkaClientConfig) -> Result<Self, SendError> {
        let producer: ThreadedProducer<KafkaClientContext> = client
            .config
            .create_with_context(KafkaClientContext::new(client.token_file.clone()))
            .map_err(failed)?;
        if client.is_secured {
            KafkaClientContext::handshake(producer.client(), || {})?;
        }
        Ok(Self {
            producer,
            given_up: false,
            topic: None,
        })
    }

    /// Enqueues a message in the client; waits while its queue is full.
    fn produce(&self, delivery: &MessageDelivery, slot: Box<ReportSlot>) {
        let mut record = record(delivery, slot);
        loop {
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(QUEUE_FULL_POLL);
                }
                Err((error, back)) => {
                    let error = send_error(&error);
                    if !error.is_rejected() {
                        self.producer.context().mark_broken();
                    }
                    let slot = back.delivery_opaque;
                    return slot.reports.set(slot.index, Err(error));
                }
            }
        }
    }
}

impl ProviderConnection for StreamingProducer {
    fn send(&mut self, batch: &MessageBatch, ack: Ack) {
        self.topic = batch.messages().last().map(|m| Arc::clone(&m.topic));
        let reports = DeliveryReports::new(batch.messages().len(), Some(ack));
        for (index, delivery) in batch.messages().iter().enumerate() {
            let reports = reports.clone();
            let broken = self.given_up || self.producer.context().is_broken();
            if broken {
                let error = SendError::retry("an earlier message failed");
                reports.set(index, Err(error));
                continue;
            }
            self.produce(delivery, Box::new(ReportSlot { reports, index }));
        }
    }

    fn pipeline(&self) -> usize {
        PIPELINE
    }

    /// No message is delivered after this, except those already on the wire.
    fn abort(&mut self) {
        self.given_up = true;
        self.producer
            .purge(PurgeConfig::default().queue().inflight());
    }

    fn trouble(&self) -> Option<String> {
        let context = self.producer.context();
        match &self.topic {
            Some(topic) => context.topic_trouble(self.producer.client(), topic),
            None => context.trouble(),
        }
    }

    fn flush(&mut self, limit: Duration) {
        // Messages not flushed stay in flight and are awaited later.
        drop(self.producer.flush(limit));
    }

    fn close(self: Box<Self>) {
        self.producer
            .purge(PurgeConfig::default().queue().inflight());
    }
}
