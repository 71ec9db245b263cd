//! How a body is encoded on its way here, and what it is without that: text in UTF-8, or bytes.

use bytes::Bytes;

use crate::charset::{self, Charset, CharsetError};
use crate::coding::{ContentCodings, InflateError};
use crate::form;

/// What was done to a body before it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BodyEncoding {
    /// Compression of the body.
    pub codings: ContentCodings,
    /// Charset of the text.
    pub charset: Charset,
    /// Whether the body is a form, whose percent-escapes are in the charset too.
    pub is_form: bool,
}

/// A body that can't be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Of its compression.
    #[error(transparent)]
    Inflate(#[from] InflateError),
    /// Of its text.
    #[error(transparent)]
    Charset(#[from] CharsetError),
}

impl BodyEncoding {
    /// Whether there is nothing to do. Costs next to nothing for what is usual.
    pub fn is_plain(&self, body: &[u8]) -> bool {
        self.codings.is_identity() && !self.is_of_form(body) && self.charset.is_plain(body)
    }

    /// Whether fields have to be read one by one.
    fn is_of_form(&self, body: &[u8]) -> bool {
        self.is_form
            && self.charset.escape_encoding().is_some_and(|encoding| {
                body.iter()
                    .any(|b| *b == b'%' || charset::is_special(encoding, *b))
            })
    }

    /// Most bytes that decoding a body of `len` bytes holds besides it, where `max` is the limit.
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

    /// The body as it was before: decompressed, and text as UTF-8.
    ///
    /// # Errors
    /// If it is not what it says, or becomes larger than `max` bytes.
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
