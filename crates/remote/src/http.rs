//! The one client of HTTP servers: providers, jobs and the command line all call by this.
//!
//! Invariants:
//! - A request is sent with its own method and body or not at all; no redirect makes a GET of it
//!   (`http/redirect.rs`).
//! - No request leaves the origin that it was made for, so no configured header does.
//! - Configured headers are set last: nothing that a request brings replaces them.
//! - Of an answer at most a bound is read, and at most that is unpacked of it; then its connection
//!   is dropped.
//!
//! `clippy.toml` bans the library's own client everywhere else: it follows redirects by itself.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use forebay_model::Timestamp;
use forebay_model::words::short;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};

mod persisted_retry_after;
mod redirect;
mod retry_after;
mod unpack;

pub use persisted_retry_after::PersistedRetryAfter;
use redirect::RedirectDecision;
pub use retry_after::retry_after;
use unpack::EncodedBody;

/// Redirects of one call that are followed.
pub const REDIRECTS_MAX: u32 = 5;
/// Of an answer that only redirects, so much is read to keep its connection.
const REDIRECT_BODY_MAX: usize = 8 << 10;

/// How a client calls.
#[derive(Clone, Debug)]
pub struct HttpClientConfig {
    /// Sent with each request, in place of any of the same name that the request has.
    pub headers: HeaderMap,
    /// How long a call may take, its answer and all redirects included.
    pub timeout: Duration,
    /// Bytes of an answer's body that are read, and that are unpacked of it.
    pub response_max: usize,
    /// Certificates that servers' are signed by, besides those of the system.
    pub authorities: Vec<reqwest::Certificate>,
}

/// Calls servers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: reqwest::Client,
    config: HttpClientConfig,
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// The method, which no redirect changes.
    pub method: Method,
    /// Where to; its origin is the only one that gets the request.
    pub url: Url,
    /// Of this request.
    pub headers: HeaderMap,
    /// Its body; kept in memory, so that it can be sent again.
    pub body: Option<Bytes>,
}

impl HttpRequest {
    /// Asks for what is there.
    pub fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: None,
        }
    }
}

/// What a server has answered, whatever the status; never a redirect.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Where it came from, behind all redirects.
    pub url: Url,
    /// The body, or the beginning of it; unpacked.
    pub body: Bytes,
    /// The body is longer than what is read.
    pub is_cut: bool,
    /// The error of unpacking the body; then the body is empty. The status counts nevertheless.
    pub problem: Option<String>,
}

