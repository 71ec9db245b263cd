//! An HTTP endpoint: each message as a request, or many as lines of one (NDJSON).
//!
//! One request at a time is under way in each lane, so messages stay in order. The header
//! `Idempotency-Key` is the same each time that the same messages are sent: an endpoint that
//! remembers it takes nothing twice.

use std::time::Duration;

use forebay_buffer::{Batch, Connection, Delivery, Done, Lane, Provider, SendError};
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{Client, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Runtime;

use super::file::json_line;

/// What a request holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// The payload of one message, as it is, with the message's headers. Key and topic are the headers
    /// `Message-Key` (base64url) and `Message-Topic`.
    #[default]
    Payload,
    /// A batch: a line of JSON for each message, as in [`json_line`].
    Ndjson,
}

/// What a request is sent with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// `POST`.
    #[default]
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
}

impl From<Method> for reqwest::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
        }
    }
}

/// Settings of the provider.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Where to: `http://…` or `https://…`.
    pub url: String,
    /// What a request holds.
    pub body: Body,
    /// What it is sent with.
    pub method: Method,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<SecretString>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// How long a request may take. Default 30 s.
    pub timeout: Duration,
    /// Statuses by which a message is refused for good. Default: 400, 404, 409, 410, 413, 414, 415,
    /// 422. Any other that is not 2xx may pass, and is tried again.
    pub refused: Vec<u16>,
}

impl HttpConfig {
    /// The defaults, for this address.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            body: Body::default(),
            method: Method::default(),
            token: None,
            headers: Vec::new(),
            timeout: Duration::from_secs(30),
            refused: vec![400, 404, 409, 410, 413, 414, 415, 422],
        }
    }
}

/// Sends messages to an endpoint.
#[derive(Clone)]
pub struct HttpProvider {
    name: String,
    url: Url,
    client: Client,
    config: HttpConfig,
}

/// A setting that can't be.
#[derive(Debug, thiserror::Error)]
#[error("{field} is {value:?}: {problem}")]
pub struct HttpConfigError {
    /// The setting.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong.
    pub problem: String,
}

impl HttpProvider {
    /// Checks the settings. The endpoint need not be there yet.
    ///
    /// # Errors
    /// Which setting is wrong.
    pub fn new(config: HttpConfig) -> Result<Self, HttpConfigError> {
        let wrong = |field, value: &str, problem: String| HttpConfigError {
            field,
            value: value.to_owned(),
            problem,
        };
        let url = Url::parse(&config.url).map_err(|e| wrong("url", &config.url, e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            let problem = "allowed are http:// and https://".to_owned();
            return Err(wrong("url", &config.url, problem));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let name =
                HeaderName::try_from(name).map_err(|e| wrong("headers", name, e.to_string()))?;
            let value =
                HeaderValue::try_from(value).map_err(|e| wrong("headers", value, e.to_string()))?;
            headers.append(name, value);
        }
        if let Some(token) = &config.token {
            let value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()));
            let mut value = value.map_err(|e| wrong("token", "(secret)", e.to_string()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = Client::builder()
            .default_headers(headers)
            .timeout(config.timeout)
            .build();
        let client = client.map_err(|e| wrong("url", &config.url, e.to_string()))?;
        Ok(Self {
            name: format!("{}://{}", url.scheme(), url.authority()),
            url,
            client,
            config,
        })
    }

    /// The same endpoint, sent to in another way.
    #[must_use]
    pub fn sending(&self, body: Body, method: Method) -> Self {
        let mut other = self.clone();
        (other.config.body, other.config.method) = (body, method);
        other
    }
}

impl Provider for HttpProvider {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self, lane: &Lane) -> Result<Box<dyn Connection>, SendError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        Ok(Box::new(HttpConnection {
            runtime: runtime.map_err(|e| SendError::retry(e.to_string()))?,
            client: self.client.clone(),
            url: self.url.clone(),
            config: self.config.clone(),
            id: format!("{:016x}-{}", lane.buffer, lane.name),
        }))
    }
}

