//! One request: from its headers to its answer.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use forebay_record::body::{self, BodyMode};
use forebay_record::{Headers, RecordContext, RequestInfo};
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::answer::{self, Answer, Refusal};
use super::body::{BodyProblem, read};
use super::large::{RECORDS_AT_ONCE, Sent, not_divided};
use super::meters::Meters;
use super::report;
use super::said::Said;
use super::{Deps, HttpSourceConfig, cors, handshake, query};
use crate::budget::Charge;
use crate::dispatch::{Batch, BrokenRecords, Progress, SinkResult, Target};
use crate::quota::Seat;

/// What a request of HTTP/2 takes besides its headers and its body: a connection has many of them
/// at a time.
const STREAM_BYTES: u64 = 8 << 10;

/// What all requests of a listener share.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) config: HttpSourceConfig,
    pub(super) deps: Deps,
    pub(super) meters: Meters,
}

/// Where a path leads.
enum Route<'a> {
    Stream(&'a str, &'a str, &'a str),
    Health,
    Unknown,
}

fn route(path: &str) -> Route<'_> {
    if let Some(rest) = path.strip_prefix("/stream/") {
        let mut parts = rest.split('/');
        if let (Some(project), Some(source), Some(secret), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
            && !secret.is_empty()
        {
            return Route::Stream(project, source, secret);
        }
    }
    if path == "/health-check" {
        return Route::Health;
    }
    Route::Unknown
}

impl Receiver {
    /// Answers a request. Never fails: whatever is wrong is in the answer.
    pub(super) async fn receive(
        &self,
        peer: IpAddr,
        seat: &Seat,
        request: Request<Incoming>,
    ) -> Answer {
        let origin = request.headers().get(ORIGIN).cloned();
        let mut answer = self.answer(peer, seat, request).await;
        if let Some(origin) = origin {
            cors::allow(&mut answer, origin);
        }
        self.meters.request(answer.status().as_u16());
        answer
    }

    async fn answer(&self, peer: IpAddr, seat: &Seat, request: Request<Incoming>) -> Answer {
        let max = self.config.max_header_size;
        if head_size(&request) > max.0 {
            return Refusal::HeaderTooLarge(max).answer();
        }
        let method = request.method();
        let (project, source, secret) = match (route(request.uri().path()), method) {
            (Route::Unknown, _) => return self.refuse(request, Refusal::Route).await,
            (Route::Health, &Method::GET | &Method::HEAD) => return answer::health(),
            (Route::Health, &Method::OPTIONS) => {
                return cors::preflight(request.headers(), answer::HEALTH_METHODS);
            }
            (Route::Health, method) => {
                let refusal = Refusal::Method(method.clone(), answer::HEALTH_METHODS);
                return self.refuse(request, refusal).await;
            }
            (Route::Stream(project, source, secret), _) => (project, source, secret),
        };
        let target = match self.find(project, source, secret) {
            Ok(target) => target,
            Err(refusal) if method == Method::POST => return self.refuse(request, refusal).await,
            // Nothing is said of sources to whoever brings no record.
            Err(_) => return self.other(None, seat, request).await,
        };
        if !handshake::brings_record(&target, method) {
            return self.other(Some(&target), seat, request).await;
        }
        let started = Instant::now();
        let gate = &target.gate;
        let now = gate.at(started);
        let mut answer = match self.pass(&target, seat, &request, now) {
            Ok(()) => match handshake::answer(&target, &request) {
                None => match self.take(peer, &target, request, started).await {
                    Ok(answer) => answer,
                    Err(refusal) => refusal.answer(),
                },
                Some(Ok(answer)) => self.answered(request, answer).await,
                Some(Err(refusal)) => self.refuse(request, refusal).await,
            },
            Err(over) => self.refuse_over(seat, request, over).await,
        };
        gate.show(now, answer.headers_mut());
        answer
    }

    /// Where an address leads.
    fn find(&self, project: &str, source: &str, secret: &str) -> Result<Arc<Target>, Refusal> {
        let Ok(project) = project.parse::<u64>() else {
            return Err(Refusal::Project(project.to_owned()));
        };
        let found = match percent_decoded(source) {
            None => self.deps.dispatcher.find(project, source, secret),
            Some(source) => self.deps.dispatcher.find(project, &source, secret),
        };
        match found {
            None => Err(Refusal::Source),
            Some(target) if target.is_disabled() => Err(Refusal::Disabled),
            Some(target) => Ok(target),
        }
    }

