//! The streaming way: many batches under way, each message confirmed by a delivery report.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay_buffer::{Batch, Connection, Delivery, Done, SendError};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, PurgeConfig, ThreadedProducer};

use super::ears::{Ears, lock};
use super::{Client, failed, send_error};

/// Batches under way: the buffer's bounds on messages and bytes come first.
const PIPELINE: usize = 1_000;
/// How long to wait for room in the client's queue, before looking again.
const ROOM: Duration = Duration::from_millis(5);

/// Gathers the reports of a batch's messages.
pub(super) struct Reports {
    /// Messages without a report. Reports are many, so the usual one costs no lock.
    left: AtomicUsize,
    len: usize,
    failed: Mutex<Vec<(usize, SendError)>>,
    done: Mutex<Option<Done>>,
}

impl Reports {
    pub(super) fn new(len: usize, done: Option<Done>) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(len),
            len,
            failed: Mutex::default(),
            done: Mutex::new(done),
        })
    }

    pub(super) fn set(&self, index: usize, result: Result<(), SendError>) {
        if let Err(error) = result {
            lock(&self.failed).push((index, error));
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let done = lock(&self.done).take();
        match done {
            Some(done) if lock(&self.failed).is_empty() => done.taken(),
            Some(done) => done.each(self.results()),
            None => {}
        }
    }

    /// What has come so far.
    pub(super) fn results(&self) -> Vec<Result<(), SendError>> {
        let mut results = vec![Ok(()); self.len];
        for (index, error) in lock(&self.failed).iter() {
            results[*index] = Err(error.clone());
        }
        results
    }
}

/// Whose report it is.
pub(super) struct Place {
    pub(super) reports: Arc<Reports>,
    pub(super) index: usize,
}

/// The headers of a message.
fn headers(delivery: &Delivery) -> OwnedHeaders {
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

/// A message as the client takes it.
pub(super) fn record(
    delivery: &Delivery,
    place: Box<Place>,
) -> BaseRecord<'_, [u8], [u8], Box<Place>> {
    let mut record = BaseRecord::with_opaque_to(&delivery.topic, place);
    if let Some(key) = &delivery.message.key {
        record = record.key(&key[..]);
    }
    if let Some(payload) = &delivery.message.payload {
        record = record.payload(&payload[..]);
    }
    if let Some(at) = delivery.message.timestamp_ms {
        record = record.timestamp(at);
    }
    if !delivery.message.headers.is_empty() {
        record = record.headers(headers(delivery));
    }
    record
}

/// A producer for one lane.
pub(super) struct Streaming {
    producer: ThreadedProducer<Ears>,
    given_up: bool,
    /// Of the message that was sent last.
    topic: Option<Arc<str>>,
}

impl Streaming {
    pub(super) fn open(client: &Client) -> Result<Self, SendError> {
        let producer: ThreadedProducer<Ears> = client
            .config
            .create_with_context(Ears::new(client.token_file.clone()))
            .map_err(failed)?;
        if client.is_secured {
            Ears::greet(producer.client(), || {})?;
        }
        Ok(Self {
            producer,
            given_up: false,
            topic: None,
        })
    }

    /// Hands a message to the client; waits while its queue is full.
    fn produce(&self, delivery: &Delivery, place: Box<Place>) {
        let mut record = record(delivery, place);
        loop {
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(ROOM);
                }
                Err((error, back)) => {
                    let error = send_error(&error);
                    if !error.is_rejected() {
                        self.producer.context().break_off();
                    }
                    let place = back.delivery_opaque;
                    return place.reports.set(place.index, Err(error));
                }
            }
        }
    }
}

impl Connection for Streaming {
    fn send(&mut self, batch: &Batch, done: Done) {
        self.topic = batch.messages().last().map(|m| Arc::clone(&m.topic));
        let reports = Reports::new(batch.messages().len(), Some(done));
        for (index, delivery) in batch.messages().iter().enumerate() {
            let reports = reports.clone();
            let broken = self.given_up || self.producer.context().is_broken();
            if broken {
                let error = SendError::retry("a message before it has failed");
                reports.set(index, Err(error));
                continue;
            }
            self.produce(delivery, Box::new(Place { reports, index }));
        }
    }

    fn pipeline(&self) -> usize {
        PIPELINE
    }

    /// Nothing of it can be taken after this, except what is on the wire already.
    fn abort(&mut self) {
        self.given_up = true;
        self.producer
            .purge(PurgeConfig::default().queue().inflight());
    }

    fn trouble(&self) -> Option<String> {
        let ears = self.producer.context();
        match &self.topic {
            Some(topic) => ears.trouble_of(self.producer.client(), topic),
            None => ears.trouble(),
        }
    }

    fn flush(&mut self, limit: Duration) {
        // What was not flushed is still under way, and waited for.
        drop(self.producer.flush(limit));
    }

    fn close(self: Box<Self>) {
        self.producer
            .purge(PurgeConfig::default().queue().inflight());
    }
}
