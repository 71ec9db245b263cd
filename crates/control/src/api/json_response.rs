//! Answers: pretty-printed JSON.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// A body in JSON, with its status.
#[derive(Debug)]
pub(super) struct JsonResponse<T>(pub(super) StatusCode, pub(super) T);

impl<T> JsonResponse<T> {
    /// 200.
    pub(super) fn ok(body: T) -> Self {
        Self(StatusCode::OK, body)
    }

    /// 201.
    pub(super) fn created(body: T) -> Self {
        Self(StatusCode::CREATED, body)
    }
}

impl<T: Serialize> IntoResponse for JsonResponse<T> {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(pretty(&self.1)));
        *response.status_mut() = self.0;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

/// JSON with two spaces a level and a line end.
pub(super) fn pretty(body: &impl Serialize) -> String {
    // Forms of this crate have text keys and no serializer that fails.
    let mut text = serde_json::to_string_pretty(body).unwrap_or_default();
    text.push('\n');
    text
}
