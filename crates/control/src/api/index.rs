//! Routes outside of sources, sinks and tasks.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::config::base;
use super::error::{ApiError, ErrorName};
use super::json_response::JsonResponse;
use super::redirect::moved_permanently;
use super::{SharedApi, dashboard, document};
use forebay_api::common::ApiIndex;

/// Redirects to the current API version; browsers to the dashboard.
#[utoipa::path(
    get, path = "/", tag = "documentation", operation_id = "RootIndex",
    responses(
        (status = 301, description = "Redirect to the current version of the API."),
        (status = 302, description = "Redirect to the dashboard, for clients that accept `text/html`."),
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
        moved_permanently("/v1")
    };
    let vary = HeaderValue::from_static("Accept");
    response.headers_mut().append(header::VARY, vary);
    response
}

/// Returns the name of the API and the address of its documentation.
#[utoipa::path(
    get, path = "/v1", tag = "documentation", operation_id = "VersionIndex",
    responses((status = 200, description = "Name of the API and address of its documentation.", body = ApiIndex))
)]
pub(super) async fn index(State(api): State<SharedApi>) -> JsonResponse<ApiIndex> {
    JsonResponse::ok(ApiIndex {
        api: "stream".to_owned(),
        documentation: format!(
            "{}{}",
            base(&api.config.public_url),
            document::DOCUMENTATION
        ),
    })
}

/// Liveness of the API; readiness has its own endpoint.
#[utoipa::path(
    get, path = "/health-check", tag = "documentation", operation_id = "HealthCheck",
    responses((status = 200, description = "The API responds.", content_type = "text/plain", body = String))
)]
pub(super) async fn health_check() -> Response {
    ([(header::CONTENT_TYPE, "text/plain")], "OK").into_response()
}

/// Fallback for unknown paths.
pub(super) async fn not_found(request: Request) -> ApiError {
    ApiError::from_template(ErrorName::EndpointNotFound, &[&request.uri().path()])
}
