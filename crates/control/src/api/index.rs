//! What is not about a source, sink or task.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::config::base;
use super::error::{ApiError, ErrorName};
use super::json_response::JsonResponse;
use super::types::common::ApiIndex;
use super::{SharedApi, dashboard, document, request_scope};

/// To the present version of the API; browsers to the dashboard.
#[utoipa::path(
    get, path = "/", tag = "documentation", operation_id = "RootIndex",
    responses(
        (status = 301, description = "To the present version of the API."),
        (status = 302, description = "To the dashboard, for whoever accepts `text/html`."),
    )
)]
pub(super) async fn root(headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter();
    let mut accept = accept.filter_map(|v| v.to_str().ok());
    let mut response = if accept.any(|v| v.contains("text/html")) {
        let mut response = StatusCode::FOUND.into_response();
        let page = HeaderValue::from_static(dashboard::PAGE);
        response.headers_mut().insert(header::LOCATION, page);
        response
    } else {
        request_scope::moved("/v1")
    };
    let vary = HeaderValue::from_static("Accept");
    response.headers_mut().append(header::VARY, vary);
    response
}

/// What the API is called and where it is described.
#[utoipa::path(
    get, path = "/v1", tag = "documentation", operation_id = "VersionIndex",
    responses((status = 200, description = "What the API is called and where it is described.", body = ApiIndex))
)]
pub(super) async fn index(State(api): State<SharedApi>) -> JsonResponse<ApiIndex> {
    JsonResponse::ok(ApiIndex {
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
    ApiError::from_template(ErrorName::EndpointNotFound, &[&request.uri().path()])
}
