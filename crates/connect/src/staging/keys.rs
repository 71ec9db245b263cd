//! Objects of a bucket by arbitrary keys.
//!
//! An S3 key is any text: `a//b`, `a/./b`, one with a line feed. The library's path type supports
//! only some of them, and its listing fails as a whole at the first unsupported one. So keys are
//! listed here as texts, by separate requests that the library signs, and objects with unsupported
//! keys are read the same way.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_model::Backoff;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{
    HttpClient, HttpConnector, HttpRequest, HttpRequestBody, HttpResponse, ReqwestConnector,
};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;

use super::s3::{address, checked, client_options};
use super::{S3Staging, StagingError};

/// Characters not escaped in a query, as the signature requires.
const IN_QUERY: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const IN_PATH: AsciiSet = IN_QUERY.remove(b'/');
/// A listing page has 1,000 keys of at most 1,024 bytes, each of which may be escaped to three.
const RESPONSE_BYTES_MAX: usize = 16 << 20;
/// Waits before retries, like those of the library's client.
const RETRY_BACKOFF: Backoff =
    Backoff::doubling(Duration::from_millis(100), Duration::from_secs(15));
/// Characters of a response that an error quotes.
const QUOTED: usize = 200;

/// A bucket with arbitrary keys.
#[derive(Debug)]
pub struct TextKeyBucket {
    name: String,
    store: AmazonS3,
    client: HttpClient,
    region: String,
    /// URL of the bucket, without a trailing slash.
    address: String,
    is_signed: bool,
    retries: u32,
}

/// An object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedObject {
    pub key: String,
    /// In bytes.
    pub size: u64,
    /// Version of the object, for `If-Match`.
    pub etag: String,
}

impl TextKeyBucket {
    /// Opens a bucket without contacting it. Fails when the configuration is invalid.
    pub fn open(config: &S3Staging) -> Result<Self, StagingError> {
        let (store, name) = checked(config)?;
        let invalid =
            |cause: &dyn std::fmt::Display| StagingError::terminal(format!("{name}: {cause}"));
        let options = client_options(config).map_err(|e| invalid(&e))?;
        let client = ReqwestConnector::default()
            .connect(&options)
            .map_err(|e| invalid(&e))?;
        Ok(Self {
            address: address(config),
            is_signed: !config.anonymous,
            region: config.region.clone(),
            retries: u32::try_from(config.retries).unwrap_or(u32::MAX),
            name,
            store,
            client,
        })
    }

