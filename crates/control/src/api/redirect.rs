//! Permanent redirects.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

pub(super) fn moved_permanently(location: &str) -> Response {
    let mut response = StatusCode::MOVED_PERMANENTLY.into_response();
    if let Ok(value) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}
