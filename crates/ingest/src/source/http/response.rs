//! Responses of the source: their form, and rejections of requests as a whole.

use bytes::Bytes;
use forebay_model::ByteSize;
use forebay_record::charset::CharsetError;
use forebay_record::coding;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use crate::metrics::HTTP_REJECTED;
use crate::quota::{QuotaExceeded, QuotaKind};
use crate::signature::SignatureProblem;

pub(super) type SourceResponse = Response<Full<Bytes>>;

const SERVER: HeaderValue = HeaderValue::from_static("Forebay");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
pub(super) const HEALTH_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
/// Retry delay after a rejection for lack of capacity, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");
/// The same for a full disk, whose space is freed by imports: as for a quota of disk space.
const RETRY_AFTER_FULL: HeaderValue = HeaderValue::from_static("10");

/// Scheme of a 401 response, which HTTP requires; senders sign by their own rules.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Signature");

/// Values of [`Rejection::error`].
const CAUSES: [&str; 19] = [
    "routeNotFound",
    "noSourceFound",
    "disabledSource",
    "badRequest",
    "methodNotAllowed",
    "handshakeRejected",
    "invalidSignature",
    "unsupportedCharset",
    "bodyTooLarge",
    "tooManyRecords",
    "payloadTooLarge",
    "headerTooLarge",
    "unsupportedContentEncoding",
    "eof",
    "requestTimeout",
    "outcomeUnknown",
    "notTakenInTime",
    "tooManyRequests",
    "quotaExceeded",
];

/// Reason for rejecting a whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    Route,
    Project(String),
    Source,
    Disabled,
    BodyTooLarge(ByteSize),
    InflatedTooLarge(ByteSize),
    HeaderTooLarge(ByteSize),
    TooManyRecords(usize),
    /// The rows of a request exceed the memory limit.
    RowsTooLarge(ByteSize),
    Encoding(String),
    /// Unknown charset.
    Charset(CharsetError),
    /// Invalid value of `batch` in the address.
    BatchFlag(String),
    /// Unsupported method, and the supported ones.
    Method(Method, HeaderValue),
    /// Rejected handshake, and why.
    Handshake(StatusCode, String),
    /// A missing or wrong signature.
    Signature(SignatureProblem),
    Malformed(String),
    ClientClosed,
    SlowBody,
    /// The disk did not respond in time.
    SlowDisk,
    /// Waiting for a thread or for templates took too long: nothing was appended.
    DeadlineExceeded,
    Busy,
    /// A quota is used up.
    Quota(QuotaExceeded),
}

impl From<SignatureProblem> for Rejection {
    fn from(problem: SignatureProblem) -> Self {
        Self::Signature(problem)
    }
}