    /// Name of the bucket in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All objects whose keys have a prefix, in the order of keys, in pages of at most `at_once`.
    pub fn list<'a>(
        self: &'a Arc<Self>,
        prefix: &'a str,
        at_once: u16,
    ) -> BoxStream<'a, Result<KeyedObject, StagingError>> {
        let pages = futures::stream::try_unfold(Some(String::new()), move |token| async move {
            let Some(token) = token else { return Ok(None) };
            let page = self.page(prefix, &token, at_once).await?;
            let next = page.next_continuation_token.filter(|_| page.is_truncated);
            if next.as_ref() == Some(&token) {
                return Err(self.failed("list the bucket", "its pages repeat"));
            }
            let is_encoded = page.encoding_type.as_deref() == Some("url");
            let objects = page.contents.into_iter().map(move |object| KeyedObject {
                key: if is_encoded {
                    decoded(&object.key)
                } else {
                    object.key
                },
                size: object.size,
                etag: object.e_tag.unwrap_or_default(),
            });
            let objects = futures::stream::iter(objects.map(Ok));
            Ok::<_, StagingError>(Some((objects, next)))
        });
        pages.try_flatten().boxed()
    }

    async fn page(
        &self,
        prefix: &str,
        token: &str,
        most: u16,
    ) -> Result<ListingPage, StagingError> {
        let text = |text: &str| utf8_percent_encode(text, &IN_QUERY).to_string();
        let mut query = String::new();
        if !token.is_empty() {
            query = format!("continuation-token={}&", text(token));
        }
        query.push_str(&format!(
            "encoding-type=url&list-type=2&max-keys={most}&prefix={}",
            text(prefix)
        ));
        let response = self
            .request("list the bucket", &format!("/?{query}"), &[])
            .await?;
        let body = self.read_body("list the bucket", response).await?;
        quick_xml::de::from_reader(&body[..])
            .map_err(|e| self.failed("list the bucket", &format!("invalid response: {e}")))
    }

    /// A range of an object, open at both ends. Fails when the object's version differs from
    /// `etag`; the stream fails in the same ways.
    pub async fn get(
        &self,
        key: &str,
        range: Range<Option<u64>>,
        etag: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, std::io::Error>>, StagingError> {
        let is_held = Path::parse(key).is_ok_and(|p| p.as_ref() == key);
        if !is_held {
            return self.get_by_text(key, range, etag).await;
        }
        let (from, to) = (range.start.unwrap_or(0), range.end);
        let options = GetOptions {
            range: match to {
                Some(to) => Some(GetRange::Bounded(from..to)),
                None => (from > 0).then_some(GetRange::Offset(from)),
            },
            if_match: Some(etag.to_owned()).filter(|e| !e.is_empty()),
            ..GetOptions::default()
        };
        let path = Path::parse(key).unwrap_or_default();
        let got = self.store.get_opts(&path, options).await;
        let got = got.map_err(|e| self.failed("read an object", &e))?;
        Ok(got.into_stream().map_err(std::io::Error::other).boxed())
    }

    async fn get_by_text(
        &self,
        key: &str,
        range: Range<Option<u64>>,
        etag: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, std::io::Error>>, StagingError> {
        let action = "read an object";
        if !is_addressable(key) {
            let text = "its key has a segment `.` or `..`, which a URL can't contain";
            return Err(self.failed(action, text));
        }
        let mut headers = Vec::new();
        let from = range.start.unwrap_or(0);
        let bytes = match range.end {
            Some(to) => Some(format!("bytes={from}-{}", to.saturating_sub(1))),
            None => (from > 0).then(|| format!("bytes={from}-")),
        };
        let is_part = bytes.is_some();
        headers.extend(bytes.map(|b| ("range", b)));
        headers.extend((!etag.is_empty()).then(|| ("if-match", etag.to_owned())));
        let path = format!("/{}", utf8_percent_encode(key, &IN_PATH));
        let response = self.request(action, &path, &headers).await?;
        if is_part && response.status() != http::StatusCode::PARTIAL_CONTENT {
            return Err(self.failed(action, "the server does not support range requests"));
        }
        let body = response.into_body().bytes_stream();
        Ok(body.map_err(std::io::Error::other).boxed())
    }

    /// Sends a request, and retries retryable failures.
    async fn request(
        &self,
        action: &str,
        path: &str,
        headers: &[(&'static str, String)],
    ) -> Result<HttpResponse, StagingError> {
        let url = format!("{}{path}", self.address);
        let mut failures = 0;
        loop {
            let (text, may_succeed) = match self.request_once(&url, headers).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => {
                    let status = response.status();
                    let body = self.read_body(action, response).await.unwrap_or_default();
                    let body: String = String::from_utf8_lossy(&body)
                        .chars()
                        .take(QUOTED)
                        .collect();
                    let may_succeed = status.is_server_error()
                        || matches!(status.as_u16(), 408 | 429)
                        || body.contains("SlowDown");
                    (format!("{status}: {body}"), may_succeed)
                }
                Err(text) => (text, true),
            };
            if !may_succeed || failures >= self.retries {
                return Err(self.failed(action, &text));
            }
            failures += 1;
            tokio::time::sleep(RETRY_BACKOFF.delay(failures)).await;
        }
    }

    async fn request_once(
        &self,
        url: &str,
        headers: &[(&'static str, String)],
    ) -> Result<HttpResponse, String> {
        let mut request = http::Request::get(url);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let mut request: HttpRequest = request
            .body(HttpRequestBody::empty())
            .map_err(|e| e.to_string())?;
        if self.is_signed {
            let keys = self.store.credentials().get_credential().await;
            let keys = keys.map_err(|e| e.to_string())?;
            AwsAuthorizer::new(&keys, "s3", &self.region)
                .try_authorize(&mut request, None)
                .map_err(|e| e.to_string())?;
        }
        self.client
            .execute(request)
            .await
            .map_err(|e| e.to_string())
    }

    /// Reads a complete response up to the limit.
    async fn read_body(
        &self,
        action: &str,
        response: HttpResponse,
    ) -> Result<Vec<u8>, StagingError> {
        let mut body = Vec::new();
        let mut parts = response.into_body().bytes_stream();
        while let Some(part) = parts.next().await {
            body.extend_from_slice(&part.map_err(|e| self.failed(action, &e))?);
            if body.len() > RESPONSE_BYTES_MAX {
                return Err(self.failed(action, "the response is too long"));
            }
        }
        Ok(body)
    }

    fn failed(&self, action: &str, cause: &(impl std::fmt::Display + ?Sized)) -> StagingError {
        StagingError::terminal(format!("can't {action} in {}: {cause}", self.name))
    }
}

/// Whether a URL can contain the key: segments `.` and `..` are removed from URLs.
pub fn is_addressable(key: &str) -> bool {
    !key.split('/').any(|step| matches!(step, "." | ".."))
}

/// Decodes a key of a listing with `encoding-type=url`.
fn decoded(key: &str) -> String {
    let key = key.replace('+', " ");
    percent_decode_str(&key).decode_utf8_lossy().into_owned()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListingPage {
    #[serde(default)]
    contents: Vec<ListedObject>,
    #[serde(default)]
    is_truncated: bool,
    next_continuation_token: Option<String>,
    encoding_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedObject {
    key: String,
    size: u64,
    #[serde(rename = "ETag")]
    e_tag: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_listing_are_decoded_unchanged() {
        let page =
            "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>
            <Contents><Key>a//b%0Ac%2B+d</Key><Size>7</Size><ETag>\"x\"</ETag></Contents>
            <Contents><Key>%C3%A9/./%25</Key><Size>0</Size></Contents></ListBucketResult>";
        let page: ListingPage = quick_xml::de::from_str(page).unwrap();
        let keys: Vec<String> = page.contents.iter().map(|c| decoded(&c.key)).collect();
        assert_eq!(keys, ["a//b\nc+ d", "é/./%"]);
        assert_eq!(page.contents[0].e_tag.as_deref(), Some("\"x\""));
        assert!(is_addressable("a//b") && !is_addressable("a/./b"));
    }
}
