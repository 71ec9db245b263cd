//! Checks the signature of a request before anything is done with its body.

use std::sync::Arc;

use bytes::Bytes;
use forebay_model::Timestamp;
use http::HeaderMap;
use tokio::time::{Instant, timeout_at};

use super::receiver::RequestReceiver;
use super::response::Rejection;
use crate::dispatch::SourceRoute;
use crate::fair_thread_pool::run_on_pool;

/// Bytes that are hashed on the request's thread at most: a quarter of a millisecond, for which
/// other connections wait.
const HASHED_AT_ONCE: usize = 256 << 10;

impl RequestReceiver {
    /// Checks the signature that each enabled branch of a source requires, if it does. The body is
    /// as sent: compressed, in any charset.
    pub(super) async fn check_signatures(
        &self,
        route: &SourceRoute,
        headers: &HeaderMap,
        body: &Bytes,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<(), Rejection> {
        for verifier in route.verifiers() {
            let claim = verifier.claim(headers);
            if body.len().saturating_mul(verifier.passes()) <= HASHED_AT_ONCE {
                verifier.check(claim, body, now)?;
                continue;
            }
            let large_pool = self.deps.dispatcher.large_pool();
            let permit = timeout_at(deadline, large_pool.acquire(route.fairness_key())).await;
            let permit = permit.map_err(|_| Rejection::DeadlineExceeded)?;
            let (verifier, body) = (Arc::clone(verifier), body.clone());
            let check = move || verifier.check(claim, &body, now);
            let (_permit, checked) = run_on_pool(permit, check).await;
            checked?;
        }
        Ok(())
    }
}
