//! Delivery reports of the client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay_buffer::{Ack, MessageDelivery, SendError};

use parking_lot::Mutex;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

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

pub(super) fn headers(delivery: &MessageDelivery) -> OwnedHeaders {
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
