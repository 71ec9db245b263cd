//! Requests, and their responses.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use forebay_ingest::dispatch::{self, RecordBatch, RequestProgress, SinkResult};
use forebay_model::Clock;
use forebay_record::headers::RequestHeaders;
use forebay_record::{RecordContext, RequestInfo};

use super::definitions::{SECRET, SINKS};
use super::{Broken, World};
use crate::model::{Model, Outcome, Record};
use crate::node::Node;
use crate::table::Row;

impl World {
    /// Sends a request of some records.
    pub(super) fn send(&mut self, node: &mut Node) {
        if self.plan.broken == Broken::Store && self.random.percent(10) {
            self.around.meta.remember();
        }
        let request = Arc::new(RequestInfo {
            received: self.around.clock.now(),
            client_ip: [127, 0, 0, 1].into(),
            headers: RequestHeaders::from(http::HeaderMap::from_iter([(
                http::header::CONTENT_TYPE,
                http::HeaderValue::from_static("application/json"),
            )])),
        });
        let count = 1 + self.random.index(3);
        let first = self.next_record;
        let mut records = Vec::new();
        for _ in 0..count {
            let body = self.record();
            records.push(RecordContext::new(Arc::clone(&request), body.into()));
        }
        self.done.sent += count as u64;
        self.trace(&format!(
            "records {first} to {} are sent",
            first + count as u64 - 1
        ));
        let batch = RecordBatch {
            records,
            broken: Vec::new(),
            memory_permit: node.limiter.acquire_unchecked(0),
        };
        let ids: Vec<u64> = (first..self.next_record).collect();
        let (models, moment) = (Arc::clone(&self.models), Arc::clone(&self.moment));
        let lines = Arc::clone(&self.lines);
        let dispatcher = Arc::clone(&node.dispatcher);
        // It ends with the process, as a connection does.
        drop(tokio::spawn(async move {
            let results = match dispatcher.find(1, "s", SECRET) {
                Some(target) => {
                    let progress = RequestProgress::default();
                    dispatcher.dispatch(&target, batch, &progress).await
                }
                None => Vec::new(),
            };
            let now = moment.fetch_add(1, Ordering::SeqCst);
            let mut models = models.lock().unwrap();
            for (sink, result) in SINKS.iter().zip(padded(results)) {
                let model = models.get_mut(sink).unwrap();
                answer(model, &ids, result.as_ref(), now);
            }
            let outcomes: Vec<_> = SINKS
                .iter()
                .map(|s| models[s].records[&ids[0]].outcome)
                .collect();
            lines
                .lock()
                .unwrap()
                .push(format!("answer to {}: {outcomes:?}", ids[0]));
        }));
    }

    /// Creates a record; the models get what each sink makes of it.
    fn record(&mut self) -> Vec<u8> {
        let id = self.next_record;
        self.next_record += 1;
        let pieces = ["x", "\"", ",", "\n", "ž", "value", "\r\n", ";"];
        let mut text: String = (0..self.random.index(12))
            .map(|_| *self.random.pick(&pieces))
            .collect();
        if self.random.percent(3) {
            // Larger than what is joined with others on the way to staging, and hard to compress.
            let more = (0..1300).map(|_| format!("{:016x}", self.random.next_u64()));
            text.extend(more);
        }
        let body = if self.random.percent(15) {
            format!("{{\"id\":{id}}}")
        } else {
            format!(
                "{{\"id\":{id},\"v\":{}}}",
                serde_json::to_string(&text).unwrap()
            )
        };
        let sent = self.moment.load(Ordering::SeqCst);
        let mut models = self.models.lock().unwrap();
        let row: [Row; 2] = [
            vec![body.clone().into_bytes()],
            vec![id.to_string().into_bytes(), text.into_bytes()],
        ];
        for (sink, row) in SINKS.iter().zip(row) {
            let outcome = Outcome::Pending;
            let record = Record { sent, outcome, row };
            models.get_mut(sink).unwrap().records.insert(id, record);
        }
        body.into_bytes()
    }
}

fn padded(results: Vec<SinkResult>) -> impl Iterator<Item = Option<SinkResult>> {
    results
        .into_iter()
        .map(Some)
        .chain(std::iter::repeat_with(|| None))
}

/// Records the response that the sender received.
fn answer(model: &mut Model, ids: &[u64], result: Option<&SinkResult>, now: u64) {
    for (i, id) in ids.iter().enumerate() {
        let record = model.records.get_mut(id).unwrap();
        record.outcome = match result {
            None => Outcome::Rejected,
            Some(r) if r.rejected.indices.contains(&i) => Outcome::Rejected,
            Some(r) => match &r.outcome {
                dispatch::WriteOutcome::Processed => Outcome::Stored(now),
                dispatch::WriteOutcome::Accepted | dispatch::WriteOutcome::Unknown(_) => {
                    Outcome::Unknown
                }
                dispatch::WriteOutcome::Nothing | dispatch::WriteOutcome::Failed(_) => {
                    Outcome::Rejected
                }
            },
        };
    }
}
