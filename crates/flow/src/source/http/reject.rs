//! Refusing a request: what its quotas say, and what becomes of a body that nobody wants.

use std::time::Duration;

use http::Request;
use http::header::EXPECT;
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, timeout_at};

use super::body::discard;
use super::receive::RequestReceiver;
use super::response::{self, Rejection, SourceResponse};
use crate::dispatch::SourceRoute;
use crate::quota::{ConnectionPermit, QuotaExceeded};

/// A refused body up to this size is read all the same, so that its connection can go on.
const DISCARD_MAX: u64 = 256 << 10;

impl RequestReceiver {
    /// Whether the quotas of the source and of its project have room for the request.
    pub(super) fn check_quotas(
        &self,
        route: &SourceRoute,
        connection_permit: &ConnectionPermit,
        request: &Request<Incoming>,
        now: u64,
    ) -> Result<(), QuotaExceeded> {
        connection_permit.acquire(&route.limiter)?;
        let length = request.body().size_hint().exact();
        // What is too large is not read.
        let length = length.filter(|l| *l <= self.config.max_request_body_size.0);
        route.limiter.admit(now, length)?;
        connection_permit.on_admitted();
        Ok(())
    }

    /// Refuses a request that is over a quota. A client that was refused just before and goes on
    /// regardless is made to wait for it: each of its connections then takes as good as nothing from
    /// others.
    pub(super) async fn reject_over_quota(
        &self,
        connection_permit: &ConnectionPermit,
        request: Request<Incoming>,
        exceeded: QuotaExceeded,
    ) -> SourceResponse {
        let response = self.reject(request, Rejection::Quota(exceeded)).await;
        // What it was told is in whole seconds; what it would really have to wait may be much less.
        let retry_after = Duration::from_secs(exceeded.wait.seconds());
        let pause = self.config.rejection_delay.0.min(retry_after);
        if connection_permit.on_rejected() && !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        response
    }

    /// Refuses a request without having looked at its body.
    pub(super) async fn reject(
        &self,
        request: Request<Incoming>,
        rejection: Rejection,
    ) -> SourceResponse {
        // A client that asks before it sends its body does not have to.
        let asks = request.headers().contains_key(EXPECT);
        let mut body = request.into_body();
        if asks && !body.is_end_stream() {
            let mut response = rejection.to_response();
            response::close(&mut response);
            return response;
        }
        self.reject_body(&mut body, &rejection).await
    }

    /// Answers a request whose body does not matter.
    pub(super) async fn respond_early(
        &self,
        request: Request<Incoming>,
        mut response: SourceResponse,
    ) -> SourceResponse {
        let mut body = request.into_body();
        self.finish_body(&mut body, false, &mut response).await;
        response
    }

    /// Refuses a request whose body is not read to its end.
    pub(super) async fn reject_body(
        &self,
        body: &mut Incoming,
        rejection: &Rejection,
    ) -> SourceResponse {
        let mut response = rejection.to_response();
        // Whoever was waited for is not waited for any longer.
        let is_late = matches!(
            rejection,
            Rejection::SlowBody | Rejection::ClientClosed | Rejection::Malformed(_)
        );
        self.finish_body(body, is_late, &mut response).await;
        response
    }

    /// Reads what is left of a body, or else ends the connection with the answer.
    async fn finish_body(&self, body: &mut Incoming, is_late: bool, response: &mut SourceResponse) {
        let small = body.size_hint().upper().is_some_and(|n| n <= DISCARD_MAX) && !is_late;
        let deadline = Instant::now() + self.config.header_read_timeout.0;
        let max = usize::try_from(DISCARD_MAX).unwrap_or(usize::MAX);
        let drained = body.is_end_stream()
            || small && matches!(timeout_at(deadline, discard(body, max)).await, Ok(true));
        if !drained {
            response::close(response);
        }
    }
}
