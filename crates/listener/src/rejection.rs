//! Rejections by the listener: framing that the HTTP library accepts though it is invalid, and
//! limits.

use bytes::Bytes;
use forebay_model::ByteSize;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::Authority;
use http::{Request, Response, StatusCode, Version};
use serde::Serialize;

use crate::HttpService;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenerRejection {
    /// RFC 9112, 3.2: HTTP/1.1 needs exactly one. Two servers that pick different ones would see
    /// different requests.
    #[error("Malformed request: it has {0} Host header fields, HTTP/1.1 needs exactly one.")]
    Host(usize),
    /// RFC 9112, 3.2 and RFC 9113, 8.3.1: a host with an optional port, equal to that of the
    /// target.
    #[error(
        "Malformed request: Host \"{0}\" is not valid, allowed is a host with an optional port; over HTTP/2 that of \":authority\"."
    )]
    HostValue(String),
    /// RFC 9112, 6.1: `chunked` must be applied once.
    #[error("Malformed request: Transfer-Encoding has \"chunked\" more than once.")]
    ChunkedTwice,
    /// RFC 9112, 6.1: an unknown coding.
    #[error("Transfer-Encoding \"{0}\" is not supported, supported: chunked.")]
    Coding(String),
    #[error("Request header size is over the maximum \"{0}\".")]
    HeaderTooLarge(ByteSize),
    /// The unread limit is reached.
    #[error("Too many unread responses; retry later.")]
    TooManyUnread,
}

impl ListenerRejection {
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

    /// The response, in the common error format.
    pub(crate) fn response<S: HttpService>(&self, service: &S) -> Response<S::Body> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct RejectionBody {
            status_code: u16,
            error: String,
            message: String,
        }
        let status = self.status();
        let body = RejectionBody {
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
            // A client with such framing may interpret the following bytes differently.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Validates the framing and the host of a request.
pub(crate) fn check_request<B>(request: &Request<B>) -> Option<ListenerRejection> {
    let headers = request.headers();
    let hosts = headers.get_all(header::HOST).iter().count();
    let version = request.version();
    if version == Version::HTTP_11 && hosts != 1 || hosts > 1 {
        return Some(ListenerRejection::Host(hosts));
    }
    if let Some(host) = headers.get(header::HOST) {
        let authority = request
            .uri()
            .authority()
            .filter(|_| version == Version::HTTP_2);
        let matches_target =
            authority.is_none_or(|a| host.as_bytes().eq_ignore_ascii_case(a.as_str().as_bytes()));
        if !matches_target || !is_host(host) {
            let text = String::from_utf8_lossy(host.as_bytes()).into_owned();
            return Some(ListenerRejection::HostValue(text));
        }
    }
    transfer_encoding(headers)
}

/// Whether the value is a host with an optional port; a target without an authority has an empty
/// one.
fn is_host(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else {
        return false;
    };
    if text.is_empty() {
        return true;
    }
    let Ok(authority) = text.parse::<Authority>() else {
        return false;
    };
    if authority.host() == "[]" {
        return false;
    }
    let port = text.strip_prefix(authority.host()).unwrap_or("@");
    let port = port.strip_prefix(':').unwrap_or(port);
    port.is_empty() || port.parse::<u16>().is_ok()
}

fn transfer_encoding(headers: &HeaderMap) -> Option<ListenerRejection> {
    let mut chunked = 0;
    for value in headers.get_all(header::TRANSFER_ENCODING) {
        let text = String::from_utf8_lossy(value.as_bytes());
        for coding in text.split(',').map(str::trim).filter(|c| !c.is_empty()) {
            if !coding.eq_ignore_ascii_case("chunked") {
                return Some(ListenerRejection::Coding(text.into_owned()));
            }
            chunked += 1;
        }
    }
    (chunked > 1).then_some(ListenerRejection::ChunkedTwice)
}

/// Bytes of the request line and headers, as HTTP/1.1 would write them. A service without a router
/// checks the limit itself.
pub fn head_size<B>(request: &Request<B>) -> u64 {
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

    fn found(version: Version, headers: &[(&str, &str)]) -> Option<ListenerRejection> {
        let mut request = Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check_request(&request.body(()).unwrap())
    }

    #[test]
    fn http_1_1_needs_one_host_and_other_versions_none() {
        let host = ("host", "a");
        assert_eq!(found(Version::HTTP_11, &[host]), None);
        assert_eq!(
            found(Version::HTTP_11, &[]),
            Some(ListenerRejection::Host(0))
        );
        for second in ["a", "b", ""] {
            let two = [host, ("host", second)];
            assert_eq!(
                found(Version::HTTP_11, &two),
                Some(ListenerRejection::Host(2))
            );
        }
        assert_eq!(found(Version::HTTP_10, &[]), None);
        assert_eq!(found(Version::HTTP_2, &[]), None);
    }

    #[test]
    fn a_host_may_have_a_port() {
        let of = |host: &str| found(Version::HTTP_11, &[("host", host)]);
        for fine in [
            "",
            "a",
            "A.example",
            "a:",
            "a:80",
            "127.0.0.1:7000",
            "[::1]",
            "[::1]:80",
            "my_service:7000",
            "a.example.:80",
            "xn--bcher-kva.example",
        ] {
            assert_eq!(of(fine), None, "{fine}");
        }
        for bad in [
            "a, b", "a b", "a/b", "/", "a?b", "a#b", "u@a", "u:p@a", "a:b", "a:80:81", "a:99999",
            "a\"b", "a<b>", "[]", "[::1]x", "[::1", "::1", "http://a", "a\\b", "é",
        ] {
            assert_eq!(
                of(bad),
                Some(ListenerRejection::HostValue(bad.to_owned())),
                "{bad}"
            );
        }
        assert_eq!(
            found(Version::HTTP_10, &[("host", "a/b")]),
            Some(ListenerRejection::HostValue("a/b".to_owned()))
        );
    }

    #[test]
    fn the_host_of_http_2_must_match_the_target() {
        let of = |host: &str| {
            let request = Request::builder()
                .version(Version::HTTP_2)
                .uri("http://a:1/x");
            check_request(&request.header("host", host).body(()).unwrap())
        };
        assert_eq!(of("A:1"), None);
        for other in ["a", "b:1", ""] {
            assert_eq!(
                of(other),
                Some(ListenerRejection::HostValue(other.to_owned()))
            );
        }
    }

    #[test]
    fn the_only_transfer_coding_is_a_single_chunked() {
        let of = |values: &[&str]| {
            let mut headers = vec![("host", "a")];
            headers.extend(values.iter().map(|v| ("transfer-encoding", *v)));
            found(Version::HTTP_11, &headers)
        };
        assert_eq!(of(&["Chunked"]), None);
        assert_eq!(
            of(&["chunked, chunked"]),
            Some(ListenerRejection::ChunkedTwice)
        );
        assert_eq!(
            of(&["chunked", "chunked"]),
            Some(ListenerRejection::ChunkedTwice)
        );
        for coding in ["gzip, chunked", "identity", "chunked;q=1", "xchunked"] {
            assert_eq!(
                of(&[coding]),
                Some(ListenerRejection::Coding(coding.to_owned()))
            );
        }
    }
}
