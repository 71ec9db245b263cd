//! The only HTTP client: providers, jobs and the command line use it.
//!
//! Invariants:
//! - A request is sent with its own method and body or not at all; no redirect turns it into a GET
//!   (`http/redirect.rs`).
//! - No request leaves its original origin, so no configured header does.
//! - Configured headers are set last: nothing in a request replaces them.
//! - A response is read up to a limit and decompressed up to the same limit; then its connection is
//!   dropped.
//!
//! `clippy.toml` bans `reqwest::Client` everywhere else, as it follows redirects by itself.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use forebay_model::Timestamp;
use reqwest::Url;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue};

mod body;
mod error;
mod message;
mod persisted_retry_after;
mod redirect;
mod retry_after;
mod stream;
mod unpack;

pub use error::HttpError;
pub use message::{HttpRequest, HttpResponse};
pub use persisted_retry_after::PersistedRetryAfter;
pub use retry_after::retry_after;
pub use stream::HttpStream;

use body::{read, unpacked};
use error::{causes, describe, unsent};
use redirect::RedirectDecision;

/// Maximum of redirects per call.
pub(crate) const REDIRECTS_MAX: u32 = 5;
/// Limit of a response that arrives over a long time: none in practice.
const STREAM_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Bytes read of the body of a redirect, to keep its connection.
const REDIRECT_BODY_MAX: usize = 8 << 10;

#[derive(Clone, Debug)]
pub struct HttpClientConfig {
    /// Sent with each request; they replace its headers of the same name.
    pub headers: HeaderMap,
    /// Limit of a call, including the response and all redirects.
    pub timeout: Duration,
    /// Maximum of body bytes that are read, and of decompressed bytes.
    pub response_max: usize,
    /// CA certificates trusted besides those of the system.
    pub authorities: Vec<reqwest::Certificate>,
}

/// HTTP client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HttpClient {
    /// For addresses without TLS.
    plain: reqwest::Client,
    /// For addresses with TLS. Reads the CA certificates of the machine, which may have none, so it is
    /// built when it is needed.
    secure: Arc<OnceLock<Result<reqwest::Client, String>>>,
    config: HttpClientConfig,
}

/// Result of one request of a call.
#[derive(Clone, Debug)]
pub enum HttpHop {
    Response(Box<HttpResponse>),
    /// Redirected: the next request goes to another URL, after this delay if the server requested
    /// one.
    Redirect(Option<Duration>),
}

/// Error of a machine without CA certificates.
const NO_AUTHORITIES: &str = "https needs CA certificates, and this machine has none: install the package ca-certificates, or set SSL_CERT_FILE to a PEM file";

#[expect(
    clippy::disallowed_methods,
    reason = "the only place that builds a client, without automatic redirects"
)]
fn builder(config: &HttpClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(config.timeout)
        .connect_timeout(config.timeout)
        .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
}

impl HttpClient {
    pub fn new(config: HttpClientConfig) -> Result<Self, String> {
        let plain = builder(&config).tls_certs_only([]).build();
        Ok(Self {
            plain: plain.map_err(|e| causes("can't set up the HTTP client", &e))?,
            secure: Arc::default(),
            config,
        })
    }

    /// Checks that requests to an address can be sent: `https` needs CA certificates.
    ///
    /// # Errors
    /// The reason for which `https` is not possible, for users.
    pub fn prepare(&self, url: &Url) -> Result<(), String> {
        self.client(url).map(drop)
    }

    fn client(&self, url: &Url) -> Result<&reqwest::Client, String> {
        if url.scheme() != "https" {
            return Ok(&self.plain);
        }
        let secure = self.secure.get_or_init(|| {
            let authorities = self.config.authorities.iter().cloned();
            let built = builder(&self.config).tls_certs_merge(authorities).build();
            built.map_err(|e| {
                let text = causes("can't set up TLS", &e);
                match text.contains("No CA certificates") {
                    true => NO_AUTHORITIES.to_owned(),
                    false => text,
                }
            })
        });
        secure.as_ref().map_err(Clone::clone)
    }

    /// Moves user and password of a URL into a configured header, unless one exists.
    pub(crate) fn take_credentials(&mut self, url: &mut Url) {
        // reqwest decodes them.
        let Ok(request) = self.plain.get(url.clone()).build() else {
            return;
        };
        *url = request.url().clone();
        if let Some(value) = request.headers().get(AUTHORIZATION) {
            let headers = &mut self.config.headers;
            headers.entry(AUTHORIZATION).or_insert(value.clone());
        }
    }

    /// Sends a request and reads the response, following allowed redirects. A delay requested by a
    /// redirect is added to the timeout and may be as long as it.
    ///
    /// # Errors
    /// No response in time, or a redirect that is not followed.
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

    /// Sends a request whose response arrives over a long time. Redirects are not followed. The timeout
    /// applies to the head of the response only.
    ///
    /// # Errors
    /// No response in time, or a redirect.
    pub async fn stream(&self, request: HttpRequest) -> Result<HttpStream, HttpError> {
        let HttpRequest {
            method,
            url,
            mut headers,
            body,
        } = request;
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let client = self.client(&url).map_err(HttpError::unanswered)?;
        let mut request = client.request(method, url.clone());
        request = request
            .headers(self.with_configured(headers))
            .timeout(STREAM_TIMEOUT);
        if let Some(body) = body {
            request = request.body(body);
        }
        let sent = tokio::time::timeout(self.config.timeout, request.send()).await;
        let sent = sent.map_err(|_| HttpError::unanswered("timed out".to_owned()))?;
        let response = sent.map_err(|e| HttpError::unanswered(unsent(&url, e)))?;
        if response.status().is_redirection() {
            return Err(HttpError {
                status: Some(response.status()),
                headers: Box::new(response.headers().clone()),
                text: format!("{}, which is not followed", response.status()),
            });
        }
        Ok(HttpStream {
            response,
            max: self.config.response_max,
        })
    }

    /// Begins a call whose requests are made one by one, so that each can wait for a rate limiter.
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
    /// Makes one request. After a redirect, the next one goes to its target. Errors as in
    /// [`HttpClient::send`].
    pub async fn hop(&mut self, now: Timestamp) -> Result<HttpHop, HttpError> {
        let HttpRequest {
            method,
            url,
            headers,
            body,
        } = self.request.clone();
        let has_body = body.is_some();
        let client = self.client.client(&url).map_err(HttpError::unanswered)?;
        let mut request = client.request(method.clone(), url.clone());
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
                    read.map_err(|e| stopped(describe("response interrupted", e)))?;
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
                "{status}: more than {REDIRECTS_MAX} redirects"
            ))),
            RedirectDecision::Follow(next) => {
                // Only to keep the connection: an interrupted body costs no more than that.
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
                "a redirect requests a delay of {wait:?} (Retry-After), longer than the timeout of {timeout:?}"
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

/// A sensitive header value, which no debug output shows. The error does not quote the text.
pub fn secret_header(text: &str) -> Result<HeaderValue, &'static str> {
    let value = HeaderValue::try_from(text);
    let mut value = value.map_err(|_| "contains a character that is not allowed in headers")?;
    value.set_sensitive(true);
    Ok(value)
}