    /// Answers a request that brings no record.
    async fn other(
        &self,
        target: Option<&Target>,
        seat: &Seat,
        request: Request<Incoming>,
    ) -> Answer {
        let methods = handshake::methods(target);
        let answered = target.and_then(|t| Some((t, handshake::answer(t, &request)?)));
        let Some((target, answered)) = answered else {
            if request.method() == Method::OPTIONS {
                return cors::preflight(request.headers(), methods);
            }
            let refusal = Refusal::Method(request.method().clone(), methods);
            return self.refuse(request, refusal).await;
        };
        let now = target.gate.at(Instant::now());
        let mut answer = match (self.pass(target, seat, &request, now), answered) {
            (Ok(()), Ok(answer)) => self.answered(request, answer).await,
            (Ok(()), Err(refusal)) => self.refuse(request, refusal).await,
            (Err(over), _) => self.refuse_over(seat, request, over).await,
        };
        target.gate.show(now, answer.headers_mut());
        answer
    }

    /// Reads the body, makes records of it and has them stored.
    async fn take(
        &self,
        peer: IpAddr,
        target: &Arc<Target>,
        request: Request<Incoming>,
        started: Instant,
    ) -> Result<Answer, Refusal> {
        let deadline = started + self.config.request_timeout.0;
        let is_stream = request.version() == Version::HTTP_2;
        let stream_bytes = is_stream.then(|| STREAM_BYTES + head_size(&request));
        let (mut head, mut body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default();
        let said = match Said::by(&head.headers, query) {
            Ok(said) => said,
            Err(refusal) => return Ok(self.refuse_body(&mut body, &refusal).await),
        };
        let verbose = query::is_verbose(query);
        let mut charge = self.deps.budget.charge(0);
        if stream_bytes.is_some_and(|bytes| !charge.grow(bytes)) {
            return Ok(self.refuse_body(&mut body, &Refusal::Busy).await);
        }
        let read = self.read_body(&mut body, target, deadline, &mut charge);
        let bytes = match read.await {
            Ok(bytes) => bytes,
            Err(refusal) => {
                // What there is no room for is not held while the rest of it comes in.
                drop(charge);
                return Ok(self.refuse_body(&mut body, &refusal).await);
            }
        };
        let read = Instant::now();
        if is_stream {
            add_host(&mut head.headers, &head.uri);
        }
        let info = Arc::new(RequestInfo {
            received: self.deps.clock.now(),
            client_ip: self.config.client_ip(peer, &head.headers),
            headers: Headers::from(head.headers),
        });
        let mode = said.mode;
        let mut sent = said.of(bytes, charge);
        if let Some(encoding) = &sent.encoding
            && let Some(small) =
                self.decode_small(&sent.bytes, encoding, target, &mut sent.charge)?
        {
            (sent.bytes, sent.encoding) = (small, None);
        }
        if (&sent.encoding, mode) == (&None, BodyMode::Single)
            && let Some(answer) = handshake::by_body(target, &sent.bytes)
        {
            return answer;
        }
        let how = (deadline, verbose);
        let answer = if sent.is_large() {
            // Rare enough to be kept out of the usual request's memory.
            Box::pin(self.take_large(target, info, sent, how)).await
        } else if mode == BodyMode::Single {
            let record = RecordContext::with_format(info, sent.bytes, sent.format);
            let batch = Batch {
                records: vec![record],
                broken: Vec::new(),
                charge: sent.charge,
            };
            let results = self.store(target, batch, deadline).await;
            results.map(|results| report::single(target, &results, verbose))
        } else {
            Box::pin(self.take_batch(target, info, sent, how)).await
        };
        self.meters.acknowledged(read.elapsed());
        answer
    }

    /// Has the records of a small request stored.
    async fn store(
        &self,
        target: &Target,
        batch: Batch,
        deadline: Instant,
    ) -> Result<Vec<SinkResult>, Refusal> {
        if !self.deps.budget.has_room() {
            return Err(Refusal::Busy);
        }
        let progress = Progress::default();
        let stored = self.deps.dispatcher.dispatch(target, batch, &progress);
        match timeout_at(deadline, stored).await {
            Ok(results) => Ok(results),
            Err(_) if progress.has_begun() => Err(Refusal::SlowDisk),
            Err(_) => Err(Refusal::NotInTime),
        }
    }

    async fn read_body(
        &self,
        body: &mut Incoming,
        target: &Target,
        deadline: Instant,
        charge: &mut Charge,
    ) -> Result<Bytes, Refusal> {
        let max = self.config.max_request_body_size;
        let limit = usize::try_from(max.0).unwrap_or(usize::MAX);
        let reading = read(body, limit, charge, &target.gate);
        let bytes = match timeout_at(deadline, reading).await {
            Err(_) => return Err(Refusal::SlowBody),
            Ok(Err(BodyProblem::TooLarge)) => return Err(Refusal::BodyTooLarge(max)),
            Ok(Err(BodyProblem::Busy)) => return Err(Refusal::Busy),
            Ok(Err(BodyProblem::Over(over))) => return Err(Refusal::Quota(over)),
            Ok(Err(BodyProblem::Gone)) => return Err(Refusal::Gone),
            Ok(Err(BodyProblem::Malformed(cause))) => return Err(Refusal::Malformed(cause)),
            Ok(Ok(bytes)) => bytes,
        };
        self.meters.body(bytes.len());
        Ok(bytes)
    }

    /// Takes a batch whose body is small.
    async fn take_batch(
        &self,
        target: &Arc<Target>,
        info: Arc<RequestInfo>,
        sent: Sent,
        how: (Instant, bool),
    ) -> Result<Answer, Refusal> {
        let max = self.config.max_records_per_batch;
        let parts = body::split(&sent.bytes, sent.mode, max);
        let parts = parts.map_err(|e| not_divided(&e))?;
        if parts.len() > RECORDS_AT_ONCE {
            return self.take_large(target, info, sent, how).await;
        }
        let parts = parts.iter();
        let records = parts.map(|part| RecordContext::of_batch(Arc::clone(&info), part));
        let records: Vec<_> = records.collect();
        let mut broken = BrokenRecords::default();
        for (index, record) in records.iter().enumerate() {
            broken.check(index, record);
        }
        let count = records.len();
        let batch = Batch {
            records,
            broken: broken.indices.clone(),
            charge: sent.charge,
        };
        let results = self.store(target, batch, how.0).await?;
        Ok(report::batch(target, count, &broken, &results))
    }
}

/// Bytes of the request line and headers, as HTTP/1.1 would write them.
fn head_size(request: &Request<Incoming>) -> u64 {
    let uri = request.uri();
    let target = uri.path_and_query().map_or(1, |p| p.as_str().len());
    let line = request.method().as_str().len() + target + " HTTP/1.1\r\n".len() + 1;
    let headers = request.headers().iter();
    let headers: usize = headers.map(|(n, v)| n.as_str().len() + v.len() + 4).sum();
    (line + headers + 2) as u64
}

/// HTTP/2 has the host in its target; columns shall find it where HTTP/1.1 has it.
fn add_host(headers: &mut HeaderMap, uri: &Uri) {
    if let Some(authority) = uri.authority()
        && !headers.contains_key(HOST)
        && let Ok(value) = HeaderValue::from_str(authority.as_str())
    {
        headers.insert(HOST, value);
    }
}

/// The text without its percent-escapes, if it has some that make sense; ids may have letters
/// beyond ASCII.
fn percent_decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [a, b, after @ ..]) => {
                let digit = |d: u8| char::from(d).to_digit(16);
                let byte = digit(*a)? * 16 + digit(*b)?;
                bytes.push(u8::try_from(byte).ok()?);
                rest = after;
            }
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_streams_only_with_all_three_parts() {
        assert!(matches!(
            route("/stream/1/s/x"),
            Route::Stream("1", "s", "x")
        ));
        for path in [
            "/stream/1/s/",
            "/stream/1/s/x/",
            "/stream/1/s",
            "/stream",
            "/",
            "/streams/1/s/x",
        ] {
            assert!(matches!(route(path), Route::Unknown), "{path}");
        }
        assert!(matches!(route("/health-check"), Route::Health));
    }

    #[test]
    fn escapes_in_ids_are_read() {
        assert_eq!(percent_decoded("%C5%82odz").as_deref(), Some("łodz"));
        for same in ["plain", "%", "%4", "%zz", "%ff"] {
            assert_eq!(percent_decoded(same).filter(|t| t != same), None, "{same}");
        }
    }
}
