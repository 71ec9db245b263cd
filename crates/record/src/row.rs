//! Compiled mappings, and rendering of records as rows.

use std::sync::Arc;

use forebay_model::{ByteSize, ColumnKind, Mapping, MappingColumn, PathUse};

use crate::cell_output::{BoundedOutput, CellOutput, CsvOutput};
use crate::context::RecordContext;
use crate::error::{ColumnError, RecordError, RecordErrorKind, TemplateError};
use crate::json::{JsonDocument, JsonKind, JsonNodeId, unescape};
use crate::jsonnet::{self, TemplateProgram};
use crate::path::{self, CompiledPath, PathMatches, PathSelection, PathSet};
use crate::usage::PathUseCounters;
use crate::uuid;

mod cell_source;

use cell_source::{CellForm, CellSource, MappingParts, list_violation};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowLimits {
    /// Maximum bytes of a CSV row, including its line end.
    pub row_size: ByteSize,
}

impl Default for RowLimits {
    /// 1536 KB per row, as in the reference service.
    fn default() -> Self {
        Self {
            row_size: ByteSize::kb(1536),
        }
    }
}

#[derive(Clone, Debug)]
pub struct CompiledMapping {
    columns: Vec<CompiledColumn>,
    paths: PathSet,
    has_path: bool,
    templates: Vec<Arc<TemplateProgram>>,
    /// Shared by all clones.
    usage: Arc<PathUseCounters>,
    row_max: usize,
    row_limit: ByteSize,
}

#[derive(Clone, Debug)]
struct CompiledColumn {
    name: String,
    cell: CellSource,
}

impl CompiledMapping {
    /// Compiles a mapping without [`Mapping::violations`].
    ///
    /// # Errors
    /// Every column with an invalid path or template.
    pub fn compile(mapping: &Mapping, limits: &RowLimits) -> Result<Self, Vec<ColumnError>> {
        let templates = mapping.columns.iter().filter_map(|c| match &c.kind {
            ColumnKind::Template(t) => Some(t.content.as_str()),
            _ => None,
        });
        let mut checked = jsonnet::check_all(templates.collect()).into_iter();
        let mut violation = |column: &MappingColumn| match &column.kind {
            ColumnKind::Template(_) => checked.next().flatten().map(|p| p.to_string()),
            ColumnKind::Path(path) => match CompiledPath::compile(&path.path) {
                Ok(compiled) => list_violation(column, &compiled),
                Err(e) => Some(e.to_string()),
            },
            _ => None,
        };
        let mut errors = Vec::new();
        for column in &mapping.columns {
            if let Some(message) = violation(column) {
                errors.push(ColumnError {
                    column: column.name.clone(),
                    kind: column.kind.type_name(),
                    message,
                });
            }
        }
        if errors.is_empty() {
            Ok(Self::compile_checked(mapping, limits))
        } else {
            Err(errors)
        }
    }

    /// Compiles a mapping that [`Self::compile`] accepted before it was stored. Templates are not
    /// checked again; an invalid template or path fails its records.
    pub fn compile_checked(mapping: &Mapping, limits: &RowLimits) -> Self {
        let mut parts = MappingParts::default();
        let columns = mapping.columns.iter();
        let columns = columns
            .map(|column| CompiledColumn {
                name: column.name.clone(),
                cell: parts.cell(column),
            })
            .collect();
        Self {
            columns,
            has_path: !parts.paths.is_empty(),
            paths: PathSet::new(&parts.paths),
            templates: parts.templates,
            usage: Arc::new(parts.usage),
            row_max: usize::try_from(limits.row_size.0).unwrap_or(usize::MAX),
            row_limit: limits.row_size,
        }
    }

    /// Counts of records in which paths found nothing.
    pub fn path_use(&self) -> PathUse {
        self.usage.report()
    }

    /// Whether a path can select many values, which takes more time.
    pub fn has_queries(&self) -> bool {
        self.paths.has_queries()
    }

    /// Programs of the template columns, in order. The caller evaluates them before
    /// [`Self::render`].
    pub fn templates(&self) -> &[Arc<TemplateProgram>] {
        &self.templates
    }

