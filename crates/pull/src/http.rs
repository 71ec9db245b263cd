//! Calls of other people's APIs: one client each, answers of a bounded length, errors that say what
//! a retry needs to know.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use forebay_model::Timestamp;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{Method, Url};

use crate::definition::Auth;

/// Characters of an answer that an error quotes.
const QUOTED: usize = 200;
/// Redirects that are followed.
const REDIRECTS: usize = 5;

/// A client of one API.
#[derive(Clone)]
pub(crate) struct Client {
    inner: reqwest::Client,
    max_body: usize,
}

/// An answer with success.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallError {
    /// Of the answer, when there was one.
    pub(crate) status: Option<StatusCode>,
    /// How long the API asks to wait.
    pub(crate) retry_after: Option<Duration>,
    /// For people; without the token.
    pub(crate) text: String,
}

impl CallError {
    fn new(text: String) -> Self {
        Self {
            status: None,
            retry_after: None,
            text,
        }
    }
}

impl Client {
    /// A client that sends these headers with each request.
    ///
    /// # Errors
    /// When TLS can't be set up.
    pub(crate) fn new(
        auth: Option<&Auth>,
        headers: &BTreeMap<String, String>,
        timeout: Duration,
        max_body: u64,
    ) -> Result<Self, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::try_from(name).map_err(|e| e.to_string())?;
            map.insert(
                name,
                HeaderValue::try_from(value).map_err(|e| e.to_string())?,
            );
        }
        if let Some(auth) = auth {
            let token = auth.token.expose();
            let (name, value) = if auth.header.eq_ignore_ascii_case("bearer") {
                (http::header::AUTHORIZATION, format!("Bearer {token}"))
            } else {
                let name = HeaderName::try_from(&auth.header).map_err(|e| e.to_string())?;
                (name, token.to_owned())
            };
            // Its error would quote the token.
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| "the token has a character that no header can have".to_owned())?;
            value.set_sensitive(true);
            map.insert(name, value);
        }
        let inner = reqwest::Client::builder()
            .default_headers(map)
            .timeout(timeout)
            .connect_timeout(timeout)
            .redirect(Policy::custom(|attempt| {
                // The token is for this host and no other.
                let from = attempt.previous().first().and_then(Url::host_str);
                if attempt.previous().len() > REDIRECTS || attempt.url().host_str() != from {
                    attempt.stop()
                } else {
                    attempt.follow()
                }
            }))
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| cause(&e))?;
        Ok(Self {
            inner,
            max_body: usize::try_from(max_body).unwrap_or(usize::MAX),
        })
    }

    /// Asks for a page.
    pub(crate) async fn get(&self, url: Url, now: Timestamp) -> Result<Answer, CallError> {
        let request = self.inner.request(Method::GET, url);
        let request = request.header(http::header::ACCEPT, "application/json");
        self.call(request, now).await
    }

    /// Posts a record. The key is the same for each attempt, so that an API that knows the header
    /// takes it once.
    pub(crate) async fn post(
        &self,
        url: Url,
        body: Bytes,
        key: &str,
        now: Timestamp,
    ) -> Result<Answer, CallError> {
        let request = self
            .inner
            .request(Method::POST, url)
            .header(http::header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", key)
            .body(body);
        self.call(request, now).await
    }

    async fn call(
        &self,
        request: reqwest::RequestBuilder,
        now: Timestamp,
    ) -> Result<Answer, CallError> {
        let failed = |e: reqwest::Error| CallError::new(cause(&e.without_url()));
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let mut body = BytesMut::new();
        let at_status = |text: String| CallError {
            status: Some(status),
            retry_after: retry_after(&headers, now),
            text,
        };
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > self.max_body => {
                    return Err(at_status(format!(
                        "the answer is longer than {} bytes",
                        self.max_body
                    )));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(e) => return Err(at_status(cause(&e.without_url()))),
            }
        }
        if !status.is_success() {
            let quoted = quote(&body);
            return Err(at_status(format!("the answer is {status}{quoted}")));
        }
        Ok(Answer {
            body: body.freeze(),
            headers,
        })
    }
}

/// The beginning of a body, for an error.
pub(crate) fn quote(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..QUOTED * 4).unwrap_or(body));
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(QUOTED)
        .collect();
    match text.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

/// An error with its causes: the library's own text ends before the interesting part.
fn cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = error.source();
    }
    text
}

/// How long `Retry-After` asks to wait: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers
        .get(http::header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    let until = Timestamp::from_millis(date.timestamp().as_millisecond());
    Some(until.since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now: Timestamp = "2026-11-21T08:00:00.000Z".parse().unwrap();
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            read("Sat, 21 Nov 2026 08:01:30 GMT"),
            Some(Duration::from_secs(90))
        );
        let past = read("Sat, 21 Nov 2026 07:00:00 GMT");
        assert_eq!(past, Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-3"), None);
    }

    #[test]
    fn a_quote_is_short_and_on_one_line() {
        assert_eq!(quote(b"<html>\n<b>x\x00</b>"), ": <html> <b>x </b>");
        assert_eq!(quote(b" \n"), "");
        assert!(quote(&[b'a'; 5000]).len() < 300);
    }
}
