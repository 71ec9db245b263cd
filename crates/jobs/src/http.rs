//! Calls of external APIs: one client per API, bounded responses, errors with the details that a retry needs.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use forebay_connect::http::{
    self as calls, HttpClient, HttpClientConfig, HttpError, HttpHop, HttpRequest,
};
use forebay_model::Timestamp;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reqwest::{Method, Url};

use crate::definition::HttpAuth;

/// Characters of a response that an error quotes.
const QUOTED: usize = 200;

/// A client of one API.
#[derive(Clone)]
pub(crate) struct HttpApiClient {
    inner: HttpClient,
    max_body: usize,
}

/// A successful response.
#[derive(Debug)]
pub(crate) struct CallResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The final URL, after all redirects.
    pub(crate) url: Url,
    pub(crate) body: Bytes,
    /// The body is longer than the part that was read.
    is_cut: bool,
    /// The error of decompressing the body.
    problem: Option<String>,
}

/// Result of one request for a page.
#[derive(Debug)]
pub(crate) enum PageHop {
    Page(Box<CallResponse>),
    /// A redirect to follow, after this wait if the API asks for one.
    Redirect(Option<Duration>),
}

#[cfg(test)]
impl CallResponse {
    pub(crate) fn new(url: Url, headers: HeaderMap, body: Bytes) -> Self {
        Self {
            status: StatusCode::OK,
            headers,
            url,
            body,
            is_cut: false,
            problem: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallError {
    /// Status of the response, if there was one.
    pub(crate) status: Option<StatusCode>,
    /// The `Retry-After` of the response.
    pub(crate) retry_after: Option<Duration>,
    /// Message for people; without the token.
    pub(crate) text: String,
}

/// The request of a page with its redirects.
pub(crate) struct PageCall {
    call: calls::HttpCall,
    max_body: usize,
}

impl HttpApiClient {
    /// A client that sends `headers` and `auth` with each request.
    pub(crate) fn new(
        auth: Option<&HttpAuth>,
        headers: &BTreeMap<String, String>,
        timeout: Duration,
        max_body: u64,
    ) -> Result<Self, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::try_from(name).map_err(|e| e.to_string())?;
            map.insert(
                name,
                HeaderValue::try_from(value).map_err(|e| e.to_string())?,
            );
        }
        if let Some(auth) = auth {
            let token = auth.token.expose();
            let (name, value) = if auth.header.eq_ignore_ascii_case("bearer") {
                (AUTHORIZATION, format!("Bearer {token}"))
            } else {
                let name = HeaderName::try_from(&auth.header).map_err(|e| e.to_string())?;
                (name, token.to_owned())
            };
            let value = calls::secret_header(&value);
            map.insert(name, value.map_err(|e| format!("invalid token: {e}"))?);
        }
        let max_body = usize::try_from(max_body).unwrap_or(usize::MAX);
        let inner = HttpClient::new(HttpClientConfig {
            headers: map,
            timeout,
            response_max: max_body,
            authorities: Vec::new(),
        })?;
        Ok(Self { inner, max_body })
    }

    /// Prepares the request of a page.
    pub(crate) fn page(&self, url: Url) -> PageCall {
        let mut request = HttpRequest::get(url);
        let json = HeaderValue::from_static("application/json");
        request.headers.insert(ACCEPT, json);
        PageCall {
            call: self.inner.call(request),
            max_body: self.max_body,
        }
    }

    /// Posts a record. The key is the same for each attempt, so an API that supports it accepts the record once.
    pub(crate) async fn post(
        &self,
        url: Url,
        body: Bytes,
        key: &str,
        now: Timestamp,
    ) -> Result<CallResponse, CallError> {
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(CONTENT_TYPE, json);
        let key =
            HeaderValue::try_from(key).map_err(|e| CallError::without_response(e.to_string()));
        headers.insert("idempotency-key", key?);
        let request = HttpRequest {
            method: Method::POST,
            url,
            headers,
            body: Some(body),
        };
        let response = self.inner.send(request, now).await;
        check_status(
            response.map_err(|e| CallError::from_http_error(e, now))?,
            now,
        )
    }

    /// Checks that the body is complete and decompressed.
    pub(crate) fn whole(&self, response: CallResponse) -> Result<CallResponse, CallError> {
        whole(response, self.max_body)
    }
}

impl PageCall {
    /// Sends one request.
    pub(crate) async fn hop(&mut self, now: Timestamp) -> Result<PageHop, CallError> {
        let hop = self.call.hop(now).await;
        match hop.map_err(|e| CallError::from_http_error(e, now))? {
            HttpHop::Redirect(wait) => Ok(PageHop::Redirect(wait)),
            HttpHop::Response(response) => {
                let response = whole(check_status(*response, now)?, self.max_body)?;
                Ok(PageHop::Page(Box::new(response)))
            }
        }
    }
}

/// Rejects a response without a success status.
fn check_status(response: calls::HttpResponse, now: Timestamp) -> Result<CallResponse, CallError> {
    let status = response.status;
    if !status.is_success() {
        return Err(CallError {
            status: Some(status),
            retry_after: calls::retry_after(&response.headers, now),
            text: format!("the response is {status}{}", quote(&response.body)),
        });
    }
    Ok(CallResponse {
        status,
        headers: response.headers,
        url: response.url,
        body: response.body,
        is_cut: response.is_cut,
        problem: response.problem,
    })
}

fn whole(response: CallResponse, max_body: usize) -> Result<CallResponse, CallError> {
    if let Some(problem) = response.problem {
        return Err(CallError::without_response(problem));
    }
    if response.is_cut {
        let text = format!("the response is longer than {max_body} bytes");
        return Err(CallError::without_response(text));
    }
    Ok(response)
}

impl CallError {
    pub(crate) fn without_response(text: String) -> Self {
        Self {
            status: None,
            retry_after: None,
            text,
        }
    }

    fn from_http_error(error: HttpError, now: Timestamp) -> Self {
        let prefix = if error.is_redirect() {
            "the response is "
        } else {
            ""
        };
        Self {
            status: error.status,
            retry_after: calls::retry_after(&error.headers, now),
            text: format!("{prefix}{error}"),
        }
    }
}

/// The beginning of a body, for an error message.
pub(crate) fn quote(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..QUOTED * 4).unwrap_or(body));
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(QUOTED)
        .collect();
    match text.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_short_and_on_one_line() {
        assert_eq!(quote(b"<html>\n<b>x\x00</b>"), ": <html> <b>x </b>");
        assert_eq!(quote(b" \n"), "");
        assert!(quote(&[b'a'; 5000]).len() < 300);
    }
}
