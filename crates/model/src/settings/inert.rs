//! Settings without effect.

use crate::units::ByteSize;

/// Settings of the compatible API for features that Forebay does not have: configured, stored and
/// shown like all others, so that its clients can set them. Nothing reads them.
#[derive(Clone, Debug, PartialEq)]
pub struct InertSettings {
    pub(super) gzip_implementation: String,
    pub(super) gzip_concurrency: u64,
    pub(super) encoder_type: String,
    pub(super) encoder_concurrency: u64,
    pub(super) input_buffer: ByteSize,
    pub(super) max_chunk_size: ByteSize,
    pub(super) failed_chunks_threshold: u64,
    pub(super) assignment_count: u64,
    pub(super) preferred_types: Vec<String>,
}

impl Default for InertSettings {
    fn default() -> Self {
        Self {
            gzip_implementation: "parallel".to_owned(),
            gzip_concurrency: 0,
            encoder_type: "csv".to_owned(),
            encoder_concurrency: 0,
            input_buffer: ByteSize::mb(2),
            max_chunk_size: ByteSize::kb(512),
            failed_chunks_threshold: 3,
            assignment_count: 1,
            preferred_types: vec!["default".to_owned()],
        }
    }
}
