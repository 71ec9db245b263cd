//! Appends rejected records to the dead letters: those of each request at once, in a separate
//! block. They are rare, so they are not collected over requests.

use std::sync::Arc;

use forebay_model::{BlockCompression, ByteSize, SinkKey};
use forebay_record::dead_letter::encode_block;
use forebay_record::{DeadLetter, RequestInfo, SealedBlock};

use super::appender::{Appender, BlockStream, BlockTicket, BlockToAppend};
use super::completion::BlockAppendError;
use super::shared::EncoderPool;

#[derive(Debug)]
pub(super) struct DeadLetterWriter {
    sink: SinkKey,
    max: ByteSize,
    stream: Arc<dyn BlockStream>,
    appender: Arc<dyn Appender>,
}

/// Error of storing rejected records as dead letters: they stay rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeadLetterAppendError {
    /// The sink holds the maximum.
    #[error("the sink has {0} of dead letters, the maximum")]
    Full(ByteSize),
    /// The log rejected them.
    #[error(transparent)]
    Append(#[from] BlockAppendError),
}

impl DeadLetterWriter {
    pub(super) fn new(sink: &SinkKey, max: ByteSize, appender: &Arc<dyn Appender>) -> Self {
        Self {
            sink: sink.clone(),
            max,
            stream: appender.dead_letters(sink),
            appender: Arc::clone(appender),
        }
    }

    /// Appends the dead letters of one request: all of them or none. The ticket resolves with their
    /// outcome.
    pub(super) fn append(
        &self,
        (encoders, compression): (&EncoderPool, BlockCompression),
        request: &RequestInfo,
        dead_letters: &[DeadLetter],
    ) -> Result<BlockTicket, DeadLetterAppendError> {
        if self.appender.dead_letter_bytes(&self.sink) >= self.max.0 {
            return Err(DeadLetterAppendError::Full(self.max));
        }
        let raw = encode_block(request, dead_letters);
        let raw = raw.map_err(|e| BlockAppendError::Other(e.to_string().into()))?;
        let payload = encoders.take(compression).and_then(|mut encoder| {
            let payload = encoder.encode(&raw)?;
            encoders.put(compression, encoder);
            Ok(payload)
        });
        let payload = payload.map_err(|e| BlockAppendError::Other(e.to_string().into()))?;
        let records = u32::try_from(dead_letters.len())
            .map_err(|_| BlockAppendError::TooLarge("too many records".into()))?;
        Ok(self.stream.append(BlockToAppend {
            sealed: SealedBlock {
                payload,
                raw_len: raw.len(),
                records,
            },
            first_at: request.received,
            last_at: request.received,
            compression,
        })?)
    }
}
