//! Error bodies, and advice for a server that can't be reached.

use forebay_connect::http::HttpResponse;
use serde::Deserialize;

/// Fields of an error body that are used: one of the management API, or of another server at its address,
/// which may lack both.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RejectionBody {
    pub(super) error: String,
    pub(super) message: Option<String>,
}

impl RejectionBody {
    pub(super) fn new(response: &HttpResponse) -> Self {
        serde_json::from_slice(&response.body).unwrap_or_default()
    }
}

/// Hint for a server that can't be reached.
pub(super) fn unreachable(base: &str, cause: &str) -> &'static str {
    if base.starts_with("https:") && cause.to_lowercase().contains("certificate") {
        "--api-ca sets a PEM file with the CA certificates of the server"
    } else {
        "is it running? `forebay serve` starts it; --api sets another address"
    }
}
