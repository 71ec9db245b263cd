//! Rejects requests: checks quotas, and disposes of bodies that are not needed.

use std::time::Duration;

use http::Request;
use http::header::EXPECT;
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, timeout_at};

use super::body::discard;
use super::receiver::RequestReceiver;
use super::response::{self, Rejection, SourceResponse};
use crate::dispatch::SourceRoute;
use crate::quota::{ConnectionPermit, QuotaExceeded};

/// A rejected body up to this size is read all the same, so that its connection can be reused.
const DISCARD_MAX: u64 = 256 << 10;

impl RequestReceiver {
    /// Checks the quotas of the source and of its project.
    pub(super) fn check_quotas(
        &self,
        route: &SourceRoute,
        connection_permit: &ConnectionPermit,
        request: &Request<Incoming>,
        now: u64,
    ) -> Result<(), QuotaExceeded> {
        connection_permit.acquire(&route.limiter)?;
        let length = request.body().size_hint().exact();
        // A body that is too large is not read.
        let length = length.filter(|l| *l <= self.config.max_request_body_size.0);
        route.limiter.admit(now, length)?;
        connection_permit.on_admitted();
        Ok(())
    }

    /// Rejects a request that is over a quota. A client that was just rejected and keeps sending is
    /// delayed, so that each of its connections takes next to no capacity from others.
    pub(super) async fn reject_over_quota(
        &self,
        connection_permit: &ConnectionPermit,
        request: Request<Incoming>,
        exceeded: QuotaExceeded,
    ) -> SourceResponse {
        let response = self.reject(request, Rejection::Quota(exceeded)).await;
        // The client got whole seconds; the real wait may be much shorter.
        let retry_after = Duration::from_secs(exceeded.wait.seconds());
        let pause = self.config.rejection_delay.0.min(retry_after);
        if connection_permit.on_rejected() && !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        response
    }

    /// Rejects a request without reading its body.
    pub(super) async fn reject(
        &self,
        request: Request<Incoming>,
        rejection: Rejection,
    ) -> SourceResponse {
        // A client that sends `Expect: 100-continue` need not send its body.
        let asks = request.headers().contains_key(EXPECT);
        let mut body = request.into_body();
        if asks && !body.is_end_stream() {
            let mut response = rejection.to_response();
            response::close(&mut response);
            return response;
        }
        self.reject_body(&mut body, &rejection).await
    }

    /// Responds to a request whose body does not matter.
    pub(super) async fn respond_early(
        &self,
        request: Request<Incoming>,
        mut response: SourceResponse,
    ) -> SourceResponse {
        let mut body = request.into_body();
        self.finish_body(&mut body, false, &mut response).await;
        response
    }

    /// Rejects a request whose body was not read to its end.
    pub(super) async fn reject_body(
        &self,
        body: &mut Incoming,
        rejection: &Rejection,
    ) -> SourceResponse {
        let mut response = rejection.to_response();
        tracing::debug!(
            status = response.status().as_u16(),
            error = rejection.error(),
            "request rejected"
        );
        // A client that was too slow is not waited for any longer.
        let is_late = matches!(
            rejection,
            Rejection::SlowBody | Rejection::ClientClosed | Rejection::Malformed(_)
        );
        self.finish_body(body, is_late, &mut response).await;
        response
    }

    /// Reads the rest of a body, or closes the connection after the response.
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
