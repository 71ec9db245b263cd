//! Refusing a request: what its quotas say, and what becomes of a body that nobody wants.

use std::time::Duration;

use http::Request;
use http::header::EXPECT;
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, timeout_at};

use super::answer::{self, Answer, Refusal};
use super::body::discard;
use super::receive::Receiver;
use crate::dispatch::Target;
use crate::quota::{Over, Seat};

/// A refused body up to this size is read all the same, so that its connection can go on.
const DISCARD_MAX: u64 = 256 << 10;

impl Receiver {
    /// Whether the quotas of the source and of its project have room for the request.
    pub(super) fn pass(
        &self,
        target: &Target,
        seat: &Seat,
        request: &Request<Incoming>,
        now: u64,
    ) -> Result<(), Over> {
        seat.take(&target.gate)?;
        let length = request.body().size_hint().exact();
        // What is too large is not read.
        let length = length.filter(|l| *l <= self.config.max_request_body_size.0);
        target.gate.pass(now, length)?;
        seat.passed();
        Ok(())
    }

    /// Refuses a request that is over a quota. A client that was refused just before and goes on
    /// regardless is made to wait for it: each of its connections then takes as good as nothing from
    /// others.
    pub(super) async fn refuse_over(
        &self,
        seat: &Seat,
        request: Request<Incoming>,
        over: Over,
    ) -> Answer {
        let answer = self.refuse(request, Refusal::Quota(over)).await;
        // What it was told is in whole seconds; what it would really have to wait may be much less.
        let told = Duration::from_secs(over.wait.seconds());
        let pause = self.config.refusal_delay.0.min(told);
        if seat.refused_again() && !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        answer
    }

    /// Refuses a request without having looked at its body.
    pub(super) async fn refuse(&self, request: Request<Incoming>, refusal: Refusal) -> Answer {
        // A client that asks before it sends its body does not have to.
        let asks = request.headers().contains_key(EXPECT);
        let mut body = request.into_body();
        if asks && !body.is_end_stream() {
            let mut answer = refusal.answer();
            answer::close(&mut answer);
            return answer;
        }
        self.refuse_body(&mut body, &refusal).await
    }

    /// Answers a request whose body does not matter.
    pub(super) async fn answered(&self, request: Request<Incoming>, mut answer: Answer) -> Answer {
        let mut body = request.into_body();
        self.finish_body(&mut body, false, &mut answer).await;
        answer
    }

    /// Refuses a request whose body is not read to its end.
    pub(super) async fn refuse_body(&self, body: &mut Incoming, refusal: &Refusal) -> Answer {
        let mut answer = refusal.answer();
        // Whoever was waited for is not waited for any longer.
        let is_late = matches!(
            refusal,
            Refusal::SlowBody | Refusal::Gone | Refusal::Malformed(_)
        );
        self.finish_body(body, is_late, &mut answer).await;
        answer
    }

    /// Reads what is left of a body, or else ends the connection with the answer.
    async fn finish_body(&self, body: &mut Incoming, is_late: bool, answer: &mut Answer) {
        let small = body.size_hint().upper().is_some_and(|n| n <= DISCARD_MAX) && !is_late;
        let deadline = Instant::now() + self.config.header_read_timeout.0;
        let max = usize::try_from(DISCARD_MAX).unwrap_or(usize::MAX);
        let drained = body.is_end_stream()
            || small && matches!(timeout_at(deadline, discard(body, max)).await, Ok(true));
        if !drained {
            answer::close(answer);
        }
    }
}
