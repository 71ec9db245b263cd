//! Appends rejected records to the dead letters: those of each request at once, in a separate
//! block. They are rare, so they are not collected over requests.

use std::sync::Arc;

use forebay_model::{ByteSize, SinkKey};
use forebay_record::dead_letter::encode_block;
use forebay_record::{DeadLetter, RequestInfo, SealedBlock};

use super::{Appender, BlockAppendError, BlockStream, BlockTicket, BlockToAppend, Pipeline};

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
}

impl Pipeline {
    /// Whether rejected records are kept.
    pub(crate) fn keeps_rejected(&self) -> bool {
        self.dead_letters.is_some()
    }

    /// Appends the dead letters of one request: all of them or none. The ticket resolves with their
    /// outcome.
    pub(crate) fn append_dead_letters(
        &self,
        request: &RequestInfo,
        dead_letters: &[DeadLetter],
    ) -> Result<BlockTicket, DeadLetterAppendError> {
        let writer = self.dead_letters.as_ref().ok_or(BlockAppendError::Closed)?;
        if writer.appender.dead_letter_bytes(&writer.sink) >= writer.max.0 {
            return Err(DeadLetterAppendError::Full(writer.max));
        }
        let raw = encode_block(request, dead_letters);
        let raw = raw.map_err(|e| BlockAppendError::Other(e.to_string().into()))?;
        let encoders = &self.shared.encoders;
        let payload = encoders.take(self.compression).and_then(|mut encoder| {
            let payload = encoder.encode(&raw)?;
            encoders.put(self.compression, encoder);
            Ok(payload)
        });
        let payload = payload.map_err(|e| BlockAppendError::Other(e.to_string().into()))?;
        let records = u32::try_from(dead_letters.len())
            .map_err(|_| BlockAppendError::TooLarge("too many records".into()))?;
        Ok(writer.stream.append(BlockToAppend {
            sealed: SealedBlock {
                payload,
                raw_len: raw.len(),
                records,
            },
            first_at: request.received,
            last_at: request.received,
            compression: self.compression,
        })?)
    }
}
