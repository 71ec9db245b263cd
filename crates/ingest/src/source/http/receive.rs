//! Handles one request, from its headers to its response.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use forebay_listener::head_size;
use forebay_record::body::{self, BodyMode};
use forebay_record::{RecordContext, RequestHeaders, RequestInfo};
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::body::{BodyReadError, read};
use super::body_declaration::BodyDeclaration;
use super::large_request::{RECORDS_AT_ONCE, split_rejection};
use super::received_body::ReceivedBody;
use super::receiver::RequestReceiver;
use super::report;
use super::response::{self, Rejection, SourceResponse};
use super::{cors, handshake, query};
use crate::dispatch::{BrokenRecords, RecordBatch, RequestProgress, SinkResult, SourceRoute};
use crate::memory_limiter::MemoryPermit;
use crate::quota::ConnectionPermit;

/// Memory of an HTTP/2 request besides its headers and its body: a connection has many of them at a
/// time.
const STREAM_BYTES: u64 = 8 << 10;

/// Target of a path.
enum RequestRoute<'a> {
    Stream(&'a str, &'a str, &'a str),
    Health,
    Unknown,
}

fn route(path: &str) -> RequestRoute<'_> {
    if let Some(rest) = path.strip_prefix("/stream/") {
        let mut parts = rest.split('/');
        if let (Some(project), Some(source), Some(secret), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
            && !secret.is_empty()
        {
            return RequestRoute::Stream(project, source, secret);
        }
    }
    if path == "/health-check" {
        return RequestRoute::Health;
    }
    RequestRoute::Unknown
}

impl RequestReceiver {
    /// Responds to a request. Never fails: errors are responses.
    pub(super) async fn receive(
        &self,
        peer: IpAddr,
        connection_permit: &ConnectionPermit,
        request: Request<Incoming>,
    ) -> SourceResponse {
        let origin = request.headers().get(ORIGIN).cloned();
        let mut response = self.handle(peer, connection_permit, request).await;
        if let Some(origin) = origin {
            cors::allow(&mut response, origin);
        }
        self.meters.request(response.status().as_u16());
        response
    }

    async fn handle(
        &self,
        peer: IpAddr,
        connection_permit: &ConnectionPermit,
        request: Request<Incoming>,
    ) -> SourceResponse {
        let max = self.config.max_header_size;
        if head_size(&request) > max.0 {
            return Rejection::HeaderTooLarge(max).to_response();
        }
        let method = request.method();
        let (project, source, secret) = match (route(request.uri().path()), method) {
            (RequestRoute::Unknown, _) => return self.reject(request, Rejection::Route).await,
            (RequestRoute::Health, &Method::GET | &Method::HEAD) => return response::health(),
            (RequestRoute::Health, &Method::OPTIONS) => {
                return cors::preflight(request.headers(), response::HEALTH_METHODS);
            }
            (RequestRoute::Health, method) => {
                let rejection = Rejection::Method(method.clone(), response::HEALTH_METHODS);
                return self.reject(request, rejection).await;
            }
            (RequestRoute::Stream(project, source, secret), _) => (project, source, secret),
        };
        let route = match self.find(project, source, secret) {
            Ok(route) => route,
            Err(rejection) if method == Method::POST => {
                return self.reject(request, rejection).await;
            }
            // A request without a record learns nothing about sources.
            Err(_) => {
                return self
                    .handle_without_record(None, connection_permit, request)
                    .await;
            }
        };
        if !handshake::brings_record(&route, method) {
            return self
                .handle_without_record(Some(&route), connection_permit, request)
                .await;
        }
        let started = Instant::now();
        let limiter = &route.limiter;
        let now = limiter.nanos_at(started);
        let mut response = match self.check_quotas(&route, connection_permit, &request, now) {
            Ok(()) => match handshake::respond(&route, &request) {
                None => match self.accept(peer, &route, request, started).await {
                    Ok(response) => response,
                    Err(rejection) => rejection.to_response(),
                },
                Some(Ok(response)) => self.respond_early(request, response).await,
                Some(Err(rejection)) => self.reject(request, rejection).await,
            },
            Err(exceeded) => {
                self.reject_over_quota(connection_permit, request, exceeded)
                    .await
            }
        };
        limiter.write_headers(now, response.headers_mut());
        response
    }

