//! Rows of replayed dead letters.

use forebay_model::{BlockCompression, File, Mapping, ReplayedRow, Timestamp};
use forebay_record::{CompiledMapping, DeadLetter, RandomBits, RecordContext, RowLimits};

use super::block_builder::{BlockBuilder, write_row};
use super::error::DeadLetterError;
use super::reader::StoredDeadLetter;
use forebay_ingest::pipeline::BlockToAppend;
use forebay_ingest::template::{TemplatePool, TemplateResult};

/// Maximum rows that a dry run returns.
const ROWS_MAX: usize = 20;

/// Mapping of a replay.
pub(super) struct ReplayMapping<'f> {
    compiled: CompiledMapping,
    columns: &'f Mapping,
    compression: BlockCompression,
    /// Evaluates templates; without it dead letters that need templates stay.
    templates: Option<&'f TemplatePool>,
    /// Source of the bits of UUIDs.
    random: &'f RandomBits,
    /// Whether rows are returned.
    shows_rows: bool,
}

/// Rows of dead letters, as blocks.
pub(super) struct RenderedDeadLetters {
    pub(super) blocks: Vec<BlockToAppend>,
    pub(super) dead_letters: Vec<u64>,
    pub(super) rejected: Vec<(u64, String)>,
    /// Rows of the first ones, if the mapping returns them.
    pub(super) rows: Vec<ReplayedRow>,
}

impl<'f> ReplayMapping<'f> {
    /// The mapping of the sink's open file.
    pub(super) fn new(
        file: &'f File,
        limits: &RowLimits,
        (templates, random): (Option<&'f TemplatePool>, &'f RandomBits),
        shows_rows: bool,
    ) -> Self {
        Self {
            compiled: CompiledMapping::compile_checked(&file.table.mapping, limits),
            columns: &file.table.mapping,
            compression: file.settings.compression(),
            templates,
            random,
            shows_rows,
        }
    }

    pub(super) async fn render(
        &self,
        kept: &[StoredDeadLetter<DeadLetter>],
    ) -> Result<RenderedDeadLetters, DeadLetterError> {
        let of_records = kept.iter().filter(|k| k.dead_letter.row.is_none());
        let records: Vec<RecordContext> = of_records.map(|k| k.dead_letter.record()).collect();
        let templates = self.compiled.templates();
        let cells = match self.templates {
            Some(pool) => pool.evaluate_batch(templates, &records).await,
            None => Vec::new(),
        };
        let mut blocks = BlockBuilder::new(self.compression)?;
        let (mut dead_letters, mut rejected, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        let mut records = records.iter().zip(0..);
        for kept in kept {
            let record = match &kept.dead_letter.row {
                Some(_) => None,
                None => records.next(),
            };
            let cells = record.and_then(|(_, i): (_, usize)| cells.get(i));
            let cells = cells.map(Vec::as_slice).unwrap_or_default();
            let record = record.map(|(record, _)| record);
            let rendered = self.render_one(&kept.dead_letter, record, cells, &mut blocks.rows);
            match rendered {
                Ok(received) => {
                    if self.shows_rows && rows.len() < ROWS_MAX {
                        rows.push(ReplayedRow {
                            id: kept.number,
                            cells: self.cells(&kept.dead_letter, record, cells),
                        });
                    }
                    dead_letters.push(kept.number);
                    blocks.add_row(received)?;
                }
                Err(error) => rejected.push((kept.number, error)),
            }
        }
        Ok(RenderedDeadLetters {
            blocks: blocks.finish()?,
            dead_letters,
            rejected,
            rows,
        })
    }

    /// Appends the row of a dead letter; returns when its record was received.
    fn render_one(
        &self,
        dead_letter: &DeadLetter,
        record: Option<&RecordContext>,
        cells: &[TemplateResult],
        out: &mut Vec<u8>,
    ) -> Result<Timestamp, String> {
        match (&dead_letter.row, record) {
            (Some(row), _) => write_row(row, self.columns, out)?,
            (None, Some(record)) => {
                let mut random = || (self.random)();
                let rendered = self.compiled.render(record, cells, &mut random, out);
                rendered.map_err(|e| e.to_string())?;
            }
            (None, None) => return Err("its record is missing".to_owned()),
        }
        Ok(dead_letter.request.received)
    }

    /// The cells of a row, by the names of their columns.
    fn cells(
        &self,
        dead_letter: &DeadLetter,
        record: Option<&RecordContext>,
        templates: &[TemplateResult],
    ) -> Vec<(String, Vec<u8>)> {
        let cells = match (&dead_letter.row, record) {
            (Some(row), _) => row.cells.iter().map(|c| c.to_vec()).collect(),
            (None, Some(record)) => {
                let mut random = || (self.random)();
                let cells = self.compiled.render_cells(record, templates, &mut random);
                // It was rendered a moment ago.
                cells.unwrap_or_default()
            }
            (None, None) => Vec::new(),
        };
        let names = self.compiled.column_names().map(str::to_owned);
        names.zip(cells).collect()
    }
}
