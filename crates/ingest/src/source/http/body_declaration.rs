//! Declaration of a request's body, before it is read: format, mode and encoding.

use bytes::Bytes;
use forebay_record::coding::ContentCodings;
use forebay_record::{BodyEncoding, BodyFormat, BodyMode, ContentType};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

use super::query;
use super::received_body::ReceivedBody;
use super::response::Rejection;
use crate::memory_limiter::MemoryPermit;

pub(super) struct BodyDeclaration {
    format: BodyFormat,
    pub(super) mode: BodyMode,
    encoding: BodyEncoding,
}

impl BodyDeclaration {
    /// Reads the declaration from the headers and the query.
    pub(super) fn from_headers(headers: &HeaderMap, query: &str) -> Result<Self, Rejection> {
        let mut codings = ContentCodings::default();
        for value in headers.get_all(CONTENT_ENCODING) {
            let text = String::from_utf8_lossy(value.as_bytes());
            codings.add(&text).map_err(|e| Rejection::Encoding(e.0))?;
        }
        let sent = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let ContentType {
            format,
            batch,
            charset,
        } = ContentType::from_header(sent).map_err(Rejection::Charset)?;
        let mode = match (query::batch(query)?, batch) {
            (Some(false), _) | (None, None) => BodyMode::Single,
            (_, Some(mode)) => mode,
            (Some(true), None) => BodyMode::JsonArray,
        };
        let encoding = BodyEncoding {
            codings,
            charset,
            is_form: format == BodyFormat::Form && mode == BodyMode::Single,
        };
        Ok(Self {
            format,
            mode,
            encoding,
        })
    }

    /// Combines the declaration with the received bytes.
    pub(super) fn into_received(self, bytes: Bytes, memory_permit: MemoryPermit) -> ReceivedBody {
        let is_plain = self.encoding.is_plain(&bytes);
        ReceivedBody {
            bytes,
            encoding: (!is_plain).then_some(self.encoding),
            mode: self.mode,
            format: self.format,
            memory_permit,
        }
    }
}
