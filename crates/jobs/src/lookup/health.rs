//! Health of the service.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use forebay_connect::keyed::KeyedTable;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::response::{JSON, build_response, unavailable};

/// Maximum age of a cached health check, so that a flood of checks does not reach the table.
const HEALTH_AGE: Duration = Duration::from_secs(1);

pub(super) struct LookupHealth {
    store: Arc<dyn KeyedTable>,
    last: Mutex<Option<(Instant, bool)>>,
}

impl LookupHealth {
    pub(super) fn new(store: Arc<dyn KeyedTable>) -> Self {
        Self {
            store,
            last: Mutex::new(None),
        }
    }

    pub(super) async fn respond(&self) -> Response<Body> {
        let mut last = self.last.lock().await;
        let is_well = match *last {
            Some((at, is_well)) if at.elapsed() < HEALTH_AGE => is_well,
            _ => {
                let checked = self.store.check().await;
                if let Err(error) = &checked {
                    tracing::warn!(%error, "health check of the table failed");
                }
                *last = Some((Instant::now(), checked.is_ok()));
                checked.is_ok()
            }
        };
        if is_well {
            let body = Bytes::from_static(b"{\"status\":\"ok\"}");
            build_response(StatusCode::OK, JSON, body)
        } else {
            unavailable()
        }
    }
}
