//! Rows of replayed dead letters as blocks of a slice.

use forebay_model::{BlockCompression, Mapping, Timestamp};
use forebay_record::{BlockEncoder, RejectedRow, SealedBlock, csv};

use super::error::DeadLetterError;
use forebay_ingest::pipeline::{BlockAppendError, BlockToAppend};

/// Bytes of rows at which a block of replayed rows is sealed.
pub(super) const BLOCK_BYTES: usize = 1 << 20;

/// Converts a row that its table rejected to the columns of the sink's table now.
pub(super) fn write_row(
    row: &RejectedRow,
    mapping: &Mapping,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    if !mapping.accepts_cells_of(row.columns.iter().map(|c| &c.content)) {
        return Err(
            "the row was made for other columns than the sink has now, and its record was not kept"
                .to_owned(),
        );
    }
    csv::write_row(row.cells.iter().map(|c| &c[..]), out);
    Ok(())
}

/// Collects rows into blocks.
pub(super) struct BlockBuilder {
    compression: BlockCompression,
    encoder: BlockEncoder,
    pub(super) rows: Vec<u8>,
    records: u32,
    times: Option<(Timestamp, Timestamp)>,
    finished: Vec<BlockToAppend>,
}

impl BlockBuilder {
    pub(super) fn new(compression: BlockCompression) -> Result<Self, DeadLetterError> {
        let encoder =
            BlockEncoder::new(compression).map_err(|e| DeadLetterError::Read(e.to_string()))?;
        Ok(Self {
            compression,
            encoder,
            rows: Vec::new(),
            records: 0,
            times: None,
            finished: Vec::new(),
        })
    }

    /// Counts a row that was written.
    pub(super) fn add_row(&mut self, at: Timestamp) -> Result<(), DeadLetterError> {
        self.records += 1;
        let (first, last) = self.times.unwrap_or((at, at));
        self.times = Some((first.min(at), last.max(at)));
        if self.rows.len() >= BLOCK_BYTES {
            self.seal()?;
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<(), DeadLetterError> {
        let Some((first_at, last_at)) = self.times.take() else {
            return Ok(());
        };
        let payload = self.encoder.encode(&self.rows);
        let payload = payload.map_err(|e| BlockAppendError::Other(e.to_string().into()))?;
        self.finished.push(BlockToAppend {
            sealed: SealedBlock {
                payload,
                raw_len: self.rows.len(),
                records: std::mem::take(&mut self.records),
            },
            first_at,
            last_at,
            compression: self.compression,
        });
        self.rows.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Vec<BlockToAppend>, DeadLetterError> {
        self.seal()?;
        Ok(self.finished)
    }
}
