//! HTTP endpoint: one request per message, or one per batch (NDJSON).
//!
//! Each partition has one request in flight, so messages stay in order. The header
//! `Idempotency-Key` is the same each time the same messages are sent, so that an endpoint can
//! deduplicate by it.
//!
//! Only 2xx acknowledges a message. Redirects follow [`crate::http`]: 301, 302 and 303 are failures
//! that are retried, 307 and 308 are followed with method and body on the same origin.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_buffer::{
    Ack, MessageBatch, MessageDelivery, Partition, Provider, ProviderConnection, SendError,
};
use forebay_model::{Clock, is_own_http_header};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Runtime;

use super::file::json_line;
use crate::http::{
    HttpClient, HttpClientConfig, HttpError, HttpRequest, PersistedRetryAfter, retry_after,
    secret_header,
};

/// Bytes read of a response; the rest is ignored.
const RESPONSE_BYTES_MAX: usize = 64 << 10;
/// Limit of a delay requested by the endpoint.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// The same for each repeat of the same messages.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Key of the message, in base64url.
const MESSAGE_KEY: HeaderName = HeaderName::from_static("message-key");
const MESSAGE_TOPIC: HeaderName = HeaderName::from_static("message-topic");

/// Content of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestFormat {
    /// Payload and headers of one message. Key and topic are sent in the headers `Message-Key`
    /// (base64url) and `Message-Topic`.
    #[default]
    Payload,
    /// A batch: a JSON line per message, as in [`json_line`].
    Ndjson,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestMethod {
    #[default]
    Post,
    Put,
    Patch,
}

impl From<RequestMethod> for reqwest::Method {
    fn from(method: RequestMethod) -> Self {
        match method {
            RequestMethod::Post => Self::POST,
            RequestMethod::Put => Self::PUT,
            RequestMethod::Patch => Self::PATCH,
        }
    }
}

#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// `http://…` or `https://…`.
    pub url: String,
    pub body: RequestFormat,
    pub method: RequestMethod,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<SecretString>,
    /// Additional headers; they replace those of messages.
    pub headers: Vec<(String, String)>,
    /// Limit of a request. Default 30 s.
    pub timeout: Duration,
    /// Statuses that reject a message for good. Default: 400, 404, 409, 410, 413, 414, 415, 422.
    /// Any other status except 2xx is retried.
    pub rejected: Vec<u16>,
    /// File that persists a delay requested by the endpoint (`Retry-After`) across restarts.
    /// Default: none.
    pub pause_file: Option<PathBuf>,
}

impl HttpConfig {
    /// Default settings for this URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            body: RequestFormat::default(),
            method: RequestMethod::default(),
            token: None,
            headers: Vec::new(),
            timeout: Duration::from_secs(30),
            rejected: vec![400, 404, 409, 410, 413, 414, 415, 422],
            pause_file: None,
        }
    }
}

#[derive(Clone)]
pub struct HttpProvider {
    name: String,
    url: Url,
    client: HttpClient,
    config: HttpConfig,
    pause: Option<PersistedRetryAfter>,
    clock: Arc<dyn Clock>,
}

/// An invalid setting.
#[derive(Debug, thiserror::Error)]
#[error("{field} is {value:?}: {problem}")]
pub struct HttpConfigError {
    pub field: &'static str,
    pub value: String,
    pub problem: String,
}

impl HttpProvider {
    /// Validates the settings; the endpoint need not be reachable.
    pub fn new(config: HttpConfig, clock: Arc<dyn Clock>) -> Result<Self, HttpConfigError> {
        let wrong = |problem: String| HttpConfigError {
            field: "url",
            value: config.url.clone(),
            problem,
        };
        let mut url = Url::parse(&config.url).map_err(|e| wrong(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("use http:// or https://".to_owned()));
        }
        let client = HttpClient::new(HttpClientConfig {
            headers: configured(&config)?,
            timeout: config.timeout,
            response_max: RESPONSE_BYTES_MAX,
            authorities: Vec::new(),
        });
        let mut client = client.map_err(wrong)?;
        client.prepare(&url).map_err(wrong)?;
        client.take_credentials(&mut url);
        let pause_file = config.pause_file.clone();
        let pause = pause_file
            .map(|file| PersistedRetryAfter::new(file, &url, RETRY_AFTER_MAX, Arc::clone(&clock)));
        Ok(Self {
            pause,
            name: format!("{}://{}", url.scheme(), url.authority()),
            url,
            client,
            config,
            clock,
        })
    }

    /// The same endpoint with another request format and method.
    #[must_use]
    pub fn with_request_options(&self, body: RequestFormat, method: RequestMethod) -> Self {
        let mut other = self.clone();
        (other.config.body, other.config.method) = (body, method);
        other
    }
}

