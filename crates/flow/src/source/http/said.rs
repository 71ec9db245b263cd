//! What a request says of its body before the body is there.

use bytes::Bytes;
use forebay_record::coding::Codings;
use forebay_record::{BodyEncoding, BodyFormat, BodyMode, ContentType};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

use super::answer::Refusal;
use super::large::Sent;
use super::query;
use crate::budget::Charge;

/// What a request says of its body.
pub(super) struct Said {
    format: BodyFormat,
    pub(super) mode: BodyMode,
    encoding: BodyEncoding,
}

impl Said {
    /// What the headers and the query say.
    pub(super) fn by(headers: &HeaderMap, query: &str) -> Result<Self, Refusal> {
        let mut codings = Codings::default();
        for value in headers.get_all(CONTENT_ENCODING) {
            let text = String::from_utf8_lossy(value.as_bytes());
            codings.add(&text).map_err(|e| Refusal::Encoding(e.0))?;
        }
        let sent = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let ContentType {
            format,
            batch,
            charset,
        } = ContentType::of(sent).map_err(Refusal::Charset)?;
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

    /// The body, as far as it is known now.
    pub(super) fn of(self, bytes: Bytes, charge: Charge) -> Sent {
        let is_plain = self.encoding.is_plain(&bytes);
        Sent {
            bytes,
            encoding: (!is_plain).then_some(self.encoding),
            mode: self.mode,
            format: self.format,
            charge,
        }
    }
}
