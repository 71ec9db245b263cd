//! Responses of the service.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use serde_json::json;

pub(super) const JSON: &str = "application/json";

pub(super) fn build_response(
    status: StatusCode,
    kind: &'static str,
    body: Bytes,
) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

pub(super) fn error_response(status: StatusCode, error: &str, message: &str) -> Response<Body> {
    let body = json!({ "statusCode": status.as_u16(), "error": error, "message": message });
    build_response(status, JSON, Bytes::from(body.to_string()))
}

pub(super) fn unavailable() -> Response<Body> {
    let text = "the table can't be read now";
    error_response(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text)
}
