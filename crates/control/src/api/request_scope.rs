//! Middleware of every request: id, CORS, trailing slash, time limit, panics and error bodies.

use std::panic::AssertUnwindSafe;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::body_limiter::BodyPermit;
use super::error::{ApiError, ErrorName};
use super::redirect::moved_permanently;
use super::rejection_audit::AuditedRequest;
use super::token_rate_limiter::RateLimitHeaders;
use super::{SharedApi, document};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PATCH, PUT, DELETE");
const HEADERS: HeaderValue =
    HeaderValue::from_static("Content-Type, Authorization, X-StorageApi-Token, X-KBC-ProjectId");

pub(super) async fn middleware(
    State(api): State<SharedApi>,
    mut request: Request,
    next: Next,
) -> Response {
    let rate_limit_headers = RateLimitHeaders::default();
    request.extensions_mut().insert(rate_limit_headers.clone());
    let body_permit = BodyPermit::default();
    request.extensions_mut().insert(body_permit.clone());
    let audited = AuditedRequest::from_request(&mut request);
    let id = api.random.request_id();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match respond_early(&request) {
        Some(response) => response,
        None => guarded(&api, request, next).await,
    };
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        log(&error, &id, &method, &path);
        if let Some(audited) = &audited {
            let rejections = &api.rejection_audit;
            rejections
                .record(&api.repo, api.clock.now(), audited, &error)
                .await;
        }
        response = error.response(&id, &api.config.support_contact);
    }
    drop(body_permit);
    rate_limit_headers.write(response.headers_mut());
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    if let Some(origin) = origin {
        allow_origin(response.headers_mut(), origin);
    }
    response
}

fn log(error: &ApiError, id: &str, method: &Method, path: &str) {
    if error.status().is_server_error() {
        tracing::error!(request = id, %method, path, %error, "request failed");
    } else {
        tracing::debug!(request = id, %method, path, %error, "request rejected");
    }
}

/// Runs the request with a time limit; a panic ends only this request.
async fn guarded(api: &SharedApi, request: Request, next: Next) -> Response {
    let running = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(api.config.request_timeout.0, running).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let text = text.unwrap_or("panic without a message");
            ApiError::new(ErrorName::PanicError, text).into_response()
        }
        Err(_) => {
            let limit = &api.config.request_timeout;
            ApiError::from_template(ErrorName::RequestTimeout, &[limit]).into_response()
        }
    }
}

/// Responds to requests that need no route.
fn respond_early(request: &Request) -> Option<Response> {
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
    if !stays_here(shorter) || shorter.ends_with('/') {
        return None;
    }
    let location = match request.uri().query() {
        Some(query) => format!("{shorter}?{query}"),
        None => shorter.to_owned(),
    };
    Some(moved_permanently(&location))
}

/// Whether a browser resolves a path to this server. It reads two slashes at the start as a host, a
/// backslash as a slash, and skips control characters.
fn stays_here(path: &str) -> bool {
    let is_odd = |c: char| c == '\\' || c.is_control() || c.is_whitespace();
    path.starts_with('/') && !path.starts_with("//") && !path.contains(is_odd)
}

fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(600));
    response
}

/// Tokens are sent only by header, never by cookie, so any origin is allowed.
fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("X-Request-Id, Retry-After, RateLimit, RateLimit-Policy"),
    );
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_redirect_leads_to_another_host() {
        for (path, location) in [
            ("/v1/", Some("/v1")),
            ("/v1/a%5Cb/?x=//y", Some("/v1/a%5Cb?x=//y")),
            ("//evil.example/", None),
            ("///evil.example/", None),
            ("/\\evil.example/", None),
            ("/\\/evil.example/", None),
            ("/a\\b/", None),
            ("/v1//", None),
        ] {
            let Ok(uri) = path.parse::<http::Uri>() else {
                // The library rejects it as a path.
                continue;
            };
            let request = Request::builder().uri(uri).body(axum::body::Body::empty());
            let response = respond_early(&request.unwrap());
            let found = response
                .as_ref()
                .map(|r| r.headers()[header::LOCATION].to_str());
            assert_eq!(found.transpose().unwrap(), location, "{path}");
        }
    }
}
