//! Transport of requests to the API: over HTTP, or in the same process.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use forebay_api::TOKEN_HEADER;
use forebay_connect::http::{HttpClient, HttpClientConfig, HttpResponse, secret_header};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Certificate, Method, Url};
use tower_service::Service as _;

use crate::cli_error::CliError;

const TIMEOUT: Duration = Duration::from_secs(60);
/// Longest response body.
pub(super) const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// Transport of requests to the API.
#[derive(Debug)]
pub(super) enum ApiTransport {
    Http(HttpClient),
    /// The API of the same process.
    Local {
        router: Router,
        token: HeaderValue,
    },
}

impl ApiTransport {
    /// For requests to `base`.
    pub(super) fn http(
        base: &Url,
        token: &str,
        authorities: Vec<Certificate>,
    ) -> Result<Self, CliError> {
        let mut headers = HeaderMap::new();
        headers.insert(TOKEN_HEADER, token_header(token)?);
        let client = HttpClient::new(HttpClientConfig {
            headers,
            timeout: TIMEOUT,
            response_max: RESPONSE_BYTES_MAX,
            authorities,
        });
        let client = client.map_err(CliError::new)?;
        client.prepare(base).map_err(|e| {
            CliError::new(format_args!("{base}: {e}"))
                .hint("--api-ca sets a PEM file with the CA certificates of the server")
        })?;
        Ok(Self::Http(client))
    }

    pub(super) fn local(router: Router, token: &str) -> Result<Self, CliError> {
        let token = token_header(token)?;
        Ok(Self::Local { router, token })
    }
}

fn token_header(token: &str) -> Result<HeaderValue, CliError> {
    secret_header(token).map_err(|e| CliError::usage(format_args!("token: {e}")))
}

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
        .header(TOKEN_HEADER, token)
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
