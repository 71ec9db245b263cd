//! CORS headers, so that pages of any origin may send records and read the responses.
//!
//! A source is protected by the secret in its address, and by nothing that a browser adds by
//! itself: there are no cookies, and no client certificates. So a page gains nothing from a
//! browser's credentials, and the origin is echoed (`docs/adr/1434-…`): `navigator.sendBeacon`
//! sends with credentials, for which `*` is not valid.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::response::{SourceResponse, plain, set};

const ANY: HeaderValue = HeaderValue::from_static("*");
const TRUE: HeaderValue = HeaderValue::from_static("true");
/// Headers that a page may read; with credentials, only those that are named.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("Content-Type, RateLimit, RateLimit-Policy, Retry-After, Server");
/// Used if the request names no headers; `*` does not include `Authorization`.
const HEADERS: HeaderValue = HeaderValue::from_static("*, Authorization, Content-Type");
/// How long browsers may cache the response; Chromium caps it at this.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
const VARIES: HeaderValue = HeaderValue::from_static("Origin");
const PREFLIGHT_VARIES: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
);
/// Maximum bytes of echoed header names.
const REQUESTED_MAX: usize = 1 << 10;

/// Lets the page that sent the request read the response.
pub(super) fn allow(response: &mut SourceResponse, origin: HeaderValue) {
    set(response, ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    set(response, ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
    set(response, ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    if !response.headers().contains_key(VARY) {
        set(response, VARY, VARIES);
    }
}

/// Responds to a preflight. Without an origin, no request with credentials follows.
pub(super) fn preflight(headers: &HeaderMap, methods: HeaderValue) -> SourceResponse {
    let mut response = plain(StatusCode::OK, b"");
    let requested = headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
    let requested = requested.filter(|names| is_list(names)).cloned();
    set(&mut response, ALLOW, methods.clone());
    set(&mut response, ACCESS_CONTROL_ALLOW_METHODS, methods);
    let allowed = requested.unwrap_or(HEADERS);
    set(&mut response, ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    set(&mut response, ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    set(&mut response, VARY, PREFLIGHT_VARIES);
    if !headers.contains_key(ORIGIN) {
        set(&mut response, ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
        set(&mut response, ACCESS_CONTROL_EXPOSE_HEADERS, ANY);
    }
    response
}

/// Whether a value is a list of header names.
fn is_list(value: &HeaderValue) -> bool {
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || b"-_, \t".contains(b);
    let bytes = value.as_bytes();
    !bytes.is_empty() && bytes.len() <= REQUESTED_MAX && bytes.iter().all(is_name)
}
