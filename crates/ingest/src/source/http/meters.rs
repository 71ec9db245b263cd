//! Metric handles, so that a request does not look its metrics up by name.

use std::fmt;
use std::time::Duration;

use super::response::Rejection;
use crate::metrics::{ACK_SECONDS, BODY_BYTES, CONNECTIONS, CONNECTIONS_REJECTED, REQUESTS};

/// Statuses of responses.
const STATUSES: [u16; 19] = [
    200, 202, 400, 401, 404, 405, 408, 413, 415, 422, 429, 431, 499, 500, 501, 503, 504, 412, 409,
];

pub(super) struct HttpSourceMeters {
    requests: Vec<(u16, metrics::Counter)>,
    body_bytes: metrics::Counter,
    ack: metrics::Histogram,
    connections: metrics::Gauge,
    connections_rejected: metrics::Counter,
}

impl fmt::Debug for HttpSourceMeters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meters")
    }
}

impl HttpSourceMeters {
    pub(super) fn new() -> Self {
        Rejection::register_meters();
        let counter = |status: u16| metrics::counter!(REQUESTS, "status" => status.to_string());
        Self {
            requests: STATUSES.iter().map(|s| (*s, counter(*s))).collect(),
            body_bytes: metrics::counter!(BODY_BYTES),
            ack: metrics::histogram!(ACK_SECONDS),
            connections: metrics::gauge!(CONNECTIONS),
            connections_rejected: metrics::counter!(CONNECTIONS_REJECTED),
        }
    }

    pub(super) fn listener(&self) -> forebay_listener::ListenerMetrics {
        forebay_listener::ListenerMetrics {
            connections: self.connections.clone(),
            rejected: self.connections_rejected.clone(),
        }
    }

    pub(super) fn request(&self, status: u16) {
        match self.requests.iter().find(|(s, _)| *s == status) {
            Some((_, counter)) => counter.increment(1),
            None => metrics::counter!(REQUESTS, "status" => status.to_string()).increment(1),
        }
    }

    pub(super) fn body(&self, bytes: usize) {
        self.body_bytes.increment(bytes as u64);
    }

    pub(super) fn acknowledged(&self, after: Duration) {
        self.ack.record(after.as_secs_f64());
    }
}
