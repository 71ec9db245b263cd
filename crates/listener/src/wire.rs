//! What the HTTP library lets pass though it is no proper HTTP, and rejections of the listener.

use bytes::Bytes;
use forebay_model::ByteSize;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use serde::Serialize;

use crate::Service;

/// Why the listener rejects a request by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RFC 9112, 3.2: HTTP/1.1 has exactly one. Two parties that choose differently would see two
    /// different requests.
    #[error("Malformed request: it has {0} Host header fields, HTTP/1.1 needs exactly one.")]
    Host(usize),
    /// RFC 9112, 3.2: its value is no host.
    #[error(
        "Malformed request: the Host header field \"{0}\" is not a host with or without a port."
    )]
    HostValue(String),
    /// RFC 9112, 6.1: `chunked` is applied once.
    #[error("Malformed request: Transfer-Encoding has \"chunked\" more than once.")]
    ChunkedTwice,
    /// RFC 9112, 6.1: a coding that is not known.
    #[error("Transfer-Encoding \"{0}\" is not supported, supported: chunked.")]
    Coding(String),
    /// Its headers are too long.
    #[error("Request header size is over the maximum \"{0}\".")]
    HeaderTooLarge(ByteSize),
    /// No room for the response.
    #[error("Clients have not read too many responses; send the request again later.")]
    TooManyUnread,
}

impl Violation {
    /// Status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Host(_) | Self::HostValue(_) | Self::ChunkedTwice => StatusCode::BAD_REQUEST,
            Self::Coding(_) => StatusCode::NOT_IMPLEMENTED,
            Self::HeaderTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooManyUnread => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Host(_) | Self::HostValue(_) | Self::ChunkedTwice => "badRequest",
            Self::Coding(_) => "unsupportedTransferEncoding",
            Self::HeaderTooLarge(_) => "headerTooLarge",
            Self::TooManyUnread => "tooManyUnreadResponses",
        }
    }

    /// The response, in the form that errors have everywhere.
    pub(crate) fn response<S: Service>(&self, service: &S) -> Response<S::Body> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct ErrorBody {
            status_code: u16,
            error: String,
            message: String,
        }
        let status = self.status();
        let body = ErrorBody {
            status_code: status.as_u16(),
            error: format!("{}{}", service.error_prefix(), self.name()),
            message: self.to_string(),
        };
        let mut text = serde_json::to_vec_pretty(&body).unwrap_or_default();
        text.push(b'\n');
        let mut response = Response::new(S::body(Bytes::from(text)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        if *self == Self::TooManyUnread {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        } else {
            // Whoever frames requests like this may mean something else by the bytes that follow.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// What is wrong with a request's framing.
pub(crate) fn violation<B>(request: &Request<B>) -> Option<Violation> {
    let headers = request.headers();
    match request.version() {
        Version::HTTP_11 => {
            let hosts = headers.get_all(header::HOST).iter().count();
            if hosts != 1 {
                return Some(Violation::Host(hosts));
            }
            let value = headers
                .get(header::HOST)
                .map_or(&[][..], HeaderValue::as_bytes);
            if !is_host(value) {
                let shown: String = String::from_utf8_lossy(value).chars().take(64).collect();
                return Some(Violation::HostValue(shown));
            }
            transfer_encoding(headers)
        }
        _ => transfer_encoding(headers),
    }
}

/// Whether a value is `uri-host [ ":" port ]` (RFC 9110, 7.2); an empty one is, where the target has
/// no authority.
fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = position(rest, b']') else {
                return false;
            };
            let is_address = |b: &u8| b.is_ascii_alphanumeric() || b":._~-%".contains(b);
            if end == 0 || !rest[..end].iter().all(is_address) {
                return false;
            }
            (&[][..], &rest[end + 1..])
        }
        None => value.split_at(position(value, b':').unwrap_or(value.len())),
    };
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(b);
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    host.iter().all(is_name) && is_port
}

fn position(text: &[u8], byte: u8) -> Option<usize> {
    text.iter().position(|b| *b == byte)
}

fn transfer_encoding(headers: &HeaderMap) -> Option<Violation> {
    let mut chunked = 0;
    for value in headers.get_all(header::TRANSFER_ENCODING) {
        let text = String::from_utf8_lossy(value.as_bytes());
        for coding in text.split(',').map(str::trim).filter(|c| !c.is_empty()) {
            if !coding.eq_ignore_ascii_case("chunked") {
                return Some(Violation::Coding(text.into_owned()));
            }
            chunked += 1;
        }
    }
    (chunked > 1).then_some(Violation::ChunkedTwice)
}

/// Bytes of the request line and headers, as HTTP/1.1 would write them.
#[cfg_attr(
    not(feature = "router"),
    allow(dead_code, reason = "services of their own look at it themselves")
)]
pub(crate) fn head_size<B>(request: &Request<B>) -> u64 {
    let uri = request.uri();
    let target = uri.path_and_query().map_or(1, |p| p.as_str().len());
    let line = request.method().as_str().len() + target + " HTTP/1.1\r\n".len() + 1;
    let headers = request.headers().iter();
    let headers: usize = headers.map(|(n, v)| n.as_str().len() + v.len() + 4).sum();
    (line + headers + 2) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(version: Version, headers: &[(&str, &str)]) -> Option<Violation> {
        let mut request = Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        violation(&request.body(()).unwrap())
    }

    #[test]
    fn http_1_1_has_one_host_and_others_need_none() {
        let host = ("host", "a");
        assert_eq!(found(Version::HTTP_11, &[host]), None);
        assert_eq!(found(Version::HTTP_11, &[]), Some(Violation::Host(0)));
        for second in ["a", "b", ""] {
            let two = [host, ("host", second)];
            assert_eq!(found(Version::HTTP_11, &two), Some(Violation::Host(2)));
        }
        assert_eq!(found(Version::HTTP_10, &[]), None);
        assert_eq!(found(Version::HTTP_2, &[]), None);
    }

    #[test]
    fn a_host_is_a_host() {
        for host in [
            "",
            "a",
            "my_service:7000",
            "a.example.:80",
            "127.0.0.1",
            "[::1]",
            "[fe80::1%25eth0]:443",
            "xn--bcher-kva.example",
            "a:",
        ] {
            assert_eq!(found(Version::HTTP_11, &[("host", host)]), None, "{host}");
        }
        for host in [
            "a b", "a, b", "http://a", "a/b", "a@b", "a:b", "a:80:90", "a:123456", "[::1", "[]",
            "[::1]x", "::1", "a\"b", "a<b>", "a?b",
        ] {
            let bad = Some(Violation::HostValue(host.to_owned()));
            assert_eq!(found(Version::HTTP_11, &[("host", host)]), bad, "{host}");
        }
    }

    #[test]
    fn the_only_transfer_coding_is_chunked_once() {
        let of = |values: &[&str]| {
            let mut headers = vec![("host", "a")];
            headers.extend(values.iter().map(|v| ("transfer-encoding", *v)));
            found(Version::HTTP_11, &headers)
        };
        assert_eq!(of(&["Chunked"]), None);
        assert_eq!(of(&["chunked, chunked"]), Some(Violation::ChunkedTwice));
        assert_eq!(of(&["chunked", "chunked"]), Some(Violation::ChunkedTwice));
        for coding in ["gzip, chunked", "identity", "chunked;q=1", "xchunked"] {
            assert_eq!(of(&[coding]), Some(Violation::Coding(coding.to_owned())));
        }
    }
}
