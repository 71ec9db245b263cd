//! Sources of cells, compiled from the columns of a mapping.

use std::sync::Arc;

use forebay_model::{ColumnKind, DataType, InvalidValue, MappingColumn, PathColumn};

use crate::jsonnet::TemplateProgram;
use crate::path::CompiledPath;
use crate::typed::TypedCells;
use crate::usage::PathUseCounters;

#[derive(Clone, Debug)]
pub(super) enum CellSource {
    Uuid,
    Datetime,
    Ip,
    Body,
    Headers,
    Path {
        /// Index in the path set.
        slot: usize,
        path: String,
        /// The cell when the path is missing.
        default: Option<Vec<u8>>,
        form: CellForm,
        /// Index in the usage counters, if the path has a default.
        counted: Option<usize>,
    },
    /// An invalid path or constant and its error; the API rejects such mappings.
    Broken(String),
    /// Index in the mapping's templates.
    Template(usize),
    TypedTemplate(usize, TypedCells),
    Static(Vec<u8>),
}

/// Conversion of a value of the body to a cell.
#[derive(Clone, Copy, Debug)]
pub(super) enum CellForm {
    /// JSON, and a string as its text.
    Raw,
    Json,
    Typed(TypedCells),
}

/// Paths, templates and counters of a mapping under compilation.
#[derive(Default)]
pub(super) struct MappingParts {
    pub(super) paths: Vec<CompiledPath>,
    pub(super) templates: Vec<Arc<TemplateProgram>>,
    pub(super) usage: PathUseCounters,
}

impl MappingParts {
    pub(super) fn cell(&mut self, column: &MappingColumn) -> CellSource {
        let typed = match column.data_type {
            DataType::Text => None,
            _ => Some(TypedCells(column.conversion())),
        };
        match &column.kind {
            ColumnKind::Uuid => CellSource::Uuid,
            // The text is that of a timestamp.
            ColumnKind::Datetime => CellSource::Datetime,
            ColumnKind::Ip => CellSource::Ip,
            ColumnKind::Body if typed.is_some() => self.path(column, &PathColumn::default()),
            ColumnKind::Body => CellSource::Body,
            ColumnKind::Headers => CellSource::Headers,
            ColumnKind::Static { value } => match typed.map(|cells| cells.constant(value)) {
                None => CellSource::Static(value.clone().into_bytes()),
                Some(Ok(cell)) => CellSource::Static(cell),
                Some(Err(allowed)) => CellSource::Broken(invalid_constant(value, &allowed)),
            },
            ColumnKind::Template(template) => {
                let is_raw = template.raw_string && typed.is_none();
                let template = TemplateProgram::new(&template.content, is_raw);
                self.templates.push(Arc::new(template));
                let index = self.templates.len() - 1;
                match typed {
                    None => CellSource::Template(index),
                    Some(cells) => CellSource::TypedTemplate(index, cells),
                }
            }
            ColumnKind::Path(path) => self.path(column, path),
        }
    }

    fn path(&mut self, column: &MappingColumn, from: &PathColumn) -> CellSource {
        let path = match CompiledPath::compile(&from.path) {
            Ok(path) => path,
            Err(error) => {
                return CellSource::Broken(format!("path \"{}\" is invalid: {error}", from.path));
            }
        };
        let form = match (column.data_type, from.raw_string) {
            (DataType::Text, true) => CellForm::Raw,
            (DataType::Text, false) => CellForm::Json,
            _ => CellForm::Typed(TypedCells(column.conversion())),
        };
        let default = match from.default_value.as_deref().map(|text| form.default(text)) {
            None => None,
            Some(Ok(cell)) => Some(cell),
            Some(Err(broken)) => return CellSource::Broken(broken),
        };
        // A query without a match selects an empty list.
        let empty = (!path.is_singular()).then(|| b"[]".to_vec());
        let default = default.or(empty);
        let counted = default.is_some();
        self.paths.push(path);
        CellSource::Path {
            slot: self.paths.len() - 1,
            path: from.path.clone(),
            default,
            form,
            counted: counted.then(|| self.usage.add(&column.name, &from.path)),
        }
    }
}

impl CellForm {
    /// The cell of a default, or why there is none.
    fn default(self, text: &str) -> Result<Vec<u8>, String> {
        match self {
            Self::Raw => Ok(text.as_bytes().to_vec()),
            Self::Json => {
                let mut quoted = Vec::new();
                crate::json::write_string(text, &mut quoted);
                Ok(quoted)
            }
            Self::Typed(cells) => {
                let cell = cells.constant(text);
                cell.map_err(|allowed| invalid_constant(text, &allowed))
            }
        }
    }
}

fn invalid_constant(text: &str, allowed: &InvalidValue) -> String {
    let text = forebay_model::words::short(text);
    format!("\"{text}\" is not of the column's type, allowed is {allowed}")
}

/// Violation of a column whose type can't hold the list that its path returns.
pub(super) fn list_violation(column: &MappingColumn, path: &CompiledPath) -> Option<String> {
    let holds_list = matches!(column.data_type, DataType::Text | DataType::Json);
    let data_type = column.data_type;
    (!path.is_singular() && !holds_list).then(|| {
        format!(
            "it can select many values and the dataType is {data_type}: use json or text, for their list, or a path of keys and indices"
        )
    })
}
