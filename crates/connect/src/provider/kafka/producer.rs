//! Streaming producer: many batches in flight, each message acknowledged by a delivery report.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use forebay_buffer::{Ack, MessageBatch, MessageDelivery, ProviderConnection, SendError};
use parking_lot::Mutex;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, PurgeConfig, ThreadedProducer};

use super::client_context::KafkaClientContext;
use super::{KafkaClientConfig, failed, send_error};

/// Batches in flight: the buffer's limits on messages and bytes apply first.
const PIPELINE: usize = 1_000;
/// Interval of retries while the client's queue is full.
const QUEUE_FULL_POLL: Duration = Duration::from_millis(5);

/// Collects the delivery reports of a batch.
pub(super) struct DeliveryReports {
    /// Messages without a report. Reports are frequent, so the usual one takes no lock.
    outstanding: AtomicUsize,
    len: usize,
    failed: Mutex<Vec<(usize, SendError)>>,
    ack: Mutex<Option<Ack>>,
}

impl DeliveryReports {
    pub(super) fn new(len: usize, ack: Option<Ack>) -> Arc<Self> {
        Arc::new(Self {
            outstanding: AtomicUsize::new(len),
            len,
            failed: Mutex::default(),
            ack: Mutex::new(ack),
        })
    }

    pub(super) fn set(&self, index: usize, result: Result<(), SendError>) {
        if let Err(error) = result {
            self.failed.lock().push((index, error));
        }
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let ack = self.ack.lock().take();
        match ack {
            Some(ack) if self.failed.lock().is_empty() => ack.taken(),
            Some(ack) => ack.each(self.results()),
            None => {}
        }
    }

    /// The reports received so far.
    pub(super) fn results(&self) -> Vec<Result<(), SendError>> {
        let mut results = vec![Ok(()); self.len];
        for (index, error) in self.failed.lock().iter() {
            results[*index] = Err(error.clone());
        }
        results
    }
}

/// Message that a report belongs to.
pub(super) struct ReportSlot {
    pub(super) reports: Arc<DeliveryReports>,
    pub(super) index: usize,
}

fn headers(delivery: &MessageDelivery) -> OwnedHeaders {
    let headers = &delivery.message.headers;
    headers.iter().fold(
        OwnedHeaders::new_with_capacity(headers.len()),
        |all, (name, value)| {
            all.insert(Header {
                key: name,
                value: value.as_deref(),
            })
        },
    )
}

/// A message as a librdkafka record.
pub(super) fn record(
    delivery: &MessageDelivery,
    slot: Box<ReportSlot>,
) -> BaseRecord<'_, [u8], [u8], Box<ReportSlot>> {
    let mut record = BaseRecord::with_opaque_to(&delivery.topic, slot);
    if let Some(key) = &delivery.message.key {
        record = record.key(&key[..]);
    }
    if let Some(payload) = &delivery.message.payload {
        record = record.payload(&payload[..]);
    }
    if let Some(timestamp) = delivery.message.timestamp_ms {
        record = record.timestamp(timestamp);
    }
    if !delivery.message.headers.is_empty() {
        record = record.headers(headers(delivery));
    }
    record
}

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