    pub fn column_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.columns.iter().map(|c| c.name.as_str())
    }

    /// Appends the record's row, with its line end, to `out`. `templates` has a result for each of
    /// [`Self::templates`]; `random` returns the bits of each UUID.
    ///
    /// # Errors
    /// The first column without a cell or above the row limit; `out` is then unchanged.
    pub fn render(
        &self,
        record: &RecordContext,
        templates: &[Result<impl AsRef<[u8]>, TemplateError>],
        random: &mut dyn FnMut() -> u128,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let start = out.len();
        let result = self.render_csv(record, templates, random, out, start);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn render_csv(
        &self,
        record: &RecordContext,
        templates: &[Result<impl AsRef<[u8]>, TemplateError>],
        random: &mut dyn FnMut() -> u128,
        out: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), RecordError> {
        let found = self.find_paths(record);
        for (i, column) in self.columns.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b"\"" } else { b",\"" });
            // Leaves space for the closing quote and the line end.
            let mut csv = CsvOutput {
                out,
                end: (start + self.row_max).saturating_sub(2),
                full: false,
            };
            self.cell(column, record, found.as_ref(), templates, random, &mut csv)?;
            if csv.full || csv.out.len() > csv.end {
                return Err(column.error(
                    RecordErrorKind::TooLarge,
                    format!("the CSV row is over the row size limit {}", self.row_limit),
                ));
            }
            out.push(b'"');
        }
        out.push(b'\n');
        Ok(())
    }

    /// The unescaped cells of the record's row, in the order of the columns.
    pub fn render_cells(
        &self,
        record: &RecordContext,
        templates: &[Result<impl AsRef<[u8]>, TemplateError>],
        random: &mut dyn FnMut() -> u128,
    ) -> Result<Vec<Vec<u8>>, RecordError> {
        // Checks the limit of the CSV row, so that a test of the mapping reports it.
        self.render(record, templates, random, &mut Vec::new())?;
        let found = self.find_paths(record);
        let columns = self.columns.iter();
        columns
            .map(|column| {
                let mut cell = Vec::new();
                self.cell(column, record, found.as_ref(), templates, random, &mut cell)?;
                Ok(cell)
            })
            .collect()
    }

    /// Calls `take` with the index and cell of each column, in order. Fails at the first column
    /// without a cell, or when the cells exceed the row limit.
    pub(crate) fn each_cell(
        &self,
        record: &RecordContext,
        templates: &[Result<impl AsRef<[u8]>, TemplateError>],
        random: &mut dyn FnMut() -> u128,
        mut take: impl FnMut(usize, Vec<u8>),
    ) -> Result<(), RecordError> {
        let found = self.find_paths(record);
        let mut size = 0;
        for (i, column) in self.columns.iter().enumerate() {
            let mut cell = BoundedOutput {
                out: Vec::new(),
                max: self.row_max.saturating_sub(size),
                full: false,
            };
            self.cell(column, record, found.as_ref(), templates, random, &mut cell)?;
            size += cell.out.len();
            if cell.full || size > self.row_max {
                return Err(column.error(
                    RecordErrorKind::TooLarge,
                    format!("the message is over the size limit {}", self.row_limit),
                ));
            }
            take(i, cell.out);
        }
        Ok(())
    }

    fn find_paths<'a>(&self, record: &'a RecordContext) -> Option<(&'a JsonDocument, PathMatches)> {
        if !self.has_path {
            return None;
        }
        let document = record.document().ok()?;
        self.usage.count_record(record.request().received);
        Some((document, self.paths.find(document)))
    }

    fn cell(
        &self,
        column: &CompiledColumn,
        record: &RecordContext,
        found: Option<&(&JsonDocument, PathMatches)>,
        templates: &[Result<impl AsRef<[u8]>, TemplateError>],
        random: &mut dyn FnMut() -> u128,
        out: &mut impl CellOutput,
    ) -> Result<(), RecordError> {
        let request = record.request();
        match &column.cell {
            CellSource::Uuid => out.plain(&uuid::v7(request.received, random())),
            CellSource::Datetime => out.plain(request.received.to_string().as_bytes()),
            CellSource::Ip => out.plain(request.client_ip.to_canonical().to_string().as_bytes()),
            CellSource::Body => out.push(record.body()),
            CellSource::Headers => out.push(request.headers.json()),
            CellSource::Static(value) => out.push(value),
            CellSource::Template(i) => out.push(column.result(templates, *i)?),
            CellSource::TypedTemplate(i, cells) => {
                let result = column.result(templates, *i)?;
                let written = cells.write_json(result, out);
                written.map_err(|mismatch| {
                    let message = cells.message("the template", &mismatch);
                    column.error(RecordErrorKind::InvalidType, message)
                })?;
            }
            CellSource::Path { .. } => return self.path_cell(column, record, found, out),
            CellSource::Broken(message) => {
                return Err(column.error(RecordErrorKind::PathNotFound, message.clone()));
            }
        }
        Ok(())
    }

    fn path_cell(
        &self,
        column: &CompiledColumn,
        record: &RecordContext,
        found: Option<&(&JsonDocument, PathMatches)>,
        out: &mut impl CellOutput,
    ) -> Result<(), RecordError> {
        let CellSource::Path {
            slot,
            path,
            default,
            form,
            counted,
        } = &column.cell
        else {
            return Ok(());
        };
        let Some((document, found)) = found else {
            return Err(column.body_error(record));
        };
        let selection = self.paths.get(found, *slot).map_err(|error| {
            let message = format!("path \"{path}\" {error}");
            column.error(RecordErrorKind::PathLimit, message)
        })?;
        if let (Some(counted), PathSelection::One(_) | PathSelection::Many(_)) =
            (counted, selection)
        {
            self.usage.mark_found(*counted);
        }
        match selection {
            PathSelection::One(value) => match form {
                CellForm::Raw => write_value(document, value, true, out),
                CellForm::Json => write_value(document, value, false, out),
                CellForm::Typed(cells) => {
                    let written = cells.write(document, value, out);
                    written.map_err(|mismatch| {
                        let message = cells.message("the record", &mismatch);
                        column.error(RecordErrorKind::InvalidType, message)
                    })?;
                }
            },
            PathSelection::Many(values) => path::list(document, values, |part| out.push(part)),
            PathSelection::Nothing => {
                if let Some(counted) = counted {
                    self.usage.count_missed(*counted);
                }
                match default {
                    Some(default) => out.push(default),
                    None => {
                        let note = crate::context::not_found_hint(record);
                        let message = format!("path \"{path}\" not found in the body{note}");
                        return Err(column.error(RecordErrorKind::PathNotFound, message));
                    }
                }
            }
        }
        Ok(())
    }
}

