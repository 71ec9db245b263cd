//! A record, as all sinks of its source see it.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use forebay_model::Timestamp;

use crate::body::{self, BodyParseError, BodyPart, looks_like_json, ndjson_hint};
use crate::content_type::{BodyFormat, ContentType};
use crate::encoding::{BodyEncoding, DecodeError};
use crate::headers::RequestHeaders;
use crate::json::{JsonDocument, JsonKind};

/// Data shared by the records of one request.
#[derive(Debug)]
pub struct RequestInfo {
    pub received: Timestamp,
    pub client_ip: IpAddr,
    /// With HTTP/2 the source adds `:authority` as `Host`.
    pub headers: RequestHeaders,
}

/// One record, shared by all sinks. Its body is parsed once, when the first column needs it.
/// Records of a request share only its [`RequestInfo`].
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
    /// A request with one record. The body is decoded from the charset of its `Content-Type`, to at
    /// most `max` bytes of UTF-8.
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

    /// A request with one record in UTF-8. The format comes from its `Content-Type`.
    pub fn new(request: Arc<RequestInfo>, body: Bytes) -> Self {
        let content_type = request.headers.map().get(http::header::CONTENT_TYPE);
        let format = BodyFormat::from_content_type(content_type.map(http::HeaderValue::as_bytes));
        Self::with_format(request, body, format)
    }

    /// As [`Self::new`], with a known format.
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

    /// A record of a batch: always JSON, whatever the batch's content type.
    pub fn from_batch_part(request: Arc<RequestInfo>, part: BodyPart) -> Self {
        Self {
            line: part.line,
            byte: part.byte,
            of_batch: true,
            ..Self::with_format(request, part.body, BodyFormat::Json)
        }
    }

    /// The same record without the index of its body, which takes up to eight times the body: for
    /// records that wait.
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

    pub fn request(&self) -> &Arc<RequestInfo> {
        &self.request
    }

    pub fn body(&self) -> &Bytes {
        &self.body
    }

    pub fn format(&self) -> &BodyFormat {
        &self.format
    }

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

    /// The parsed body. A batch calls this to reject an invalid record even when no column needs
    /// it.
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

/// Hint for the sender of a record in which a path was not found: how the body was read, if that
/// may surprise.
pub(crate) fn not_found_hint(record: &RecordContext) -> String {
    let Ok(document) = record.document() else {
        return String::new();
    };
    let body = record.body();
    let is_array = document.kind(document.root()) == JsonKind::Array && !record.is_of_batch();
    let as_array = match is_array {
        true => "; the body is an array and one record, with ?batch each of its elements is one",
        false => "",
    };
    match record.format() {
        BodyFormat::Json => as_array.to_owned(),
        BodyFormat::Form if document.is_of(body) => as_array.to_owned(),
        BodyFormat::Form => {
            let error = looks_like_json(body).then(|| JsonDocument::parse(body.clone()).err());
            let hint = match error.flatten() {
                Some(error) => format!(
                    "; it looks like JSON, but is not: {error}{}; JSON is sent with Content-Type: application/json",
                    ndjson_hint(&error)
                ),
                None => String::new(),
            };
            format!(", which was read as application/x-www-form-urlencoded{hint}")
        }
        BodyFormat::Other(sent) => {
            format!(", which was read as JSON (its content type is \"{sent}\"){as_array}")
        }
    }
}