/// The configured headers.
fn configured(config: &HttpConfig) -> Result<HeaderMap, HttpConfigError> {
    let wrong = |field, value: &str, problem: String| HttpConfigError {
        field,
        value: value.to_owned(),
        problem,
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let parsed = HeaderName::try_from(name);
        let parsed = parsed.map_err(|e| wrong("headers", name, e.to_string()))?;
        if is_own_http_header(name) {
            let problem = "reserved, each request sets it".to_owned();
            return Err(wrong("headers", name, problem));
        }
        let value = secret_header(value);
        let value = value.map_err(|e| wrong("headers", name, e.to_owned()))?;
        headers.append(parsed, value);
    }
    if let Some(token) = &config.token {
        let value = secret_header(&format!("Bearer {}", token.expose_secret()));
        let value = value.map_err(|e| wrong("token", "(secret)", e.to_owned()))?;
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// Whether a message may set this header.
fn is_forwardable(name: &HeaderName) -> bool {
    let name = name.as_str();
    !is_own_http_header(name) && name != HOST.as_str()
}

impl Provider for HttpProvider {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self, partition: &Partition) -> Result<Box<dyn ProviderConnection>, SendError> {
        if let Some(remaining) = self.pause.as_ref().and_then(PersistedRetryAfter::remaining) {
            let text = format!(
                "{} requested a delay (Retry-After), {remaining:.1?} left",
                self.name
            );
            return Err(SendError::retry_after(text, remaining));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        Ok(Box::new(HttpConnection {
            runtime: runtime.map_err(|e| SendError::retry(e.to_string()))?,
            provider: self.clone(),
            id: format!("{:016x}-{}", partition.buffer, partition.name),
        }))
    }
}

struct HttpConnection {
    runtime: Runtime,
    provider: HttpProvider,
    id: String,
}

impl ProviderConnection for HttpConnection {
    fn send(&mut self, batch: &MessageBatch, ack: Ack) {
        match self.provider.config.body {
            RequestFormat::Ndjson => match self.send_lines(batch) {
                Ok(()) => ack.taken(),
                Err(error) => ack.failed(&error),
            },
            RequestFormat::Payload => {
                let mut results = Vec::with_capacity(batch.messages().len());
                let mut broken = false;
                for delivery in batch.messages() {
                    if broken {
                        results.push(Err(SendError::retry("an earlier message failed")));
                        continue;
                    }
                    let result = self.send_one(delivery);
                    broken = result.as_ref().is_err_and(|e| !e.is_rejected());
                    results.push(result);
                }
                ack.each(results);
            }
        }
    }
}

impl HttpConnection {
    fn send_one(&self, delivery: &MessageDelivery) -> Result<(), SendError> {
        use base64::Engine;
        let message = &delivery.message;
        let mut headers = HeaderMap::new();
        for (name, value) in &message.headers {
            let value = value.as_deref().unwrap_or_default();
            let header = HeaderName::try_from(&**name)
                .ok()
                .filter(is_forwardable)
                .zip(HeaderValue::from_bytes(value).ok());
            let Some((name, value)) = header else {
                return Err(SendError::rejected(format!(
                    "message header {name:?} is not allowed in HTTP"
                )));
            };
            headers.append(name, value);
        }
        headers
            .entry(CONTENT_TYPE)
            .or_insert(HeaderValue::from_static("application/octet-stream"));
        headers.insert(MESSAGE_TOPIC, header_value(&delivery.topic)?);
        if let Some(key) = &message.key {
            let key = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key);
            headers.insert(MESSAGE_KEY, header_value(&key)?);
        }
        let key = format!("{}-{}", self.id, delivery.sequence);
        let body = message.payload.clone().unwrap_or_default();
        self.request(&key, headers, body)
    }

    fn send_lines(&self, batch: &MessageBatch) -> Result<(), SendError> {
        let messages = batch.messages();
        let mut body = String::new();
        for delivery in messages {
            body.push_str(&json_line(delivery).to_string());
            body.push('\n');
        }
        let first = messages.first().map_or(0, |m| m.sequence);
        let key = format!("{}-{first}-{}", self.id, batch.next_sequence());
        let mut headers = HeaderMap::new();
        let ndjson = HeaderValue::from_static("application/x-ndjson");
        headers.insert(CONTENT_TYPE, ndjson);
        self.request(&key, headers, body.into())
    }

    fn request(&self, key: &str, mut headers: HeaderMap, body: Bytes) -> Result<(), SendError> {
        headers.insert(IDEMPOTENCY_KEY, header_value(key)?);
        let provider = &self.provider;
        let request = HttpRequest {
            method: provider.config.method.into(),
            url: provider.url.clone(),
            headers,
            body: Some(body),
        };
        let now = provider.clock.now();
        let sent = self.runtime.block_on(provider.client.send(request, now));
        let response = sent.map_err(|e| self.unanswered(&e))?;
        if response.status.is_success() {
            return Ok(());
        }
        let text = status_text(response.status, &response.body);
        if provider.config.rejected.contains(&response.status.as_u16()) {
            return Err(SendError::rejected(text));
        }
        Err(self.retryable(text, &response.headers))
    }

    /// No response, or a redirect that is not followed: the endpoint may recover or be fixed.
    fn unanswered(&self, error: &HttpError) -> SendError {
        let rejected = &self.provider.config.rejected;
        if error.status.is_some_and(|s| rejected.contains(&s.as_u16())) {
            return SendError::rejected(error.text.clone());
        }
        self.retryable(error.text.clone(), &error.headers)
    }

    fn retryable(&self, text: String, headers: &HeaderMap) -> SendError {
        // Without a delay, or with a date in the past, the usual backoff applies.
        let wait = retry_after(headers, self.provider.clock.now());
        match wait.filter(|wait| !wait.is_zero()) {
            Some(wait) => {
                let wait = wait.min(RETRY_AFTER_MAX);
                if let Some(pause) = &self.provider.pause {
                    pause.begin(wait);
                }
                SendError::retry_after(text, wait)
            }
            None => SendError::retry(text),
        }
    }
}

fn header_value(text: &str) -> Result<HeaderValue, SendError> {
    HeaderValue::try_from(text)
        .map_err(|_| SendError::rejected(format!("{text:?} is not a valid HTTP header value")))
}

/// The status and the beginning of the body.
fn status_text(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let beginning: String = text.trim().chars().take(200).collect();
    format!("{status}: {beginning}")
}