impl Rejection {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Route | Self::Source | Self::Disabled => StatusCode::NOT_FOUND,
            Self::Project(_) | Self::Malformed(_) | Self::BatchFlag(_) => StatusCode::BAD_REQUEST,
            Self::Method(..) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Handshake(status, _) => *status,
            Self::Signature(_) => StatusCode::UNAUTHORIZED,
            Self::BodyTooLarge(_)
            | Self::InflatedTooLarge(_)
            | Self::TooManyRecords(_)
            | Self::RowsTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeaderTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Encoding(_) | Self::Charset(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            // nginx's code for it; no client reads it.
            Self::ClientClosed => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::SlowDisk => StatusCode::INTERNAL_SERVER_ERROR,
            Self::DeadlineExceeded => StatusCode::SERVICE_UNAVAILABLE,
            // Not 507, after which some senders drop the data.
            Self::Quota(exceeded) if exceeded.kind == QuotaKind::Disk => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Busy | Self::Quota(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// Creates the counters of all causes with 0.
    pub(super) fn register_meters() {
        for cause in CAUSES {
            metrics::counter!(HTTP_REJECTED, "cause" => cause).increment(0);
        }
    }

    pub(super) fn error(&self) -> &'static str {
        match self {
            Self::Route => "routeNotFound",
            Self::Source => "noSourceFound",
            Self::Disabled => "disabledSource",
            Self::Project(_) | Self::Malformed(_) | Self::BatchFlag(_) => "badRequest",
            Self::Method(..) => "methodNotAllowed",
            Self::Handshake(..) => "handshakeRejected",
            Self::Signature(_) => "invalidSignature",
            Self::Charset(_) => "unsupportedCharset",
            Self::BodyTooLarge(_) | Self::InflatedTooLarge(_) => "bodyTooLarge",
            Self::TooManyRecords(_) => "tooManyRecords",
            Self::RowsTooLarge(_) => "payloadTooLarge",
            Self::HeaderTooLarge(_) => "headerTooLarge",
            Self::Encoding(_) => "unsupportedContentEncoding",
            Self::ClientClosed => "eof",
            Self::SlowBody => "requestTimeout",
            Self::SlowDisk => "outcomeUnknown",
            Self::DeadlineExceeded => "notTakenInTime",
            Self::Busy => "tooManyRequests",
            Self::Quota(_) => "quotaExceeded",
        }
    }

    fn message(&self) -> String {
        let text = match self {
            Self::Route => {
                "Not found, please send data using POST /stream/<projectID>/<sourceID>/<secret>"
            }
            Self::Source => {
                "The specified combination of projectID, sourceID and secret was not found."
            }
            Self::Disabled => "The specified source is disabled in all branches.",
            Self::ClientClosed => "The client closed the connection.",
            Self::SlowBody => "The request's body did not arrive in time. Nothing was stored.",
            Self::SlowDisk => {
                "The record was not confirmed in time. It may appear in the table; sent again, it may appear twice."
            }
            Self::DeadlineExceeded => {
                "The request could not be processed in time. Nothing of it was stored, send it again later."
            }
            Self::Busy => {
                "Too much data is on its way to the disk. Nothing of this request was stored, send it again later."
            }
            Self::Quota(exceeded) => return exceeded.to_string(),
            Self::Project(given) => return format!("Invalid project ID \"{given}\"."),
            Self::Malformed(cause) => return format!("Malformed request: {cause}."),
            Self::BodyTooLarge(max) => {
                return format!("Request body size is over the maximum \"{max}\".");
            }
            Self::InflatedTooLarge(max) => {
                return format!(
                    "Request body size after decompression is over the maximum \"{max}\"."
                );
            }
            Self::HeaderTooLarge(max) => {
                return format!("Request header size is over the maximum \"{max}\".");
            }
            Self::TooManyRecords(max) => {
                return format!(
                    "The batch has more than the maximum of {max} records. Nothing was stored."
                );
            }
            Self::RowsTooLarge(max) => {
                return format!(
                    "The rows of the request are over the maximum of {max} in flight. Nothing was stored."
                );
            }
            Self::Encoding(given) => {
                return format!(
                    "Unsupported content encoding \"{given}\", supported: {}.",
                    coding::SUPPORTED
                );
            }
            Self::Charset(error) => return capitalized(&format!("{error}.")),
            Self::BatchFlag(value) => {
                return format!(
                    "Invalid query parameter \"batch\": the value is \"{}\", allowed are true, 1 or no value (each element of an array is a record), false or 0 (the body is one record).",
                    value.chars().take(64).collect::<String>()
                );
            }
            Self::Method(method, allowed) => {
                return format!(
                    "This address accepts records: send each in the body of a POST request. The method {method} is not supported, supported are: {}. For webhook senders that verify the address with another method, set the source's setting source.handshake.kinds.",
                    String::from_utf8_lossy(allowed.as_bytes())
                );
            }
            Self::Handshake(_, cause) => {
                return format!("The handshake was not answered: {cause}.");
            }
            Self::Signature(problem) => {
                return format!("Invalid signature: {problem}. Nothing was stored.");
            }
        };
        text.to_owned()
    }

    /// Whether the connection must be closed.
    pub(super) fn closes_connection(&self) -> bool {
        matches!(self, Self::Quota(over) if over.kind == QuotaKind::Connections)
    }

    pub(super) fn to_response(&self) -> SourceResponse {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct SourceErrorBody {
            status_code: u16,
            error: String,
            message: String,
        }
        let status = self.status();
        let body = SourceErrorBody {
            status_code: status.as_u16(),
            error: format!("stream.in.{}", self.error()),
            message: self.message(),
        };
        metrics::counter!(HTTP_REJECTED, "cause" => self.error()).increment(1);
        let mut response = json(status, &body);
        match self {
            Self::Busy | Self::DeadlineExceeded => {
                set(&mut response, header::RETRY_AFTER, RETRY_AFTER)
            }
            Self::Quota(exceeded) => {
                set(
                    &mut response,
                    header::RETRY_AFTER,
                    exceeded.wait.seconds().into(),
                );
            }
            Self::Encoding(_) => {
                let supported = HeaderValue::from_static(coding::SUPPORTED);
                set(&mut response, header::ACCEPT_ENCODING, supported);
            }
            Self::Method(_, allowed) => set(&mut response, header::ALLOW, allowed.clone()),
            Self::Signature(_) => set(&mut response, header::WWW_AUTHENTICATE, CHALLENGE),
            _ => {}
        }
        // The rest of the body would be parsed as the next request.
        if matches!(
            self,
            Self::BodyTooLarge(_) | Self::HeaderTooLarge(_) | Self::SlowBody
        ) || self.closes_connection()
        {
            close(&mut response);
        }
        response
    }
}

/// Closes the connection after this response.
pub(super) fn close(response: &mut SourceResponse) {
    set(
        response,
        header::CONNECTION,
        HeaderValue::from_static("close"),
    );
}

pub(super) fn set(response: &mut SourceResponse, name: HeaderName, value: HeaderValue) {
    response.headers_mut().insert(name, value);
}

pub(super) fn plain(status: StatusCode, body: &'static [u8]) -> SourceResponse {
    let mut response = SourceResponse::new(Full::new(Bytes::from_static(body)));
    *response.status_mut() = status;
    set(&mut response, header::SERVER, SERVER);
    response
}

/// `OK`, for a request that succeeded.
pub(super) fn ok(status: StatusCode) -> SourceResponse {
    let mut response = plain(status, b"OK");
    set(&mut response, header::CONTENT_TYPE, TEXT);
    response
}

/// Any body as indented JSON with a line end.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> SourceResponse {
    let mut text = serde_json::to_vec_pretty(body).unwrap_or_default();
    text.push(b'\n');
    let mut response = SourceResponse::new(Full::new(text.into()));
    *response.status_mut() = status;
    set(&mut response, header::SERVER, SERVER);
    set(&mut response, header::CONTENT_TYPE, JSON);
    response
}

/// Tells a client when to send again what was not stored.
pub(super) fn retry_later(response: &mut SourceResponse, is_full: bool) {
    let wait = if is_full {
        RETRY_AFTER_FULL
    } else {
        RETRY_AFTER
    };
    set(response, header::RETRY_AFTER, wait);
}

/// Health check of the reference service.
pub(super) fn health() -> SourceResponse {
    let mut response = plain(StatusCode::OK, b"OK\n");
    set(&mut response, header::CONTENT_TYPE, TEXT);
    response
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).collect()
}
