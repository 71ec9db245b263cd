//! Calls without a response.

use forebay_model::words::short;
use reqwest::header::HeaderMap;
use reqwest::{StatusCode, Url};

/// A call without a response.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct HttpError {
    /// The status, if the server began to respond or redirected.
    pub status: Option<StatusCode>,
    /// The headers, if there is a status.
    pub headers: Box<HeaderMap>,
    /// Message without the request's address; begins with the status if there is nothing else.
    pub text: String,
}

impl HttpError {
    /// Whether this is a redirect that was not followed.
    pub fn is_redirect(&self) -> bool {
        self.status.is_some_and(|s| s.is_redirection())
    }

    pub(super) fn unanswered(text: String) -> Self {
        Self {
            status: None,
            headers: Box::default(),
            text,
        }
    }
}

/// Error of a request that could not be sent.
pub(super) fn unsent(url: &Url, error: reqwest::Error) -> String {
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

/// Failure and cause, without the address, which may contain a secret.
pub(super) fn describe(what: &str, error: reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "timed out"
    } else {
        what
    };
    causes(what, &error.without_url())
}

/// Failure and the causes of an error: its own text says less than they do.
pub(super) fn causes(what: &str, error: &dyn std::error::Error) -> String {
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