    /// Finds the route of an address.
    fn find(
        &self,
        project: &str,
        source: &str,
        secret: &str,
    ) -> Result<Arc<SourceRoute>, Rejection> {
        let Ok(project) = project.parse::<u64>() else {
            return Err(Rejection::Project(project.to_owned()));
        };
        let found = match percent_decoded(source) {
            None => self.deps.dispatcher.find(project, source, secret),
            Some(source) => self.deps.dispatcher.find(project, &source, secret),
        };
        match found {
            None => Err(Rejection::Source),
            Some(route) if route.is_disabled() => Err(Rejection::Disabled),
            Some(route) => Ok(route),
        }
    }

    /// Responds to a request without a record.
    async fn handle_without_record(
        &self,
        route: Option<&SourceRoute>,
        connection_permit: &ConnectionPermit,
        request: Request<Incoming>,
    ) -> SourceResponse {
        let methods = handshake::methods(route);
        let answered = route.and_then(|t| Some((t, handshake::respond(t, &request)?)));
        let Some((route, answered)) = answered else {
            if request.method() == Method::OPTIONS {
                return cors::preflight(request.headers(), methods);
            }
            let rejection = Rejection::Method(request.method().clone(), methods);
            return self.reject(request, rejection).await;
        };
        let now = route.limiter.nanos_at(Instant::now());
        let mut response = match (
            self.check_quotas(route, connection_permit, &request, now),
            answered,
        ) {
            (Ok(()), Ok(response)) => self.respond_early(request, response).await,
            (Ok(()), Err(rejection)) => self.reject(request, rejection).await,
            (Err(exceeded), _) => {
                self.reject_over_quota(connection_permit, request, exceeded)
                    .await
            }
        };
        route.limiter.write_headers(now, response.headers_mut());
        response
    }

