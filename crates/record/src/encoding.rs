//! Decoding of a body: decompression, then conversion to UTF-8.

use bytes::Bytes;

use crate::charset::{self, Charset, CharsetError};
use crate::coding::{ContentCodings, InflateError};
use crate::form;

/// Encoding of a body as sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BodyEncoding {
    pub codings: ContentCodings,
    pub charset: Charset,
    /// Whether the body is a form, whose percent-escapes are in the charset, too.
    pub is_form: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error(transparent)]
    Inflate(#[from] InflateError),
    #[error(transparent)]
    Charset(#[from] CharsetError),
}

impl BodyEncoding {
    /// Whether the body needs no decoding. Cheap for common encodings.
    pub fn is_plain(&self, body: &[u8]) -> bool {
        self.codings.is_identity() && !self.is_of_form(body) && self.charset.is_plain(body)
    }

    /// Whether the fields of a form have to be decoded one by one.
    fn is_of_form(&self, body: &[u8]) -> bool {
        self.is_form
            && self.charset.escape_encoding().is_some_and(|encoding| {
                body.iter()
                    .any(|b| *b == b'%' || charset::is_special(encoding, *b))
            })
    }

    /// Upper bound of the memory for decoding, beside the `len` bytes of the body; `max` is the
    /// size limit.
    pub fn peak_bytes(&self, len: usize, max: usize) -> u64 {
        let (inflated, limit) = (self.codings.peak_bytes(len, max), max as u64);
        if self.charset == Charset::Bytes {
            return inflated;
        }
        let before = if inflated == 0 { len as u64 } else { inflated };
        let grows = if self.is_form { 9 } else { charset::GROWS_TO };
        match self.charset {
            Charset::Utf8 if !self.codings.is_identity() => inflated,
            _ => inflated + before.saturating_mul(grows).min(limit),
        }
    }

    /// Decodes a body to at most `max` bytes.
    pub fn decode(&self, body: &Bytes, max: usize) -> Result<Bytes, DecodeError> {
        let body = self.codings.undo(body, max)?;
        if self.is_of_form(&body) {
            let Some(encoding) = self.charset.escape_encoding() else {
                return Ok(body);
            };
            return Ok(form::to_utf8(&body, encoding, max)?.into());
        }
        if self.charset.is_plain(&body) {
            return Ok(body);
        }
        Ok(self.charset.decode(&body, max)?.into())
    }
}
