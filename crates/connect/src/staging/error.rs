//! Errors of staging: a message and a kind.

use std::error::Error;
use std::fmt;
use std::io;

use forebay_model::words::short;

/// Error with the storage, the operation, the object and the cause.
#[derive(Debug)]
pub struct StagingError {
    kind: StagingErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StagingErrorKind {
    /// May succeed later: network, overload, full disk.
    Retryable,
    /// Needs an operator: configuration, permission, missing bucket.
    Terminal,
    /// The object does not exist.
    Missing,
    /// The input stream failed; its error is the source.
    Input,
}

impl StagingError {
    pub fn kind(&self) -> StagingErrorKind {
        self.kind
    }

    /// Whether a retry may succeed.
    pub fn is_retryable(&self) -> bool {
        self.kind == StagingErrorKind::Retryable
    }

    pub(super) fn terminal(message: impl Into<String>) -> Self {
        Self {
            kind: StagingErrorKind::Terminal,
            message: message.into(),
            source: None,
        }
    }

    pub(super) fn input(display_name: &str, path: &str, error: io::Error) -> Self {
        Self {
            kind: StagingErrorKind::Input,
            message: format!(
                "{display_name}: nothing written to {path}: can't read its data: {error}"
            ),
            source: Some(Box::new(error)),
        }
    }

    /// "Not found" on a write refers to the upload, which was completed by a request whose response
    /// was lost, or removed by a lifecycle rule. A retry begins another upload.
    pub(super) fn for_write(mut self) -> Self {
        if self.kind == StagingErrorKind::Missing {
            self.kind = StagingErrorKind::Retryable;
        }
        self
    }

    pub(super) fn from_store(
        display_name: &str,
        operation: &'static str,
        path: &str,
        error: object_store::Error,
    ) -> Self {
        let (kind, cause) = classify(&error);
        let cause = short(&cause);
        let path = if path.is_empty() { "objects" } else { path };
        Self {
            kind,
            message: format!("{display_name}: can't {operation} {path}: {cause}"),
            source: Some(Box::new(error)),
        }
    }
}

impl fmt::Display for StagingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StagingError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

fn classify(error: &object_store::Error) -> (StagingErrorKind, String) {
    use StagingErrorKind::{Missing, Retryable, Terminal};
    use object_store::Error as E;

    let chain = chain(error);
    let status = status(&chain);
    let denied = || (Terminal, format!("access denied: {}", denial(&chain)));
    // The library maps only some requests' responses to kinds; listings arrive as `Generic`.
    match (error, status) {
        (_, Some(404)) if chain.contains("NoSuchBucket") => {
            (Terminal, "the bucket does not exist".to_owned())
        }
        (E::NotFound { .. }, _) => (Missing, "not found".to_owned()),
        (E::PermissionDenied { .. } | E::Unauthenticated { .. }, _) | (_, Some(401 | 403)) => {
            denied()
        }
        (E::InvalidPath { source }, _) => (Terminal, format!("the path is not valid: {source}")),
        (
            E::NotSupported { .. } | E::NotImplemented { .. } | E::UnknownConfigurationKey { .. },
            _,
        ) => (Terminal, chain),
        // 408 and 429 are retryable; other 4xx mean that the request is wrong.
        (_, Some(400..=407 | 409..=428 | 430..=499)) => (Terminal, chain),
        (other, _) => match io_kind(other) {
            Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
                (Terminal, chain)
            }
            _ if chain.contains("error sending request") => {
                (Retryable, format!("the server can't be reached: {chain}"))
            }
            _ => (Retryable, chain),
        },
    }
}

/// Reason for a denied request: the code of the server's XML response.
fn denial(chain: &str) -> String {
    let code = chain
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map(|(code, _)| code);
    match code {
        Some("InvalidAccessKeyId") => "the server does not know the access key id".to_owned(),
        Some("SignatureDoesNotMatch") => "the secret access key is wrong".to_owned(),
        Some(code) => format!(
            "{code}; the bucket is missing or belongs to another account, or the keys may not put, get, list and delete objects"
        ),
        None => chain.to_owned(),
    }
}

/// The library exposes the status of a failed request only in this text.
fn status(chain: &str) -> Option<u16> {
    let (_, rest) = chain.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut at = Some(error);
    while let Some(e) = at {
        if let Some(e) = e.downcast_ref::<io::Error>() {
            return Some(e.kind());
        }
        at = e.source();
    }
    None
}

/// The distinct messages of an error and its causes; most of them repeat the next.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(e) = at {
        let message = e.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        at = e.source();
    }
    text
}