    /// Reads the body, splits it into records and stores them.
    #[tracing::instrument(name = "request", level = "debug", skip_all, fields(
        project = %route.project,
        source = %route.source,
    ))]
    async fn accept(
        &self,
        peer: IpAddr,
        route: &Arc<SourceRoute>,
        request: Request<Incoming>,
        started: Instant,
    ) -> Result<SourceResponse, Rejection> {
        let deadline = started + self.config.request_timeout.0;
        let is_stream = request.version() == Version::HTTP_2;
        let stream_bytes = is_stream.then(|| STREAM_BYTES + head_size(&request));
        let (mut head, mut body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default();
        let declaration = match BodyDeclaration::from_headers(&head.headers, query) {
            Ok(declaration) => declaration,
            Err(rejection) => return Ok(self.reject_body(&mut body, &rejection).await),
        };
        let verbose = query::is_verbose(query);
        let mut memory_permit = self.deps.memory_limiter.acquire_unchecked(0);
        if stream_bytes.is_some_and(|bytes| !memory_permit.try_grow(bytes)) {
            return Ok(self.reject_body(&mut body, &Rejection::Busy).await);
        }
        let read = self.read_body(&mut body, route, deadline, &mut memory_permit);
        let bytes = match read.await {
            Ok(bytes) => bytes,
            Err(rejection) => {
                // Release the memory of a body that does not fit while the rest of it arrives.
                drop(memory_permit);
                return Ok(self.reject_body(&mut body, &rejection).await);
            }
        };
        let read = Instant::now();
        let received = self.deps.clock.now();
        if route.verifiers().next().is_some() {
            // Most sources require none: it does not enlarge their request's future.
            let check = self.check_signatures(route, &head.headers, &bytes, received, deadline);
            Box::pin(check).await?;
        }
        if is_stream {
            add_host(&mut head.headers, &head.uri);
        }
        let info = Arc::new(RequestInfo {
            received,
            client_ip: self.config.client_ip(peer, &head.headers),
            headers: RequestHeaders::from(head.headers),
        });
        let mode = declaration.mode;
        let mut sent = declaration.into_received(bytes, memory_permit);
        if let Some(encoding) = &sent.encoding
            && let Some(small) =
                self.decode_small(&sent.bytes, encoding, route, &mut sent.memory_permit)?
        {
            (sent.bytes, sent.encoding) = (small, None);
        }
        if (&sent.encoding, mode) == (&None, BodyMode::Single)
            && let Some(response) = handshake::respond_to_body(route, &sent.bytes)
        {
            return response;
        }
        let how = (deadline, verbose);
        let response = if sent.is_large() {
            // Too rare to enlarge the usual request's future.
            Box::pin(self.accept_large(route, info, sent, how)).await
        } else if mode == BodyMode::Single {
            let record = RecordContext::with_format(info, sent.bytes, sent.format);
            let batch = RecordBatch {
                records: vec![record],
                broken: Vec::new(),
                memory_permit: sent.memory_permit,
            };
            let results = self.store(route, batch, deadline).await;
            results.map(|results| report::single(route, &results, verbose))
        } else {
            Box::pin(self.accept_batch(route, info, sent, how)).await
        };
        self.meters.acknowledged(read.elapsed());
        response
    }

    /// Stores the records of a small request.
    async fn store(
        &self,
        route: &SourceRoute,
        batch: RecordBatch,
        deadline: Instant,
    ) -> Result<Vec<SinkResult>, Rejection> {
        if !self.deps.memory_limiter.has_capacity() {
            return Err(Rejection::Busy);
        }
        let progress = RequestProgress::default();
        let stored = self.deps.dispatcher.dispatch(route, batch, &progress);
        match timeout_at(deadline, stored).await {
            Ok(results) => Ok(results),
            Err(_) if progress.has_begun() => Err(Rejection::SlowDisk),
            Err(_) => Err(Rejection::DeadlineExceeded),
        }
    }

    async fn read_body(
        &self,
        body: &mut Incoming,
        route: &SourceRoute,
        deadline: Instant,
        memory_permit: &mut MemoryPermit,
    ) -> Result<Bytes, Rejection> {
        let max = self.config.max_request_body_size;
        let limit = usize::try_from(max.0).unwrap_or(usize::MAX);
        let reading = read(body, limit, memory_permit, &route.limiter);
        let bytes = match timeout_at(deadline, reading).await {
            Err(_) => return Err(Rejection::SlowBody),
            Ok(Err(BodyReadError::TooLarge)) => return Err(Rejection::BodyTooLarge(max)),
            Ok(Err(BodyReadError::Busy)) => return Err(Rejection::Busy),
            Ok(Err(BodyReadError::QuotaExceeded(exceeded))) => {
                return Err(Rejection::Quota(exceeded));
            }
            Ok(Err(BodyReadError::ClientClosed)) => return Err(Rejection::ClientClosed),
            Ok(Err(BodyReadError::Malformed(cause))) => return Err(Rejection::Malformed(cause)),
            Ok(Ok(bytes)) => bytes,
        };
        self.meters.body(bytes.len());
        route.meters.body_bytes.increment(bytes.len() as u64);
        Ok(bytes)
    }

    /// Accepts a batch whose body is small.
    async fn accept_batch(
        &self,
        route: &Arc<SourceRoute>,
        info: Arc<RequestInfo>,
        sent: ReceivedBody,
        how: (Instant, bool),
    ) -> Result<SourceResponse, Rejection> {
        let max = self.config.max_records_per_batch;
        let parts = body::split(&sent.bytes, sent.mode, max);
        let parts = parts.map_err(|e| split_rejection(&e))?;
        if parts.len() > RECORDS_AT_ONCE {
            return self.accept_large(route, info, sent, how).await;
        }
        let parts = parts.iter();
        let records = parts.map(|part| RecordContext::from_batch_part(Arc::clone(&info), part));
        let records: Vec<_> = records.collect();
        let mut broken = BrokenRecords::default();
        for (index, record) in records.iter().enumerate() {
            broken.check(index, record);
        }
        let count = records.len();
        let batch = RecordBatch {
            records,
            broken: broken.indices.clone(),
            memory_permit: sent.memory_permit,
        };
        let results = self.store(route, batch, how.0).await?;
        Ok(report::batch(route, count, &broken, &results))
    }
}

/// HTTP/2 has the host in its target; columns must find it where HTTP/1.1 has it.
fn add_host(headers: &mut HeaderMap, uri: &Uri) {
    if let Some(authority) = uri.authority()
        && !headers.contains_key(HOST)
        && let Ok(value) = HeaderValue::from_str(authority.as_str())
    {
        headers.insert(HOST, value);
    }
}

/// Decodes percent-escapes; `None` if there are none, or invalid ones. Ids may contain letters
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
            RequestRoute::Stream("1", "s", "x")
        ));
        for path in [
            "/stream/1/s/",
            "/stream/1/s/x/",
            "/stream/1/s",
            "/stream",
            "/",
            "/streams/1/s/x",
        ] {
            assert!(matches!(route(path), RequestRoute::Unknown), "{path}");
        }
        assert!(matches!(route("/health-check"), RequestRoute::Health));
    }

    #[test]
    fn escapes_in_ids_are_decoded() {
        assert_eq!(percent_decoded("%C5%82odz").as_deref(), Some("łodz"));
        for same in ["plain", "%", "%4", "%zz", "%ff"] {
            assert_eq!(percent_decoded(same).filter(|t| t != same), None, "{same}");
        }
    }
}