/// What one request of a call has led to.
#[derive(Clone, Debug)]
pub enum HttpHop {
    /// The answer.
    Response(Box<HttpResponse>),
    /// Another place: the next request goes there, after this wait if the server asks for one.
    Redirect(Option<Duration>),
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct HttpError {
    /// The status, when a server has begun to answer or redirects.
    pub status: Option<StatusCode>,
    /// The headers, when there is a status.
    pub headers: Box<HeaderMap>,
    /// For people; begins with the status when that is all there is. Has no address of the request.
    pub text: String,
}

impl HttpClient {
    /// A client.
    ///
    /// # Errors
    /// When TLS can't be set up.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where a client is made, without redirects of its own"
    )]
    pub fn new(config: HttpClientConfig) -> Result<Self, String> {
        let inner = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(config.timeout)
            .tls_certs_merge(config.authorities.iter().cloned())
            .connect_timeout(config.timeout)
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| causes("HTTP can't be set up", &e))?;
        Ok(Self { inner, config })
    }

    /// Makes user and password of an address a configured header, unless there is one; the address
    /// has them no more.
    pub fn take_credentials(&mut self, url: &mut Url) {
        // The library knows how they are encoded.
        let Ok(request) = self.inner.get(url.clone()).build() else {
            return;
        };
        *url = request.url().clone();
        if let Some(value) = request.headers().get(AUTHORIZATION) {
            let headers = &mut self.config.headers;
            headers.entry(AUTHORIZATION).or_insert(value.clone());
        }
    }

    /// Sends a request and reads the answer, behind redirects that may be followed. A wait that one
    /// of them asks for comes on top of the timeout, and may be as long as that.
    ///
    /// # Errors
    /// When there is no answer in time, or it is a redirect that is not followed.
    pub async fn send(
        &self,
        request: HttpRequest,
        now: Timestamp,
    ) -> Result<HttpResponse, HttpError> {
        let mut call = self.call(request);
        let mut remaining = self.config.timeout;
        loop {
            let begin = tokio::time::Instant::now();
            let hop = tokio::time::timeout(remaining, call.hop(now)).await;
            match hop {
                Err(_) => return Err(HttpError::unanswered("timed out".to_owned())),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(HttpHop::Response(response))) => return Ok(*response),
                Ok(Ok(HttpHop::Redirect(wait))) => {
                    remaining = remaining.saturating_sub(begin.elapsed());
                    let wait = wait.unwrap_or_default();
                    if wait > self.config.timeout {
                        return Err(call.too_late(wait, self.config.timeout));
                    }
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Begins a call whose requests are made one by one: each may have to wait for its turn.
    #[must_use]
    pub fn call(&self, request: HttpRequest) -> HttpCall {
        HttpCall {
            client: self.clone(),
            request,
            followed: 0,
            redirected: HeaderMap::new(),
        }
    }
}

/// A call, request by request.
#[derive(Debug)]
pub struct HttpCall {
    client: HttpClient,
    request: HttpRequest,
    followed: u32,
    /// Headers of the last redirect.
    redirected: HeaderMap,
}

impl HttpCall {
    /// Makes one request. When the server has redirected, the next one goes there.
    ///
    /// # Errors
    /// As [`HttpClient::send`].
    pub async fn hop(&mut self, now: Timestamp) -> Result<HttpHop, HttpError> {
        let HttpRequest {
            method,
            url,
            headers,
            body,
        } = self.request.clone();
        let has_body = body.is_some();
        let mut request = self.client.inner.request(method.clone(), url.clone());
        request = request.headers(self.client.with_configured(headers));
        if let Some(body) = body {
            request = request.body(body);
        }
        let sent = request.send().await;
        let mut response = sent.map_err(|e| HttpError::unanswered(unsent(&url, e)))?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let stopped = |text| HttpError {
            status: Some(status),
            headers: Box::new(headers.clone()),
            text,
        };
        match redirect::evaluate(&method, has_body, &url, status, &headers) {
            RedirectDecision::Final => {
                let read = read(&mut response, self.client.config.response_max).await;
                let (body, is_cut) =
                    read.map_err(|e| stopped(describe("the answer broke off", e)))?;
                let response = HttpResponse {
                    status,
                    headers,
                    url,
                    body,
                    is_cut,
                    problem: None,
                };
                let response = unpacked(response, self.client.config.response_max).await;
                Ok(HttpHop::Response(Box::new(response)))
            }
            RedirectDecision::Follow(_) if self.followed == REDIRECTS_MAX => Err(stopped(format!(
                "{status}: more than {REDIRECTS_MAX} redirects one after another"
            ))),
            RedirectDecision::Follow(next) => {
                // Only to keep the connection: a body that breaks off costs no more than that.
                drop(read(&mut response, REDIRECT_BODY_MAX).await);
                self.followed += 1;
                self.request.url = next;
                let wait = retry_after(&headers, now);
                self.redirected = headers;
                Ok(HttpHop::Redirect(wait))
            }
            RedirectDecision::Stop(text) => Err(stopped(text)),
        }
    }

    fn too_late(&self, wait: Duration, timeout: Duration) -> HttpError {
        HttpError {
            status: None,
            headers: Box::new(self.redirected.clone()),
            text: format!(
                "a redirect asks to wait {wait:?} (Retry-After), longer than the timeout of {timeout:?}"
            ),
        }
    }
}

impl HttpClient {
    fn with_configured(&self, mut headers: HeaderMap) -> HeaderMap {
        let configured = &self.config.headers;
        for name in configured.keys() {
            headers.remove(name);
        }
        for (name, value) in configured {
            headers.append(name, value.clone());
        }
        headers
            .entry(ACCEPT_ENCODING)
            .or_insert(HeaderValue::from_static(unpack::ACCEPTED));
        headers
    }
}

impl HttpError {
    /// Whether it is a redirect that is not followed.
    pub fn is_redirect(&self) -> bool {
        self.status.is_some_and(|s| s.is_redirection())
    }

    fn unanswered(text: String) -> Self {
        Self {
            status: None,
            headers: Box::default(),
            text,
        }
    }
}

/// An answer with its body unpacked.
async fn unpacked(mut response: HttpResponse, max: usize) -> HttpResponse {
    let result = match EncodedBody::from_headers(&mut response.headers) {
        Ok(None) => return response,
        Ok(Some(packed)) => {
            let (body, is_cut) = (std::mem::take(&mut response.body), response.is_cut);
            let work = move || packed.unpack(body, is_cut, max);
            let decoded = tokio::task::spawn_blocking(work).await;
            decoded.unwrap_or_else(|e| Err(format!("the answer can't be unpacked: {e}")))
        }
        Err(problem) => Err(problem),
    };
    match result {
        Ok((body, is_cut)) => (response.body, response.is_cut) = (body, is_cut),
        Err(problem) => {
            response.body = Bytes::new();
            response.problem = Some(problem);
        }
    }
    response
}

/// Reads a body up to a bound, and says whether there is more of it.
async fn read(
    response: &mut reqwest::Response,
    max: usize,
) -> Result<(Bytes, bool), reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        let remaining = max - body.len();
        body.extend_from_slice(chunk.get(..remaining).unwrap_or(&chunk));
        if chunk.len() > remaining {
            return Ok((body.freeze(), true));
        }
    }
    Ok((body.freeze(), false))
}

/// A request that could not be sent.
fn unsent(url: &Url, error: reqwest::Error) -> String {
    let mut next: Option<&dyn std::error::Error> = Some(&error);
    while let Some(cause) = next {
        let io = cause.downcast_ref::<std::io::Error>();
        if io.is_some_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused) {
            let host = url.host_str().unwrap_or_default();
            let port = url.port_or_known_default().unwrap_or_default();
            return format!("connection refused by {host}:{port}");
        }
        next = cause.source();
    }
    describe("can't send", error)
}

/// What has failed and why, without the address: that may hold a secret.
fn describe(what: &str, error: reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "timed out"
    } else {
        what
    };
    causes(what, &error.without_url())
}

/// What has failed, and the causes behind an error: its own text says less than they do.
fn causes(what: &str, error: &dyn std::error::Error) -> String {
    let mut text = what.to_owned();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = error.source();
    }
    short(&text)
}

/// Header values that are secrets are not shown by anything that shows headers.
///
/// # Errors
/// When the text has a character that no header can have; the error does not quote it.
pub fn secret_header(text: &str) -> Result<HeaderValue, &'static str> {
    let value = HeaderValue::try_from(text);
    let mut value = value.map_err(|_| "it has a character that no header can have")?;
    value.set_sensitive(true);
    Ok(value)
}
