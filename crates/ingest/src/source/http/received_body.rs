//! Body of a request before it is split into records.

use bytes::Bytes;
use forebay_record::{BodyEncoding, BodyFormat, BodyMode};

use crate::memory_limiter::MemoryPermit;

/// Bytes of a decompressed body up to which it is read on the request's thread: about half a
/// millisecond at most, for which other connections wait.
pub(super) const BODY_AT_ONCE: usize = 16 << 10;

/// The same for a batch.
const BATCH_AT_ONCE: usize = 8 << 10;

/// A received body that is not split into records yet.
pub(super) struct ReceivedBody {
    pub(super) bytes: Bytes,
    /// Encoding to be undone: compression, or a charset other than UTF-8.
    pub(super) encoding: Option<BodyEncoding>,
    pub(super) mode: BodyMode,
    pub(super) format: BodyFormat,
    pub(super) memory_permit: MemoryPermit,
}

impl ReceivedBody {
    /// Whether it is too large to be read on the request's thread.
    pub(super) fn is_large(&self) -> bool {
        let at_once = match self.mode {
            BodyMode::Single => BODY_AT_ONCE,
            BodyMode::Ndjson | BodyMode::JsonSequence | BodyMode::JsonArray => BATCH_AT_ONCE,
        };
        self.encoding.is_some() || self.bytes.len() > at_once
    }
}
