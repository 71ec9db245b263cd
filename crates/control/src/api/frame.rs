//! What is around every request: its id, CORS, the end of the path, the time limit, panics, and
//! the body of errors.

use std::panic::AssertUnwindSafe;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::error::{ApiError, ErrorName};
use super::pace::PaceShown;
use super::refused::{self, Asked};
use super::{Shared, document};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PATCH, PUT, DELETE");
const HEADERS: HeaderValue =
    HeaderValue::from_static("Content-Type, Authorization, X-StorageApi-Token, X-KBC-ProjectId");

/// The middleware.
pub(super) async fn frame(State(api): State<Shared>, mut request: Request, next: Next) -> Response {
    let pace = PaceShown::default();
    request.extensions_mut().insert(pace.clone());
    let asked = Asked::of(&mut request);
    let id = api.random.request_id();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match early(&request) {
        Some(response) => response,
        None => guarded(&api, request, next).await,
    };
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        log(&error, &id, &method, &path);
        if let Some(asked) = &asked {
            refused::note(&api, asked, &error).await;
        }
        response = error.response(&id, &api.config.support_contact);
    }
    pace.write(response.headers_mut());
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    if let Some(origin) = origin {
        allow(response.headers_mut(), origin);
    }
    response
}

fn log(error: &ApiError, id: &str, method: &Method, path: &str) {
    if error.name.status().is_server_error() {
        tracing::error!(request = id, %method, path, %error, "request failed");
    } else {
        tracing::debug!(request = id, %method, path, %error, "request refused");
    }
}

/// Runs the request; it ends in time, and a panic ends it alone.
async fn guarded(api: &Shared, request: Request, next: Next) -> Response {
    let running = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(api.config.request_timeout.0, running).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let text = text.unwrap_or("a panic without a text");
            ApiError::new(ErrorName::PanicError, text).into_response()
        }
        Err(_) => {
            let limit = &api.config.request_timeout;
            ApiError::of(ErrorName::RequestTimeout, &[limit]).into_response()
        }
    }
}

/// Requests that need no route.
fn early(request: &Request) -> Option<Response> {
    let asks_for = header::ACCESS_CONTROL_REQUEST_METHOD;
    let headers = request.headers();
    let is_preflight = request.method() == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(asks_for);
    if is_preflight {
        return Some(preflight());
    }
    let path = request.uri().path();
    if path == document::PAGE {
        return None;
    }
    let shorter = path.strip_suffix('/').filter(|p| !p.is_empty())?;
    // Two slashes at the beginning would send the browser to another host.
    if shorter.starts_with("//") || shorter.ends_with('/') {
        return None;
    }
    let location = match request.uri().query() {
        Some(query) => format!("{shorter}?{query}"),
        None => shorter.to_owned(),
    };
    Some(moved(&location))
}

/// 301.
pub(super) fn moved(location: &str) -> Response {
    let mut response = StatusCode::MOVED_PERMANENTLY.into_response();
    if let Ok(value) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(600));
    response
}

/// Tokens are sent by header only, never by cookie, so any page may ask.
fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("X-Request-Id, Retry-After, RateLimit, RateLimit-Policy"),
    );
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}
