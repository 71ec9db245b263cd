//! Requests to the API of the same process.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use forebay_connect::http::HttpResponse;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use tower_service::Service as _;

use super::{RESPONSE_BYTES_MAX, TOKEN};
use crate::cli_error::CliError;

/// Response of the API of the same process.
pub(super) async fn local_response(
    mut router: Router,
    token: HeaderValue,
    method: Method,
    path: &str,
    body: Option<Bytes>,
) -> Result<HttpResponse, CliError> {
    let invalid = |e: &dyn std::fmt::Display| CliError::new(format_args!("request {path}: {e}"));
    let url = Url::parse(&format!("http://localhost{path}")).map_err(|e| invalid(&e))?;
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(TOKEN, token)
        .header(CONTENT_TYPE, "application/json")
        .extension(ConnectInfo(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
        .body(body.map_or_else(Body::empty, Body::from))
        .map_err(|e| invalid(&e))?;
    let response = router.call(request).await;
    let (head, body) = response.unwrap_or_else(|never| match never {}).into_parts();
    let body = axum::body::to_bytes(body, RESPONSE_BYTES_MAX).await;
    Ok(HttpResponse {
        status: head.status,
        headers: head.headers,
        url,
        body: body.map_err(|e| invalid(&e))?,
        is_cut: false,
        problem: None,
    })
}
