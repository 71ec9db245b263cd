//! Requests and responses.

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode, Url};

#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// No redirect changes it.
    pub method: Method,
    /// Address; the request is sent to its origin only.
    pub url: Url,
    pub headers: HeaderMap,
    /// Held in memory, so that it can be sent again.
    pub body: Option<Bytes>,
}

impl HttpRequest {
    pub fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: None,
        }
    }
}

/// Response of any status except a redirect.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Final URL, after all redirects.
    pub url: Url,
    /// The decompressed body, possibly truncated.
    pub body: Bytes,
    /// The body exceeds the limit.
    pub is_cut: bool,
    /// Error of the decompression; then the body is empty. The status is valid nevertheless.
    pub problem: Option<String>,
}
