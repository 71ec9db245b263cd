//! Answers: their form, and those that are about the request as a whole.

use bytes::Bytes;
use forebay_model::ByteSize;
use forebay_record::charset::CharsetError;
use forebay_record::coding;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use crate::quota::{Cause, Over};

pub(super) type Answer = Response<Full<Bytes>>;

const SERVER: HeaderValue = HeaderValue::from_static("Forebay");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
pub(super) const HEALTH_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
/// How long a client that was refused for want of room should wait.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Why a request was not taken, as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Route,
    Project(String),
    Source,
    Disabled,
    BodyTooLarge(ByteSize),
    InflatedTooLarge(ByteSize),
    HeaderTooLarge(ByteSize),
    TooManyRecords(usize),
    /// The rows that a request becomes can't be held.
    RowsTooLarge(ByteSize),
    Encoding(String),
    /// A charset that is not known.
    Charset(CharsetError),
    /// A value of `batch` in the address.
    BatchFlag(String),
    /// A method, with those that there are.
    Method(Method, HeaderValue),
    /// A handshake that is not answered, and why.
    Handshake(StatusCode, String),
    Malformed(String),
    Gone,
    SlowBody,
    /// The disk did not answer in time.
    SlowDisk,
    /// Its turn, or its templates, took too long: nothing is on its way to the disk.
    NotInTime,
    Busy,
    /// A quota is used up.
    Quota(Over),
}

impl Refusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Route | Self::Source | Self::Disabled => StatusCode::NOT_FOUND,
            Self::Project(_) | Self::Malformed(_) | Self::BatchFlag(_) => StatusCode::BAD_REQUEST,
            Self::Method(..) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Handshake(status, _) => *status,
            Self::BodyTooLarge(_)
            | Self::InflatedTooLarge(_)
            | Self::TooManyRecords(_)
            | Self::RowsTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeaderTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Encoding(_) | Self::Charset(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            // nginx's code for it; nobody is there to read it.
            Self::Gone => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::SlowDisk => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotInTime => StatusCode::SERVICE_UNAVAILABLE,
            Self::Quota(over) if over.cause == Cause::Disk => StatusCode::INSUFFICIENT_STORAGE,
            Self::Busy | Self::Quota(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    fn error(&self) -> &'static str {
        match self {
            Self::Route => "routeNotFound",
            Self::Source => "noSourceFound",
            Self::Disabled => "disabledSource",
            Self::Project(_) | Self::Malformed(_) | Self::BatchFlag(_) => "badRequest",
            Self::Method(..) => "methodNotAllowed",
            Self::Handshake(..) => "handshakeRefused",
            Self::Charset(_) => "unsupportedCharset",
            Self::BodyTooLarge(_) | Self::InflatedTooLarge(_) => "bodyTooLarge",
            Self::TooManyRecords(_) => "tooManyRecords",
            Self::RowsTooLarge(_) => "payloadTooLarge",
            Self::HeaderTooLarge(_) => "headerTooLarge",
            Self::Encoding(_) => "unsupportedContentEncoding",
            Self::Gone => "eof",
            Self::SlowBody => "requestTimeout",
            Self::SlowDisk => "outcomeUnknown",
            Self::NotInTime => "notTakenInTime",
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
            Self::Gone => "The client closed the connection.",
            Self::SlowBody => "The request's body did not arrive in time. Nothing was stored.",
            Self::SlowDisk => {
                "The record was not confirmed in time. It may appear in the table; sent again, it may appear twice."
            }
            Self::NotInTime => {
                "The request could not be worked on in time. Nothing of it was stored, send it again later."
            }
            Self::Busy => {
                "Too much data is on its way to the disk. Nothing of this request was stored, send it again later."
            }
            Self::Quota(over) => return over.to_string(),
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
                    "This address takes records: send each in the body of a POST request. {method} is not among the methods that it has: {}. Senders of webhooks that ask with another one first are answered by the source's setting source.handshake.kinds.",
                    String::from_utf8_lossy(allowed.as_bytes())
                );
            }
            Self::Handshake(_, cause) => {
                return format!("The handshake was not answered: {cause}.");
            }
        };
        text.to_owned()
    }

    /// The connection itself is too much.
    pub(super) fn is_of_connections(&self) -> bool {
        matches!(self, Self::Quota(over) if over.cause == Cause::Connections)
    }

    /// What the client gets.
    pub(super) fn answer(&self) -> Answer {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            status_code: u16,
            error: String,
            message: String,
        }
        let status = self.status();
        let body = Body {
            status_code: status.as_u16(),
            error: format!("stream.in.{}", self.error()),
            message: self.message(),
        };
        let mut answer = json(status, &body);
        match self {
            Self::Busy | Self::NotInTime => set(&mut answer, header::RETRY_AFTER, RETRY_AFTER),
            Self::Quota(over) => {
                set(&mut answer, header::RETRY_AFTER, over.wait.seconds().into());
            }
            Self::Encoding(_) => {
                let supported = HeaderValue::from_static(coding::SUPPORTED);
                set(&mut answer, header::ACCEPT_ENCODING, supported);
            }
            Self::Method(_, allowed) => set(&mut answer, header::ALLOW, allowed.clone()),
            _ => {}
        }
        // What is left of the request would be taken for the next one's beginning.
        if matches!(
            self,
            Self::BodyTooLarge(_) | Self::HeaderTooLarge(_) | Self::SlowBody
        ) || self.is_of_connections()
        {
            close(&mut answer);
        }
        answer
    }
}

/// The connection ends with this answer.
pub(super) fn close(answer: &mut Answer) {
    set(
        answer,
        header::CONNECTION,
        HeaderValue::from_static("close"),
    );
}

pub(super) fn set(answer: &mut Answer, name: HeaderName, value: HeaderValue) {
    answer.headers_mut().insert(name, value);
}

pub(super) fn plain(status: StatusCode, body: &'static [u8]) -> Answer {
    let mut answer = Answer::new(Full::new(Bytes::from_static(body)));
    *answer.status_mut() = status;
    set(&mut answer, header::SERVER, SERVER);
    answer
}

/// `OK`, for a request that went well.
pub(super) fn ok(status: StatusCode) -> Answer {
    let mut answer = plain(status, b"OK");
    set(&mut answer, header::CONTENT_TYPE, TEXT);
    answer
}

/// Any body as indented JSON with a line end.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    let mut text = serde_json::to_vec_pretty(body).unwrap_or_default();
    text.push(b'\n');
    let mut answer = Answer::new(Full::new(text.into()));
    *answer.status_mut() = status;
    set(&mut answer, header::SERVER, SERVER);
    set(&mut answer, header::CONTENT_TYPE, JSON);
    answer
}

/// Asks a client of a full volume to come back later.
pub(super) fn retry_later(answer: &mut Answer) {
    set(answer, header::RETRY_AFTER, RETRY_AFTER);
}

/// The health check of the reference service.
pub(super) fn health() -> Answer {
    let mut answer = plain(StatusCode::OK, b"OK\n");
    set(&mut answer, header::CONTENT_TYPE, TEXT);
    answer
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).collect()
}
