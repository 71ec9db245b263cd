//! What is not about a source, sink or task.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header;

use super::answer::Answer;
use super::config::base;
use super::error::{ApiError, ErrorName};
use super::types::common::Index;
use super::{Shared, document, frame};

/// To the present version of the API.
#[utoipa::path(
    get, path = "/", tag = "documentation", operation_id = "RootIndex",
    responses((status = 301, description = "To the present version of the API."))
)]
pub(super) async fn root() -> Response {
    frame::moved("/v1")
}

/// What the API is called and where it is described.
#[utoipa::path(
    get, path = "/v1", tag = "documentation", operation_id = "VersionIndex",
    responses((status = 200, description = "What the API is called and where it is described.", body = Index))
)]
pub(super) async fn index(State(api): State<Shared>) -> Answer<Index> {
    Answer::ok(Index {
        api: "stream",
        documentation: format!(
            "{}{}",
            base(&api.config.public_url),
            document::DOCUMENTATION
        ),
    })
}

/// Whether the API answers; whether it is ready is asked elsewhere.
#[utoipa::path(
    get, path = "/health-check", tag = "documentation", operation_id = "HealthCheck",
    responses((status = 200, description = "It does.", content_type = "text/plain", body = String))
)]
pub(super) async fn health_check() -> Response {
    ([(header::CONTENT_TYPE, "text/plain")], "OK").into_response()
}

/// Everything that has no route.
pub(super) async fn not_found(request: Request) -> ApiError {
    ApiError::of(ErrorName::EndpointNotFound, &[&request.uri().path()])
}