impl CompiledColumn {
    /// Result of the template at an index.
    fn result<'a>(
        &self,
        templates: &'a [Result<impl AsRef<[u8]>, TemplateError>],
        index: usize,
    ) -> Result<&'a [u8], RecordError> {
        match templates.get(index) {
            Some(Ok(text)) => Ok(text.as_ref()),
            Some(Err(e)) => Err(self.error(e.kind, e.message.clone())),
            None => {
                let message = "the template was not evaluated".to_owned();
                Err(self.error(RecordErrorKind::Unavailable, message))
            }
        }
    }

    fn error(&self, kind: RecordErrorKind, message: String) -> RecordError {
        RecordError {
            column: self.name.clone(),
            kind,
            message,
        }
    }

    fn body_error(&self, record: &RecordContext) -> RecordError {
        match record.document() {
            Err(e) => self.error(e.kind(), e.to_string()),
            // Unreachable: called only after a failed parse.
            Ok(_) => self.error(RecordErrorKind::Body, "the body has no parts".to_owned()),
        }
    }
}

/// Writes a value as compact JSON, or a string as its text if `raw`.
fn write_value(document: &JsonDocument, value: JsonNodeId, raw: bool, out: &mut impl CellOutput) {
    if raw && document.kind(value) == JsonKind::String {
        match document.string(value) {
            (text, false) => out.push(text),
            (text, true) => unescape(text, |part| out.push(part)),
        }
    } else {
        document.compact(value, |part| out.push(part));
    }
}
