//! A record on its way through the mappings of its source's sinks.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use forebay_model::Timestamp;

use crate::body::{self, BodyFormat, BodyParseError, BodyPart};
use crate::content_type::ContentType;
use crate::encoding::{BodyEncoding, DecodeError};
use crate::headers::RequestHeaders;
use crate::json::JsonDocument;

/// What the records of one request have in common.
#[derive(Debug)]
pub struct RequestInfo {
    /// When the request was received.
    pub received: Timestamp,
    /// Who sent it.
    pub client_ip: IpAddr,
    /// Its headers. Over HTTP/2 the source puts `:authority` in as `Host`.
    pub headers: RequestHeaders,
}

/// One record. It is shared by all sinks; its body is parsed once, when the first column asks.
/// Nothing in it is shared with other records but what is the same for the whole request.
#[derive(Debug)]
pub struct RecordContext {
    request: Arc<RequestInfo>,
    body: Bytes,
    format: BodyFormat,
    line: Option<usize>,
    byte: usize,
    of_batch: bool,
    document: OnceLock<Result<JsonDocument, BodyParseError>>,
}

impl RecordContext {
    /// The one record that a request is, whose body is as it was sent, in the charset that its
    /// `Content-Type` names.
    ///
    /// # Errors
    /// If the charset is not known, or the body is not a text in it, or larger than `max` bytes as
    /// UTF-8.
    pub fn received(
        request: Arc<RequestInfo>,
        body: &Bytes,
        max: usize,
    ) -> Result<Self, DecodeError> {
        let sent = request.headers.map().get(http::header::CONTENT_TYPE);
        let content_type = ContentType::from_header(sent.map(http::HeaderValue::as_bytes))?;
        let encoding = BodyEncoding {
            charset: content_type.charset,
            is_form: content_type.format == BodyFormat::Form,
            ..BodyEncoding::default()
        };
        let body = encoding.decode(body, max)?;
        Ok(Self::with_format(request, body, content_type.format))
    }

    /// The one record that a request is, its text in UTF-8. The format comes from the `Content-Type`
    /// header.
    pub fn new(request: Arc<RequestInfo>, body: Bytes) -> Self {
        let content_type = request.headers.map().get(http::header::CONTENT_TYPE);
        let format = BodyFormat::from_content_type(content_type.map(http::HeaderValue::as_bytes));
        Self::with_format(request, body, format)
    }

    /// The same with a known format.
    pub fn with_format(request: Arc<RequestInfo>, body: Bytes, format: BodyFormat) -> Self {
        Self {
            request,
            body,
            format,
            line: None,
            byte: 0,
            of_batch: false,
            document: OnceLock::new(),
        }
    }

    /// One record of a batch: JSON, whatever the batch's content type.
    pub fn from_batch_part(request: Arc<RequestInfo>, part: BodyPart) -> Self {
        Self {
            line: part.line,
            byte: part.byte,
            of_batch: true,
            ..Self::with_format(request, part.body, BodyFormat::Json)
        }
    }

    /// The same record before anything has been read of it: the index of its body takes up to eight
    /// times the body, so whoever waits does not keep it.
    pub fn unparsed(&self) -> Self {
        Self {
            line: self.line,
            byte: self.byte,
            of_batch: self.of_batch,
            ..Self::with_format(
                Arc::clone(&self.request),
                self.body.clone(),
                self.format.clone(),
            )
        }
    }

    /// What it has in common with the request's other records.
    pub fn request(&self) -> &Arc<RequestInfo> {
        &self.request
    }

    /// Its bytes.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// What the bytes are.
    pub fn format(&self) -> &BodyFormat {
        &self.format
    }

    /// Whether it is one record of a batch.
    pub fn is_of_batch(&self) -> bool {
        self.of_batch
    }

    /// Line of its batch, from 1.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// Byte of that line at which it starts.
    pub fn byte(&self) -> usize {
        self.byte
    }

    /// The parsed body. A batch's reader may call this to refuse a broken record even when no
    /// column looks into it.
    ///
    /// # Errors
    /// If the content type is not one that is parsed, or the body is not what it says.
    pub fn document(&self) -> Result<&JsonDocument, &BodyParseError> {
        self.document
            .get_or_init(|| {
                body::parse(
                    &self.format,
                    &self.body,
                    self.line.map(|line| (line, self.byte)),
                )
            })
            .as_ref()
    }
}
