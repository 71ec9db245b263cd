//! Records of a request.

use forebay_model::Timestamp;
use forebay_record::RecordContext;

use crate::memory_limiter::MemoryPermit;

/// Records of a request, with their share of the memory limit.
#[derive(Debug)]
pub struct RecordBatch {
    /// In request order.
    pub records: Vec<RecordContext>,
    /// Ascending indices of malformed records, which no sink gets.
    pub broken: Vec<usize>,
    /// Released when the rows are in blocks, which hold their own permits.
    pub memory_permit: MemoryPermit,
}

impl RecordBatch {
    pub(super) fn received(&self) -> Timestamp {
        let first = self.records.first();
        first.map_or(Timestamp::from_millis(0), |r| r.request().received)
    }

    /// Valid records with their indices.
    pub(super) fn valid_records(&self) -> impl Iterator<Item = (usize, &RecordContext)> {
        let all = self.records.iter().enumerate();
        all.filter(|(i, _)| self.broken.is_empty() || self.broken.binary_search(i).is_err())
    }
}