struct HttpConnection {
    runtime: Runtime,
    client: Client,
    url: Url,
    config: HttpConfig,
    id: String,
}

impl Connection for HttpConnection {
    fn send(&mut self, batch: &Batch, done: Done) {
        match self.config.body {
            Body::Ndjson => match self.send_lines(batch) {
                Ok(()) => done.taken(),
                Err(error) => done.failed(&error),
            },
            Body::Payload => {
                let mut results = Vec::with_capacity(batch.messages().len());
                let mut broken = false;
                for delivery in batch.messages() {
                    if broken {
                        results.push(Err(SendError::retry("a message before it has failed")));
                        continue;
                    }
                    let result = self.send_one(delivery);
                    broken = result.as_ref().is_err_and(|e| !e.is_rejected());
                    results.push(result);
                }
                done.each(results);
            }
        }
    }
}

impl HttpConnection {
    fn send_one(&self, delivery: &Delivery) -> Result<(), SendError> {
        use base64::Engine;
        let message = &delivery.message;
        let mut request = self
            .client
            .request(self.config.method.into(), self.url.clone())
            .header(
                "Idempotency-Key",
                format!("{}-{}", self.id, delivery.sequence),
            )
            .header("Message-Topic", &*delivery.topic)
            .body(message.payload.clone().unwrap_or_default());
        let mut has_type = false;
        for (name, value) in &message.headers {
            let value = value.as_deref().unwrap_or_default();
            let (Ok(name), Ok(value)) = (
                HeaderName::try_from(&**name),
                HeaderValue::from_bytes(value),
            ) else {
                return Err(SendError::rejected(format!(
                    "header {name:?} of the message can't be one of HTTP"
                )));
            };
            has_type |= name == CONTENT_TYPE;
            request = request.header(name, value);
        }
        if !has_type {
            request = request.header(CONTENT_TYPE, "application/octet-stream");
        }
        if let Some(key) = &message.key {
            let key = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key);
            request = request.header("Message-Key", key);
        }
        self.answer(request)
    }

    fn send_lines(&self, batch: &Batch) -> Result<(), SendError> {
        let messages = batch.messages();
        let mut body = String::new();
        for delivery in messages {
            body.push_str(&json_line(delivery).to_string());
            body.push('\n');
        }
        let first = messages.first().map_or(0, |m| m.sequence);
        let key = format!("{}-{first}-{}", self.id, batch.next_sequence());
        let request = self
            .client
            .request(self.config.method.into(), self.url.clone())
            .header("Idempotency-Key", key)
            .header(CONTENT_TYPE, "application/x-ndjson")
            .body(body);
        self.answer(request)
    }

    fn answer(&self, request: reqwest::RequestBuilder) -> Result<(), SendError> {
        let answered = self.runtime.block_on(async {
            let response = request.send().await?;
            let (status, wait) = (response.status(), retry_after(response.headers()));
            // Read to its end, so that the connection can be used again.
            let body = response.bytes().await?;
            Ok::<_, reqwest::Error>((status, wait, body))
        });
        let (status, wait, body) = answered.map_err(|e| SendError::retry(describe(&e)))?;
        if status.is_success() {
            return Ok(());
        }
        let text = said(status, &body);
        if self.config.refused.contains(&status.as_u16()) {
            return Err(SendError::rejected(text));
        }
        Err(match wait {
            Some(wait) => SendError::retry_after(text, wait),
            None => SendError::retry(text),
        })
    }
}

/// The error and what caused it, without the address: that may hold a secret.
fn describe(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() {
        "timed out".to_owned()
    } else {
        "can't send".to_owned()
    };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The status, and the beginning of what came with it.
fn said(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let beginning: String = text.trim().chars().take(200).collect();
    format!("{status}: {beginning}")
}

/// `Retry-After` in seconds; the form with a date is for caches.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(Duration::from_secs(3_600)))
}
