//! JSON responses, pretty-printed.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// A JSON body with its status.
#[derive(Debug)]
pub(super) struct JsonResponse<T>(pub(super) StatusCode, pub(super) T);

impl<T> JsonResponse<T> {
    pub(super) fn ok(body: T) -> Self {
        Self(StatusCode::OK, body)
    }

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

/// JSON indented by two spaces, with a newline at the end.
pub(super) fn pretty(body: &impl Serialize) -> String {
    // Types of this crate have string keys and no failing serializer.
    let mut text = serde_json::to_string_pretty(body).unwrap_or_default();
    text.push('\n');
    text
}
